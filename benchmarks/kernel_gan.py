"""Accuracy of KernelGAN: kernels that are estimated from images, compared with the true ones.

    python -m benchmarks.kernel_gan PHOTO... [--jobs N]

The middle of each photo, at most 1280x1600 pixels, is downscaled by 2 with eight Gaussian kernels
of different widths and anisotropies, and rounded to 8 bits. The kernel is then estimated from the
result with the default settings and the seed 0. "correlation" is Pearson's, over 25x25 values;
"error" is the norm of the difference divided by the norm of the true kernel, and "bicubic" the same
for the bicubic kernel.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from upscale_training.data.parallel import map_parallel
from upscale_training.data.pixels import read_rgb
from upscale_training.kernel_gan import EstimateSettings, estimate_kernel
from upscale_training.zero_shot.resampling import bicubic_kernel

from benchmarks.blur import gaussian, halved

KERNELS = (
    (1.2, 1.2, 0.0),
    (2.0, 2.0, 0.0),
    (3.0, 3.0, 0.0),
    (4.5, 4.5, 0.0),
    (1.0, 2.5, 0.4),
    (1.6, 3.2, 0.7),
    (1.0, 4.0, 1.2),
    (2.5, 5.0, -0.6),
)
"""Variances along both axes in squared pixels, and the angle in radians."""

HEIGHT, WIDTH, SIDE = 1280, 1600, 25


def main() -> None:
    """Print a row for each photo and kernel."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos", metavar="PHOTO", nargs="+", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    print("| photo | variances | angle | correlation | bicubic | error | bicubic | seconds |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    cases = [(photo, kernel) for photo in options.photos for kernel in KERNELS]
    for _, row in map_parallel(_row, cases, options.jobs):
        print(row, flush=True)


def _row(case: tuple[Path, tuple[float, float, float]]) -> str:
    photo, numbers = case
    torch.set_num_threads(1)
    true = gaussian(*numbers)
    began = time.process_time()
    image = _middle(read_rgb(photo))
    estimate = estimate_kernel(halved(image, true), EstimateSettings())
    seconds = time.process_time() - began
    found, bicubic = (_compared(each, true) for each in (estimate, bicubic_kernel(2)))
    first, second, angle = numbers
    return (
        f"| {photo.stem} | {first:g}, {second:g} | {angle:g} | {found[0]:.3f} | {bicubic[0]:.3f} "
        f"| {found[1]:.2f} | {bicubic[1]:.2f} | {seconds:.0f} |"
    )


def _compared(kernel: NDArray[np.float64], true: NDArray[np.float64]) -> tuple[float, float]:
    """Return the correlation of a kernel with the true one, and its relative error."""
    ours, theirs = _padded(kernel), _padded(true)
    correlation = np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]
    return float(correlation), float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def _padded(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    margin = SIDE // 2 - len(kernel) // 2
    if margin < 0:
        return kernel[-margin:margin, -margin:margin]
    return np.pad(kernel, margin)


def _middle(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top = max(image.shape[0] - HEIGHT, 0) // 2
    left = max(image.shape[1] - WIDTH, 0) // 2
    return image[top : top + HEIGHT, left : left + WIDTH]


if __name__ == "__main__":
    main()
