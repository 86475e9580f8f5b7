"""Everything that only a GPU can tell, in one command: correctness first, then speed and memory.

    python -m benchmarks.gpu             # on cuda:0, a few minutes
    python -m benchmarks.gpu --device cpu --small    # the same script where there is no GPU

Needs torch, this project and its bundled weights. A check that fails ends the run with status 1
after the rest has run; a row that cannot run here says so.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.peers import PeerMissingError, official_network, padded_tiles, to_levels
from upscale import Upscaler
from upscale.engine.loading import Model, load_model

EXAMPLE = Path(__file__).parents[1] / "examples" / "kitten.jpg"
MODEL = "realesrgan-x4plus"
GFLOP_PER_PIXEL = 35.9e-3
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Bench:
    """What all checks share."""

    device: str
    model: Model
    small: bool

    @property
    def rounds(self) -> int:
        """Runs that a median is taken of."""
        return 1 if self.small else 3

    @property
    def is_cuda(self) -> bool:
        """Whether the device is a CUDA GPU."""
        return self.device.startswith("cuda")

    def upscaler(self, precision: str, tile: int | str = 0) -> Upscaler:
        """Our engine on the bench's device."""
        return Upscaler(self.model, device=self.device, precision=precision, tile=tile)

    def seconds(self, work: Callable[[], object]) -> float:
        """Median time of a piece of work after one run to warm up."""
        work()
        found = []
        for _ in range(self.rounds):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            found.append(time.perf_counter() - started)
        return statistics.median(found)

    def wait(self) -> None:
        """Let the device finish."""
        if self.is_cuda:
            torch.cuda.synchronize()

    def peak(self, work: Callable[[], object]) -> float:
        """The most device memory that a piece of work takes, in MiB; nan where nothing tells."""
        if not self.is_cuda:
            return float("nan")
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_reserved() / MEBIBYTE


def photograph(width: int, height: int) -> np.ndarray:
    """A picture of the example's content and any size."""
    return cv2.resize(cv2.imread(str(EXAMPLE))[:, :, ::-1], (width, height))


def difference(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Levels by which two uint8 pictures differ."""
    return np.abs(left.astype(int) - right)


def check_fp32_tiles(bench: Bench) -> bool:
    """Tiles in fp32 equal the whole picture in fp32, and the CPU agrees."""
    picture = photograph(80, 60) if bench.small else photograph(200, 150)
    whole = bench.upscaler("fp32").upscale(picture)
    tiled = bench.upscaler("fp32", 32).upscale(picture)
    small = picture[:64, :64]
    on_cpu = Upscaler(bench.model, device="cpu", precision="fp32", tile=0).upscale(small)
    here = bench.upscaler("fp32").upscale(small)
    tiles, machines = difference(tiled, whole).max(), difference(on_cpu, here).max()
    print(f"fp32: tiles to whole {tiles} levels, this device to the CPU {machines} levels")
    return tiles <= 1 and machines <= 1


def check_half(bench: Bench) -> bool:
    """Half precision stays near fp32, and no tile had to be rescued."""
    picture = photograph(64, 48) if bench.small else photograph(320, 240)
    whole = bench.upscaler("fp32").upscale(picture)
    good = True
    for precision in ("fp16", "bf16"):
        result = bench.upscaler(precision, 32 if bench.small else 96).run(picture)
        levels = difference(result.pixels, whole)
        within = (levels <= 1).mean()
        print(
            f"{precision}: within one level on {within:.4%} of values, at most {levels.max()}, "
            f"{result.report.fp32_tiles} tiles in fp32"
        )
        good &= precision != "fp16" or (within > 0.99 and result.report.fp32_tiles == 0)
    return good


def check_out_of_memory(bench: Bench) -> bool:
    """With a cap on device memory a huge tile is halved, and the picture is the same."""
    if not bench.is_cuda:
        print("out of memory: not run (needs CUDA)")
        return True
    picture = photograph(1024, 768)
    free = bench.upscaler("fp16", 128).upscale(picture)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1500 * MEBIBYTE / total))
    try:
        capped = bench.upscaler("fp16", 1024).run(picture)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    levels = difference(capped.pixels, free)
    print(
        f"out of memory: {capped.report.halvings} halvings to tile {capped.report.tile}, planes on "
        f"{capped.report.planes}, at most {levels.max()} levels from the run with memory"
    )
    return capped.report.halvings > 0 and (levels <= 1).mean() > 0.999


def check_planes_off_device(bench: Bench) -> bool:
    """Planes in host memory give the same picture (pinned copies)."""
    from upscale.engine import upscaler as module

    picture = photograph(96, 72) if bench.small else photograph(400, 300)
    expected = bench.upscaler("fp32", 64).upscale(picture)
    real = module.available_memory
    module.available_memory = lambda device: 0 if device.type != "cpu" else real(device)
    try:
        result = bench.upscaler("fp32", 64).run(picture)
    finally:
        module.available_memory = real
    levels = difference(result.pixels, expected).max()
    print(f"planes on {result.report.planes}: at most {levels} levels from planes on the device")
    return levels <= 1


def print_speed(bench: Bench, sizes: list[tuple[int, int]], tiles: list[int]) -> None:
    """Our engine and the official loop in the same run, whole and in tiles."""
    precision = "fp16" if bench.is_cuda else "fp32"
    dtype = torch.float16 if bench.is_cuda else torch.float32
    try:
        official = official_network(bench.model.network.state_dict(), 23).to(bench.device, dtype)
    except PeerMissingError as error:
        official = None
        print(f"official loop: not run ({error})")
    print("| picture | tile | ours s | TFLOP/s | official s | ratio | peak MiB | official MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for width, height in sizes:
        picture = photograph(width, height)
        for tile in tiles:
            upscaler = bench.upscaler(precision, tile)

            def ours(upscaler: Upscaler = upscaler, picture: np.ndarray = picture) -> object:
                return upscaler.upscale(picture)

            def theirs(tile: int = tile, picture: np.ndarray = picture) -> object:
                with torch.inference_mode():
                    tensor = torch.from_numpy(picture.copy()).to(bench.device)
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


def main() -> None:
    """Run every check, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small pictures and one round")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("no CUDA GPU here: nothing was run (use --device cpu --small to try the script)")
    bench = Bench(arguments.device, load_model(MODEL), arguments.small)
    name = torch.cuda.get_device_name() if bench.is_cuda else platform.machine()
    print(f"{name}, torch {torch.__version__}, {MODEL}")
    checks = [check_fp32_tiles, check_half, check_out_of_memory, check_planes_off_device]
    failed = [check.__name__ for check in checks if not check(bench)]
    if arguments.small:
        print_speed(bench, [(96, 72)], [0, 48])
    else:
        print_speed(bench, [(960, 540), (1920, 1080)], [0, 256, 512])
        print_speed(bench, [(4000, 3000)], [512])
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
