"""Peak resident memory by image and tile size, compared with the plan.

    python -m benchmarks.memory                      # a table of small runs
    python -m benchmarks.memory --image 4000x3000    # one run on a 12-megapixel image

Each run is a process of its own, on the CPU in fp32, so that its peak is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from upscale import load_model
from upscale.engine.memory import minimum_tile_for
from upscale.engine.upscaler import Upscaler
from upscale.tiling.schedule import plan

EXAMPLE = Path(__file__).parents[1] / "examples" / "kitten.jpg"
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Case:
    """One run: an image of width x height, upscaled by a model in tiles."""

    width: int
    height: int
    tile: str
    model: str


TABLE = [
    Case(width, height, tile, "realesr-animevideov3")
    for width, height in ((512, 512), (1024, 512), (1024, 2048))
    for tile in ("64", "256", "0")
] + [Case(width, 256, "64", "realesrgan-x4plus") for width in (256, 1024)]


def run_here(case: Case) -> dict[str, float]:
    """Run a case in this process; sizes in MiB."""
    model = load_model(case.model)
    tile = int(case.tile) if case.tile.isdigit() else "auto"
    upscaler = Upscaler(model, device="cpu", tile=tile)
    upscaler.upscale(np.zeros((16, 16, 3), np.uint8))
    image = cv2.resize(cv2.imread(str(EXAMPLE)), (case.width, case.height))
    before = peak()
    started = time.perf_counter()
    result = upscaler.run(image)
    groups = model.network_on(torch.device("cpu"), torch.float32).layer_groups(fine=True)
    side = result.report.tile or max(case.width, case.height)
    minimum = minimum_tile_for(torch.device("cpu"))
    planned = plan(groups, case.height, case.width, side, minimum)
    return {
        "before": before,
        "peak": peak(),
        "planned": planned.values * 4 / MEBIBYTE + result.pixels.nbytes / MEBIBYTE,
        "tile": result.report.tile,
        "seconds": time.perf_counter() - started,
    }


def peak() -> float:
    """Return the peak resident memory of this process in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEBIBYTE


def run_apart(case: Case) -> dict[str, float]:
    """Run a case in a process of its own."""
    command = [sys.executable, __file__, "--worker", json.dumps(case.__dict__)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    """Measure the table, or one large photograph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--image", metavar="WIDTHxHEIGHT")
    parser.add_argument("--tile", default="auto")
    parser.add_argument("--model", default="realesrgan-x4plus")
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(run_here(Case(**json.loads(arguments.worker)))))
        return
    cases = TABLE
    if arguments.image:
        width, height = map(int, arguments.image.split("x"))
        cases = [Case(width, height, arguments.tile, arguments.model)]
    print("| model | image | tile | used MiB | planned MiB | peak of process MiB | seconds |")
    print("|---|---|---|---|---|---|---|")
    for case in cases:
        run = run_apart(case)
        print(
            f"| {case.model} | {case.width}x{case.height} | {run['tile']:.0f} "
            f"| {run['peak'] - run['before']:.0f} | {run['planned']:.0f} "
            f"| {run['peak']:.0f} | {run['seconds']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
