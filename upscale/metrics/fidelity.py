"""PSNR and SSIM: full-reference metrics that compare images sample by sample."""

from __future__ import annotations

import math

import cv2
import numpy as np

from upscale.metrics.samples import (
    Levels,
    MetricError,
    Pixels,
    check_pair,
    row_chunks,
    to_levels,
    to_luma,
)

SSIM_WINDOW = 11
"""Side of the SSIM window in pixels; smaller images cannot be measured."""

_PEAK = 255.0
_SIGMA = 1.5
_C1 = (0.01 * _PEAK) ** 2
_C2 = (0.03 * _PEAK) ** 2


def psnr(a: Pixels, b: Pixels, *, border: int = 0, luma: bool = False) -> float:
    """Return the peak signal-to-noise ratio in dB; higher is better, equal images give infinity.

    PSNR is 10 log10(255^2 / MSE), where the squared error is averaged over all pixels and channels
    (as in BasicSR and MATLAB's `psnr`). The two images may differ in depth: both are converted to
    levels of 0..255.

    Args:
        a: Image of shape (H, W), (H, W, 1) or (H, W, 3), RGB; uint8, uint16, or floats in [0, 1].
        b: Reference of the same size.
        border: Number of pixels to ignore on every side, often the scale.
        luma: Measure BT.601 luma, as most papers do, instead of all channels.

    Returns:
        The ratio in dB.

    Raises:
        ValueError: A shape or type is not supported, or the border is negative.
        MetricError: The sizes differ, or no pixel is left inside the border.

    Example:
        >>> import numpy as np
        >>> from upscale.metrics import psnr
        >>> image = np.full((16, 16, 3), 100, np.uint8)
        >>> round(psnr(image, image + 5), 2)
        34.15
    """
    x, y = check_pair(a, b, border)
    convert = to_luma if luma else to_levels
    total, count = 0.0, 0
    for rows in row_chunks(len(x)):
        error = convert(x[rows]) - convert(y[rows])
        total += float(np.square(error).sum())
        count += error.size
    return math.inf if total == 0 else 10 * math.log10(_PEAK**2 * count / total)


def ssim(a: Pixels, b: Pixels, *, border: int = 0, luma: bool = False) -> float:
    """Return the structural similarity, at most 1; higher is better, equal images give 1.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity"
    (2004), equation 13, with the constants of the paper: a Gaussian window of 11x11 with sigma 1.5
    at all positions where it lies inside the image; mean over positions and channels. The images
    are not downsampled first.

    Args:
        a: Image; see `psnr`.
        b: Reference of the same size.
        border: Number of pixels to ignore on every side, often the scale.
        luma: Measure BT.601 luma instead of all channels.

    Returns:
        The mean similarity.

    Raises:
        ValueError: See `psnr`.
        MetricError: The sizes differ, or fewer than 11x11 pixels are left.

    Example:
        >>> import numpy as np
        >>> from upscale.metrics import ssim
        >>> image = np.arange(256, dtype=np.uint8).reshape(16, 16)
        >>> ssim(image, image)
        1.0
        >>> ssim(image, image[::-1]) < 0.5
        True
    """
    x, y = check_pair(a, b, border)
    height, width, _ = x.shape
    if min(height, width) < SSIM_WINDOW:
        raise MetricError(f"{width}x{height} is smaller than SSIM's window of 11x11")
    convert = to_luma if luma else to_levels
    total, count = 0.0, 0
    for rows in row_chunks(height, overlap=SSIM_WINDOW - 1):
        x_levels, y_levels = convert(x[rows]), convert(y[rows])
        for channel in range(x_levels.shape[2]):
            similarity = _similarity(x_levels[..., channel], y_levels[..., channel])
            total += float(similarity.sum())
            count += similarity.size
    return total / count


def _similarity(x: Levels, y: Levels) -> Levels:
    """Return equation 13 at each position of the window as (H - 10, W - 10)."""
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    square_x, square_y, product = mean_x * mean_x, mean_y * mean_y, mean_x * mean_y
    variances = _window_mean(x * x) - square_x + _window_mean(y * y) - square_y
    covariance = _window_mean(x * y) - product
    return ((2 * product + _C1) * (2 * covariance + _C2)) / (
        (square_x + square_y + _C1) * (variances + _C2)
    )


def _window_mean(plane: Levels) -> Levels:
    kernel = cv2.getGaussianKernel(SSIM_WINDOW, _SIGMA)
    margin = SSIM_WINDOW // 2
    filtered = cv2.sepFilter2D(np.ascontiguousarray(plane), -1, kernel, kernel)
    return np.asarray(filtered[margin:-margin, margin:-margin], np.float64)
