"""Kernels and LR images for the benchmarks of KernelGAN and zero-shot networks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 21


def gaussian(first: float, second: float, angle: float) -> NDArray[np.float64]:
    """Return a Gaussian kernel for half the size, aligned.

    Args:
        first: Variance along the first axis, in squared pixels of the large image.
        second: Variance along the second axis.
        angle: Angle of the first axis, in radians.
    """
    down, across = np.mgrid[:SIDE, :SIDE] - (SIDE // 2 + 0.5)
    along = across * np.cos(angle) + down * np.sin(angle)
    beside = down * np.cos(angle) - across * np.sin(angle)
    kernel = np.exp(-(along**2 / first + beside**2 / second) / 2)
    return kernel / kernel.sum()


def halved(image: NDArray[np.uint8], kernel: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return an image at half its size, downscaled with an aligned kernel."""
    floats = image.astype(np.float32)
    blurred = cv2.filter2D(floats, -1, kernel, borderType=cv2.BORDER_REFLECT)
    return np.clip(np.rint(blurred[::2, ::2]), 0, 255).astype(np.uint8)
