"""Comparison with other programs on the same images and cores.

    python -m benchmarks.images                                  # the bundled example
    python -m benchmarks.images photo.png other.png --tile 64 128 --rounds 5
    python -m benchmarks.images --only ours torch openvino
    python -m benchmarks.images frame.png --model realesr-animevideov3 --tile 0

Each run is a process of its own with a warm-up run. The contenders alternate, so that changes in
the machine's speed affect all of them. Peak FLOP/s are measured first. Operations are counted for
direct convolution, so that an algorithm with fewer operations can exceed the peak. The error is the
largest difference from the whole image in torch, in levels of 255.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch

from benchmarks.official import official_network
from benchmarks.peers import (
    Network,
    PeerMissingError,
    ncnn_network,
    onnxruntime_network,
    openvino_network,
    padded_tiles,
    spandrel_network,
    to_levels,
)
from upscale import load_model
from upscale.engine.upscaler import Upscaler
from upscale.jobs import benchmark
from upscale.jobs.benchmark import PeakRates, measure_peak_rates
from upscale.models import Network as BuiltIn

ROOT = Path(__file__).parents[1]
REFERENCE = "torch"
PEERS = (REFERENCE, "official", "spandrel", "ncnn", "openvino", "onnxruntime")
"""Contenders in fp32."""

CONTENDERS = ("ours", "ours-tiled", "ours-plain", "ours-bf16", *PEERS, "openvino-bf16")
"""All contenders. Ours uses the automatic tile, except for `ours-tiled`, which runs with each
`--tile`; `ours-plain` runs without compiled kernels."""


def contender(
    name: str, model: str, tile: int, height: int, width: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from a (height, width, 3) uint8 image to the upscaled image."""
    if name.startswith("ours"):
        precision = "bf16" if name == "ours-bf16" else "fp32"
        kernels = name != "ours-plain"
        side = tile if name.startswith("ours-tiled") else "auto"
        ours = Upscaler(model, device="cpu", precision=precision, tile=side, kernels=kernels)
        return ours.upscale
    network = peer(name, model, tile, height, width)
    layout = torch.channels_last if name in {REFERENCE, "spandrel"} else torch.contiguous_format

    def run(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
            return to_levels(network(tensor.contiguous(memory_format=layout))).numpy()

    return run


def peer(name: str, model: str, tile: int, height: int, width: int) -> Network:
    """Somebody else's network, or ours without the tile engine, for images of one size."""
    loaded = load_model(model)
    plain = cast("BuiltIn[Any]", loaded.network)
    if name == "ncnn":
        return ncnn_network(plain)
    if name.startswith("openvino"):
        return openvino_network(plain, height, width, "f32" if name in PEERS else "bf16")
    if name == "onnxruntime":
        return onnxruntime_network(plain, height, width)
    if name == "official":
        official = official_network(loaded, "cpu", torch.float32)
        return lambda image: padded_tiles(official, image, tile, scale=loaded.scale)
    eager = plain if name == REFERENCE else spandrel_network(plain.state_dict())
    return eager.to(memory_format=torch.channels_last)


def work(name: str, model: str, image: Path, tile: int, result: Path) -> None:
    """One measured run in this process."""
    pixels = cv2.imread(str(image))[:, :, ::-1].copy()
    try:
        upscale = contender(name, model, tile, *pixels.shape[:2])
    except PeerMissingError as error:
        print(json.dumps({"missing": str(error)}))
        return
    upscale(pixels)
    started = time.perf_counter()
    large = upscale(pixels)
    seconds = time.perf_counter() - started
    np.save(result, large)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    megapixels = large.shape[0] * large.shape[1] / 1e6
    print(json.dumps({"seconds": seconds / megapixels, "peak": peak}))


def measure(
    image: Path, model: str, names: Sequence[str], tile: int, rounds: int, folder: Path
) -> dict[str, list[dict]]:
    """Every contender's runs, in turn."""
    runs: dict[str, list[dict]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            side = name.partition(" ")[2] or tile
            command = [sys.executable, "-m", "benchmarks.images", str(image)]
            command += ["--worker", name, "--tile", str(side), "--result", str(folder / name)]
            command += ["--model", model]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout
            runs[name].append(json.loads(output.splitlines()[-1]))
    return runs


def each_tile(names: Sequence[str], tiles: Sequence[int]) -> list[str]:
    """The contenders, with one for each tile."""
    return [
        name if tile is None else f"{name} {tile}"
        for name in names
        for tile in (tiles if name == "ours-tiled" else [None])
    ]


def report(
    image: Path, name: str, runs: dict[str, list[dict]], folder: Path, peak: PeakRates
) -> None:
    """Print one image's table."""
    whole = np.load(folder / f"{REFERENCE}.npy").astype(int)
    ran = {name: each for name, each in runs.items() if "missing" not in each[0]}
    medians = {name: statistics.median(run["seconds"] for run in ran[name]) for name in ran}
    fastest = min(medians[name] for name in PEERS if name in medians)
    model = load_model(name)
    operations = benchmark.operations(model) / model.scale**2 * 1e6
    print(f"\n{image.name}, {operations / 1e9:.0f} GFLOP an output megapixel")
    print("| contender | s / output Mpx | min-max | GFLOP/s | of peak | peak MiB | error "
          "| fastest peer / it |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for name in runs:
        if name not in ran:
            print(f"| {name} | not run: {runs[name][0]['missing']} | | | | | | |")
            continue
        seconds = [run["seconds"] for run in ran[name]]
        levels = np.abs(np.load(folder / f"{name}.npy") - whole)
        rate = operations / medians[name]
        print(
            f"| {name} | {medians[name]:.2f} | {min(seconds):.2f}-{max(seconds):.2f} "
            f"| {rate / 1e9:.0f} | {rate / peak.products['fp32']:.0%} "
            f"| {max(run['peak'] for run in ran[name]):.0f} "
            f"| {levels.max()} ({(levels > 0).mean():.4%} differ) | {fastest / medians[name]:.2f} |"
        )


def main() -> None:
    """Measure every image given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", type=Path, default=[ROOT / "examples/kitten.jpg"])
    parser.add_argument(
        "--tile", type=int, nargs="+", default=[128], help="tile sizes; peers use the first"
    )
    parser.add_argument("--model", default="realesrgan-x4plus")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    tile = arguments.tile[0]
    if arguments.worker:
        work(arguments.worker, arguments.model, arguments.images[0], tile, arguments.result)
        return
    if REFERENCE not in arguments.only:
        parser.error(f"--only needs {REFERENCE}, which the errors are measured from")
    peak = measure_peak_rates("cpu")
    print(
        f"{platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, "
        f"{torch.get_num_threads()} of {os.cpu_count()} cores, torch {torch.__version__}, "
        f"{arguments.model}, fp32 but where named, tile {tile} for peers, "
        f"{arguments.rounds} rounds; peak: "
        f"{peak.products['fp32'] / 1e9:.0f} GFLOP/s, {peak.copied / 1e9:.0f} GB/s"
    )
    for image in arguments.images:
        with tempfile.TemporaryDirectory() as folder:
            names = each_tile(arguments.only, arguments.tile)
            runs = measure(
                image.resolve(), arguments.model, names, tile, arguments.rounds, Path(folder)
            )
            report(image, arguments.model, runs, Path(folder), peak)


if __name__ == "__main__":
    main()
