"""Input checks and conversions that all metrics share: arrays to levels of 0..255."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscale.errors import ImageError

Pixels = NDArray[Any]
"""(H, W), (H, W, 1) or (H, W, 3), RGB: uint8, uint16, or floats in [0, 1]."""

Levels = NDArray[np.float64]
"""Levels of 0..255, not rounded."""

# ITU-R BT.601: luma in 16..235 as MATLAB's rgb2ycbcr computes it, and grey in 0..255.
_LUMA = np.array([65.481, 128.553, 24.966]) / 255
_LUMA_OFFSET = 16.0
_GREY = np.array([0.299, 0.587, 0.114])
_CHUNK_ROWS = 256


class MetricError(ImageError):
    """A metric cannot be computed: an image is too small, or two sizes differ.

    Example:
        >>> import numpy as np
        >>> from upscale.metrics import MetricError, psnr
        >>> try:
        ...     psnr(np.zeros((8, 8)), np.zeros((4, 4)))
        ... except MetricError as error:
        ...     print(error)
        8x8 and 4x4 cannot be compared: the sizes must be equal
    """


def check_image(pixels: Pixels, border: int = 0) -> Pixels:
    """Return the image as (H, W, 1 or 3) without `border` pixels on every side.

    Raises:
        ValueError: The shape or type is not supported, or the border is negative.
        MetricError: No pixel is left inside the border.
    """
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ValueError(f"pixels must be (H, W), (H, W, 1) or (H, W, 3), not {pixels.shape}")
    if pixels.dtype.name not in ("uint8", "uint16", "float32", "float64"):
        raise ValueError(f"pixels must be uint8, uint16 or floats, not {pixels.dtype}")
    if border < 0:
        raise ValueError(f"border must be 0 or more, not {border}")
    height, width = pixels.shape[:2]
    if min(height, width) <= 2 * border:
        raise MetricError(f"{width}x{height} has no pixel inside a border of {border}")
    return pixels[border : height - border, border : width - border]


def check_pair(a: Pixels, b: Pixels, border: int = 0) -> tuple[Pixels, Pixels]:
    """Return two images of equal shape without their borders; grey is broadcast to RGB.

    Raises:
        ValueError: See `check_image`.
        MetricError: The sizes differ, or no pixel is left inside the border.
    """
    x, y = check_image(a, border), check_image(b, border)
    if x.shape[:2] != y.shape[:2]:
        sizes = f"{a.shape[1]}x{a.shape[0]} and {b.shape[1]}x{b.shape[0]}"
        raise MetricError(f"{sizes} cannot be compared: the sizes must be equal")
    shape = (*x.shape[:2], max(x.shape[2], y.shape[2]))
    return np.broadcast_to(x, shape), np.broadcast_to(y, shape)


def to_levels(pixels: Pixels) -> Levels:
    """Convert samples to levels: uint16 is divided by 257, floats are multiplied by 255."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float64)
    if pixels.dtype == np.uint16:
        return pixels / 257.0
    return pixels.astype(np.float64) * 255.0


def to_luma(pixels: Pixels) -> Levels:
    """Return the BT.601 luma as (H, W, 1) in 16..235, not rounded.

    This is Y of MATLAB's `rgb2ycbcr`. A grey image counts as RGB with equal channels, so that the
    result does not depend on how a file stores grey.
    """
    levels = to_levels(pixels)
    if levels.shape[2] == 1:
        return levels * _LUMA.sum() + _LUMA_OFFSET
    return (levels @ _LUMA)[..., None] + _LUMA_OFFSET


def to_grey(pixels: Pixels) -> Levels:
    """Return the BT.601 grey value as (H, W, 1) in 0..255, not rounded."""
    levels = to_levels(pixels)
    return levels if levels.shape[2] == 1 else (levels @ _GREY)[..., None]


def row_chunks(height: int, overlap: int = 0) -> Iterator[slice]:
    """Yield chunks of rows, so that no temporary array has the size of the image.

    Args:
        height: Height of the image in pixels.
        overlap: Number of rows that adjacent chunks share: the window height minus 1.
    """
    for top in range(0, height - overlap, _CHUNK_ROWS):
        yield slice(top, min(top + _CHUNK_ROWS + overlap, height))
