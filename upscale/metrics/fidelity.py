"""PSNR and SSIM: how near an image is to its original, sample by sample."""

from __future__ import annotations

import math

import cv2
import numpy as np

from upscale.metrics.samples import (
    Levels,
    Pixels,
    UnfitError,
    bands,
    checked_pair,
    levels,
    luma_levels,
)

SSIM_WINDOW = 11
"""Side of SSIM's window in pixels; an image must not be smaller."""

_PEAK = 255.0
_SPREAD = 1.5
_C1 = (0.01 * _PEAK) ** 2
_C2 = (0.03 * _PEAK) ** 2


def psnr(a: Pixels, b: Pixels, *, border: int = 0, luma: bool = False) -> float:
    """Return the peak signal-to-noise ratio in dB; more is better, infinity means equal.

    The squared error is averaged over all channels. Depths may differ: both are taken as levels of
    0 to 255.

    Args:
        a: (H, W), (H, W, 1) or (H, W, 3), RGB; uint8, uint16, or floats in [0, 1].
        b: The original, of the same size.
        border: Pixels on every side that do not count, often the scale.
        luma: Whether to measure BT.601 luma, as most papers do, and not all channels.

    Raises:
        ValueError: A shape or type is not one of these, or the border is below 0.
        UnfitError: The sizes differ, or the border leaves nothing.
    """
    one, other = checked_pair(a, b, border)
    measured = luma_levels if luma else levels
    total, count = 0.0, 0
    for rows in bands(len(one)):
        error = measured(one[rows]) - measured(other[rows])
        total += float(np.square(error).sum())
        count += error.size
    return math.inf if total == 0 else 10 * math.log10(_PEAK**2 * count / total)


def ssim(a: Pixels, b: Pixels, *, border: int = 0, luma: bool = False) -> float:
    """Return the structural similarity, at most 1; more is better, 1 means equal.

    Wang et al. 2004 with their constants: a Gaussian window of 11x11 with sigma 1.5, at all places
    where it lies within the image; the mean over them and the channels. It is not shrunk first.

    Args:
        a: See `psnr`.
        b: See `psnr`.
        border: See `psnr`.
        luma: See `psnr`.

    Raises:
        ValueError: See `psnr`.
        UnfitError: The sizes differ, or fewer than 11x11 pixels are left.
    """
    one, other = checked_pair(a, b, border)
    height, width, _ = one.shape
    if min(height, width) < SSIM_WINDOW:
        raise UnfitError(f"{width}x{height} is less than SSIM's window of 11x11")
    measured = luma_levels if luma else levels
    total, count = 0.0, 0
    for rows in bands(height, overlap=SSIM_WINDOW - 1):
        x, y = measured(one[rows]), measured(other[rows])
        for channel in range(x.shape[2]):
            similarity = _similarity(x[..., channel], y[..., channel])
            total += float(similarity.sum())
            count += similarity.size
    return total / count


def _similarity(x: Levels, y: Levels) -> Levels:
    """Equation 13 of the paper at every place of the window, (H - 10, W - 10)."""
    mean_x, mean_y = _averaged(x), _averaged(y)
    square_x, square_y, product = mean_x * mean_x, mean_y * mean_y, mean_x * mean_y
    variances = _averaged(x * x) - square_x + _averaged(y * y) - square_y
    covariance = _averaged(x * y) - product
    return ((2 * product + _C1) * (2 * covariance + _C2)) / (
        (square_x + square_y + _C1) * (variances + _C2)
    )


def _averaged(plane: Levels) -> Levels:
    kernel = cv2.getGaussianKernel(SSIM_WINDOW, _SPREAD)
    margin = SSIM_WINDOW // 2
    whole = cv2.sepFilter2D(np.ascontiguousarray(plane), -1, kernel, kernel)
    return np.asarray(whole[margin:-margin, margin:-margin], np.float64)
