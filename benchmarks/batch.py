"""Memory and time of batches of many small images; memory must not grow with their number.

    python -m benchmarks.batch                                       # repeats pixels, no network
    python -m benchmarks.batch --network realesr-animevideov3 --counts 100 1000

Each batch runs in its own process. Without a network, the time is the overhead of an image:
finding, planning, reading, writing (including fsync) and reporting.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

from upscale.cli import image_batch
from upscale.cli.session import Session
from upscale.jobs import ModelInfo, make_plan
from upscale.options import EngineOptions, Options, OutputOptions, ReportOptions, RunOptions

COUNTS = (100, 1_000, 10_000)
WIDTH, HEIGHT = 32, 24
SCALE = 4


class Repeater:
    """Stand-in for the engine that repeats pixels, which takes almost no time."""

    def run(self, array: np.ndarray, *, progress: Callable, **_: object) -> SimpleNamespace:
        """Upscale (H, W, C) by SCALE and report one tile."""
        pixels = array.repeat(SCALE, 0).repeat(SCALE, 1)
        progress(SimpleNamespace(done=1, total=1))
        report = SimpleNamespace(
            model="repeat",
            tile=0,
            device="cpu",
            precision="fp32",
            convolutions="none",
            resize=None,
        )
        return SimpleNamespace(pixels=pixels, report=report)


def make_images(folder: Path, count: int) -> None:
    """Write `count` small PNG files of different noise."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        pixels = generator.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number:05}.png"), pixels)


def run_batch(folder: Path, jobs: int, network: str | None) -> None:
    """Run and measure one batch in this process; print a JSON object."""
    source, target = str(folder / "in"), f"{folder / 'out'}/"
    options = Options(
        engine=EngineOptions(model=network or "repeat"),
        output=OutputOptions(output=target),
        run=RunOptions(jobs=jobs),
        report=ReportOptions(json=True, quiet=True),
    )
    facts = ModelInfo(options.engine.model, SCALE)
    if network is None:
        image_batch.make_upscaler = lambda engine, view: Repeater()
        image_batch.find_model_info = lambda model, needs_scale: facts
    out = io.TextIOWrapper(io.BytesIO())
    session = Session(io.BytesIO(), out, sys.stderr, {})
    before = peak()
    started = time.perf_counter()
    make_plan([source], options, facts, lambda: b"")
    planned = time.perf_counter()
    code = image_batch.upscale_images(session, [source], options)
    ended = time.perf_counter()
    lines = out.buffer.getvalue().splitlines()
    assert code == 0
    assert all(json.loads(line)["status"] == "done" for line in lines)
    assert len(list(Path(target).iterdir())) == len(lines)
    print(
        json.dumps(
            {
                "files": len(lines),
                "planning": planned - started,
                "total": ended - planned,
                "before": before,
                "peak": peak(),
            }
        )
    )


def peak() -> float:
    """Peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(count: int, jobs: int, network: str | None) -> dict[str, float]:
    """Run a batch of `count` images in another process."""
    with tempfile.TemporaryDirectory() as name:
        make_images(Path(name) / "in", count)
        command = [sys.executable, "-m", "benchmarks.batch", "--work", name, "--jobs", str(jobs)]
        command += ["--network", network] if network else []
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    """Print a table with a row for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--network", help="name of a network; without it, pixels are repeated")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        run_batch(arguments.work, arguments.jobs, arguments.network)
        return
    print("| images | planning s | total s | ms per image | MiB before | peak MiB |")
    print("|---|---|---|---|---|---|")
    for count in arguments.counts:
        row = measure(count, arguments.jobs, arguments.network)
        each = row["total"] / row["files"] * 1000
        print(
            f"| {row['files']} | {row['planning']:.2f} | {row['total']:.1f} | {each:.2f} "
            f"| {row['before']:.0f} | {row['peak']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
