"""Time until a help page, the version or the first pixel, beside that of Python and of torch.

    python -m benchmarks.startup
    python -m benchmarks.startup --rounds 9 --models upscale-x4-fast

Each run is a process of its own, and the commands alternate. A round before the measured ones lets
Python write bytecode. The table has medians of the processor time, which other processes disturb
less than the clock, and ratios: to Python alone, and to `import torch` plus what the network itself
takes for the image in a process that has computed it before.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2

ROOT = Path(__file__).parents[1]
SIDE = 64
PYTHON, TORCH = "python -c pass", "import torch"

NETWORK = """
import sys, time, cv2
from upscale.engine.upscaler import Upscaler
image = cv2.cvtColor(cv2.imread(sys.argv[2]), cv2.COLOR_BGR2RGB)
upscaler = Upscaler(sys.argv[1], device="cpu")
upscaler.upscale(image)
start = time.process_time()
upscaler.upscale(image)
print(time.process_time() - start)
"""
"""Prints the processor time of a network."""


def commands(image: Path, output: Path, models: Sequence[str]) -> dict[str, list[str]]:
    """Return the command lines to measure by their titles."""
    program = [sys.executable, "-m", "upscale"]
    lines = [["--version"], ["--help"], ["video", "--help"], ["eval", "files", "--help"]]
    options = ["--overwrite", "--quiet", "--device", "cpu"]
    upscaling = {
        f"first pixel, {name}": [*program, str(image), "-o", str(output), *options, "-n", name]
        for name in models
    }
    return {
        PYTHON: [sys.executable, "-c", "pass"],
        TORCH: [sys.executable, "-c", "import torch"],
        **{f"upscale {' '.join(line)}": [*program, *line] for line in lines},
        **upscaling,
    }


def processor_seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Run a command and return its processor time in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def medians(measures: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Return the median of each measure; the first of `rounds` + 1 rounds warms up."""
    seconds = [{name: measure() for name, measure in measures.items()} for _ in range(rounds + 1)]
    return {name: statistics.median(each[name] for each in seconds[1:]) for name in measures}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--models", nargs="*", default=["realesrgan-x4plus", "upscale-x4-fast", "auto"]
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = folder / "small.png"
        photo = cv2.imread(str(ROOT / "examples" / "kitten.jpg"))
        assert photo is not None
        cv2.imwrite(str(image), photo[100 : 100 + SIDE, 100 : 100 + SIDE])
        environment = dict(os.environ)
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        lines = commands(image, folder / "large.png", arguments.models)
        seconds = medians(
            {
                title: lambda line=line: processor_seconds(line, environment)
                for title, line in lines.items()
            },
            arguments.rounds,
        )
        print(f"Processor time, median of {arguments.rounds} runs; image of {SIDE}x{SIDE}\n")
        print("| command | seconds | ratio |")
        print("|---|---|---|")
        for title, value in seconds.items():
            ratio = f"{value / seconds[PYTHON]:.1f} x python"
            if title.startswith("first pixel") and not title.endswith("auto"):
                network = _network_seconds(title.rpartition(" ")[2], image, environment)
                ratio = (
                    f"{value / (seconds[TORCH] + network):.2f} x (torch + network {network:.3f} s)"
                )
            elif title.startswith("first pixel"):
                ratio = f"{value / seconds[TORCH]:.2f} x torch"
            print(f"| {title} | {value:.3f} | {ratio} |")


def _network_seconds(model: str, image: Path, environment: Mapping[str, str]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", NETWORK, model, str(image)],
        env=environment, capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    return float(done.stdout)


if __name__ == "__main__":
    main()
