"""Memory that reading and writing an image takes beyond the image itself.

    python -m benchmarks.images [--megapixels 100]

Each figure comes from a process of its own: the rise of its peak memory while a file is read or
written, in parts of what the image's samples take. Linux only.
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
# WebP's sides end at 16383, and its encoder, like those of AVIF and JPEG XL, is slow.
SLOW = ("webp", "avif", "jxl")
SLOW_MEGAPIXELS = 16


def peak_mib() -> float:
    """Peak resident memory of this process since `reset_peak`."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def reset_peak() -> None:
    """Let the peak start from what is held now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def sample(megapixels: int, alpha: bool) -> Image:
    """Slopes with some detail, which compress about as a scan does."""
    side = int((megapixels * 1e6) ** 0.5)
    pixels = np.empty((side, side, 3), np.uint8)
    across = np.arange(side, dtype=np.uint32)
    for row in range(side):
        pixels[row, :, 0] = (across // 7 + row // 5) % 256
        pixels[row, :, 1] = across * row % 251
        pixels[row, :, 2] = across % 256
    return Image(pixels, pixels[..., 0].copy() if alpha else None)


def write_one(path: Path, format: str, alpha: bool, megapixels: int) -> None:
    """Write an image, and print a row."""
    image = sample(megapixels, alpha)
    held = image.pixels.nbytes + (0 if image.alpha is None else image.alpha.nbytes)
    reset_peak()
    before, began = peak_mib(), perf_counter()
    write_file(image, path, format=format)
    show("write", format, alpha, held, peak_mib() - before, perf_counter() - began)


def read_one(path: Path, format: str, alpha: bool) -> None:
    """Read an image, and print a row."""
    reset_peak()
    before, began = peak_mib(), perf_counter()
    image = read_image(path)
    held = image.pixels.nbytes + (0 if image.alpha is None else image.alpha.nbytes)
    # What was read is held at the end in any case.
    rise = peak_mib() - before - held / 2**20
    show("read", format, alpha, held, rise, perf_counter() - began)


def show(what: str, format: str, alpha: bool, held: int, rise: float, seconds: float) -> None:
    """Print a row."""
    name = f"{format} with alpha" if alpha else format
    size = held / 2**20
    print(f"| {what} | {name} | {size:.0f} | {rise:.0f} | {rise / size:.2f} | {seconds:.1f} |")


def main() -> None:
    """Measure each case in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=int, default=100)
    parser.add_argument("--one", nargs=4, metavar=("WHAT", "FORMAT", "ALPHA", "PATH"))
    arguments = parser.parse_args()
    if arguments.one:
        what, format, alpha, path = arguments.one
        if what == "write":
            write_one(Path(path), format, alpha == "1", arguments.megapixels)
        else:
            read_one(Path(path), format, alpha == "1")
        return
    print("| | format | image MiB | more MiB | more / image | s |\n|---|---|---|---|---|---|")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        for format, alpha in CASES:
            size = min(arguments.megapixels, SLOW_MEGAPIXELS if format in SLOW else 10**6)
            for what in ("write", "read"):
                command = [sys.executable, "-m", "benchmarks.images", "--megapixels", str(size)]
                one = [what, format, str(int(alpha)), str(Path(folder) / f"{format}{alpha}")]
                subprocess.run([*command, "--one", *one], check=True)


if __name__ == "__main__":
    main()
