"""Measure the memory for reading and writing image files, beyond that of the image itself.

    python -m benchmarks.image_io [--megapixels 100]

Each case runs in a separate process. The table lists the growth of its peak memory, absolute and
relative to the size of the image's samples. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from upscale.images import Image, read_image, write_file

CASES = [
    ("jpeg", False), ("png", False), ("png", True), ("tiff", False), ("tiff", True),
    ("webp", False), ("bmp", False), ("avif", False), ("jxl", False),
]  # fmt: skip
# WebP is limited to sides of 16383 px; the encoders of all three are slow.
SLOW = ("webp", "avif", "jxl")
SLOW_MEGAPIXELS = 16


def peak_mib() -> float:
    """Return the peak resident memory of this process since `reset_peak`."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def reset_peak() -> None:
    """Reset the peak to the current memory."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def sample(megapixels: int, alpha: bool) -> Image:
    """Return gradients with some detail, which compress about as well as a scan."""
    side = int((megapixels * 1e6) ** 0.5)
    pixels = np.empty((side, side, 3), np.uint8)
    across = np.arange(side, dtype=np.uint32)
    for row in range(side):
        pixels[row, :, 0] = (across // 7 + row // 5) % 256
        pixels[row, :, 1] = across * row % 251
        pixels[row, :, 2] = across % 256
    return Image(pixels, pixels[..., 0].copy() if alpha else None)


def write_one(path: Path, format: str, alpha: bool, megapixels: int) -> None:
    """Write an image and print a row."""
    image = sample(megapixels, alpha)
    size = image.pixels.nbytes + (0 if image.alpha is None else image.alpha.nbytes)
    reset_peak()
    before, began = peak_mib(), perf_counter()
    write_file(image, path, format=format)
    print_row("write", format, alpha, size, peak_mib() - before, perf_counter() - began)


def read_one(path: Path, format: str, alpha: bool) -> None:
    """Read an image and print a row."""
    reset_peak()
    before, began = peak_mib(), perf_counter()
    image = read_image(path)
    size = image.pixels.nbytes + (0 if image.alpha is None else image.alpha.nbytes)
    # The image itself is in memory at the end in any case.
    rise = peak_mib() - before - size / 2**20
    print_row("read", format, alpha, size, rise, perf_counter() - began)


def print_row(
    operation: str, format: str, alpha: bool, size: int, rise: float, seconds: float
) -> None:
    """Print a row."""
    name = f"{format} with alpha" if alpha else format
    mib = size / 2**20
    print(f"| {operation} | {name} | {mib:.0f} | {rise:.0f} | {rise / mib:.2f} | {seconds:.1f} |")


def main() -> None:
    """Measure each case in a separate process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=int, default=100)
    parser.add_argument("--one", nargs=4, metavar=("OPERATION", "FORMAT", "ALPHA", "PATH"))
    arguments = parser.parse_args()
    if arguments.one:
        operation, format, alpha, path = arguments.one
        if operation == "write":
            write_one(Path(path), format, alpha == "1", arguments.megapixels)
        else:
            read_one(Path(path), format, alpha == "1")
        return
    print("| | format | image MiB | extra MiB | extra / image | s |\n|---|---|---|---|---|---|")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        for format, alpha in CASES:
            megapixels = min(arguments.megapixels, SLOW_MEGAPIXELS if format in SLOW else 10**6)
            for operation in ("write", "read"):
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.image_io",
                    "--megapixels",
                    str(megapixels),
                ]
                one = [operation, format, str(int(alpha)), str(Path(folder) / f"{format}{alpha}")]
                subprocess.run([*command, "--one", *one], check=True)


if __name__ == "__main__":
    main()
