"""Us, the official padded-tile loop and spandrel's network on the same pictures, in turn.

    python -m benchmarks.images                                  # the bundled example
    python -m benchmarks.images photo.png other.png --tile 128 --rounds 5

Each run is a process of its own, warmed up on a small picture; the contenders alternate, so that a
machine that slows down slows all of them. Seam error is the largest difference, in levels of 255,
to the same network on the whole picture.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.peers import (
    PeerMissingError,
    official_network,
    padded_tiles,
    spandrel_network,
    to_levels,
)
from upscale import Upscaler
from upscale.engine.loading import load_model

ROOT = Path(__file__).parents[1]
CONTENDERS = ("ours", "official", "spandrel", "spandrel-nchw")
MODEL = "realesrgan-x4plus"


def contender(name: str, tile: int) -> Callable[[np.ndarray], np.ndarray]:
    """The way from an (H, W, 3) uint8 picture to a four times larger one."""
    model = load_model(MODEL)
    if name == "ours":
        return Upscaler(model, device="cpu", precision="fp32", tile=tile).upscale
    state = model.network.state_dict()
    layout = torch.contiguous_format if name == "spandrel-nchw" else torch.channels_last
    if name == "official":
        official, layout = official_network(state, blocks=23), torch.contiguous_format
        network = lambda x: padded_tiles(official, x, tile)  # noqa: E731
    else:
        network = spandrel_network(state).to(memory_format=layout)

    def run(picture: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            tensor = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
            return to_levels(network(tensor.contiguous(memory_format=layout))).numpy()

    return run


def work(name: str, picture: Path, tile: int, result: Path) -> None:
    """One measured run in this process."""
    try:
        upscale = contender(name, tile)
    except PeerMissingError as error:
        print(json.dumps({"missing": str(error)}))
        return
    pixels = cv2.imread(str(picture))[:, :, ::-1].copy()
    upscale(pixels[:32, :32].copy())
    started = time.perf_counter()
    large = upscale(pixels)
    seconds = time.perf_counter() - started
    np.save(result, large)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    megapixels = large.shape[0] * large.shape[1] / 1e6
    print(json.dumps({"seconds": seconds / megapixels, "peak": peak}))


def measure(picture: Path, tile: int, rounds: int, folder: Path) -> dict[str, list[dict]]:
    """Every contender's runs, in turn."""
    runs: dict[str, list[dict]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name in CONTENDERS:
            command = [sys.executable, "-m", "benchmarks.images", str(picture)]
            command += ["--worker", name, "--tile", str(tile), "--result", str(folder / name)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout
            runs[name].append(json.loads(output))
    return runs


def report(picture: Path, tile: int, runs: dict[str, list[dict]], folder: Path) -> None:
    """Print one picture's table."""
    whole = next(
        (
            np.load(folder / f"{name}.npy")
            for name in ("spandrel", "spandrel-nchw")
            if (folder / f"{name}.npy").exists()
        ),
        None,
    )
    whole = whole_picture(picture) if whole is None else whole
    fastest = min(
        (
            statistics.median(run["seconds"] for run in found)
            for name, found in runs.items()
            if name != "ours" and "missing" not in found[0]
        ),
        default=float("nan"),
    )
    print(f"\n{picture.name}, tile {tile}, {len(runs['ours'])} rounds")
    print("| contender | s / output Mpx | min-max | peak MiB | seam error | fastest peer / it |")
    print("|---|---|---|---|---|---|")
    for name, found in runs.items():
        if "missing" in found[0]:
            print(f"| {name} | not run: {found[0]['missing']} | | | | |")
            continue
        seconds = [run["seconds"] for run in found]
        median, peak = statistics.median(seconds), max(run["peak"] for run in found)
        levels = np.abs(np.load(folder / f"{name}.npy").astype(int) - whole)
        print(
            f"| {name} | {median:.2f} | {min(seconds):.2f}-{max(seconds):.2f} | {peak:.0f} "
            f"| {levels.max()} ({(levels > 0).mean():.4%} differ) | {fastest / median:.2f} |"
        )


def whole_picture(picture: Path) -> np.ndarray:
    """Our network without tiles, where spandrel's is not at hand."""
    return contender("ours", 0)(cv2.imread(str(picture))[:, :, ::-1].copy())


def main() -> None:
    """Measure every picture given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="*", type=Path, default=[ROOT / "examples/kitten.jpg"])
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.pictures[0], arguments.tile, arguments.result)
        return
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"torch {torch.__version__}, {MODEL}, fp32"
    )
    for picture in arguments.pictures:
        with tempfile.TemporaryDirectory() as folder:
            runs = measure(picture.resolve(), arguments.tile, arguments.rounds, Path(folder))
            report(picture, arguments.tile, runs, Path(folder))


if __name__ == "__main__":
    main()
