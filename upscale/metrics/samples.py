"""What metrics measure: samples as levels of 0 to 255, whatever the depth of the arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscale.errors import ImageError

Pixels = NDArray[Any]
"""(H, W), (H, W, 1) or (H, W, 3), RGB: uint8, uint16, or floats in [0, 1]."""

Levels = NDArray[np.float64]
"""Levels of 0 to 255, not rounded."""

_LUMA = np.array([65.481, 128.553, 24.966]) / 255
_LUMA_OFFSET = 16.0
_GREY = np.array([0.299, 0.587, 0.114])
_BAND_ROWS = 256


class UnfitError(ImageError):
    """A metric cannot measure these images: they are too small, or of two sizes."""


def checked(pixels: Pixels, border: int = 0) -> Pixels:
    """Return (H, W, 1 or 3), without `border` pixels on every side.

    Raises:
        ValueError: The array has another shape or type, or the border is below 0.
        UnfitError: The border leaves nothing.
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
        raise UnfitError(f"{width}x{height} is nothing without a border of {border}")
    return pixels[border : height - border, border : width - border]


def checked_pair(a: Pixels, b: Pixels, border: int = 0) -> tuple[Pixels, Pixels]:
    """Return two images of one shape, without their borders; grey beside RGB becomes RGB.

    Raises:
        ValueError: See `checked`.
        UnfitError: The sizes differ, or the border leaves nothing.
    """
    one, other = checked(a, border), checked(b, border)
    if one.shape[:2] != other.shape[:2]:
        sizes = f"{a.shape[1]}x{a.shape[0]} and {b.shape[1]}x{b.shape[0]}"
        raise UnfitError(f"{sizes} cannot be compared: the sizes must be equal")
    channels = max(one.shape[2], other.shape[2])
    shape = (*one.shape[:2], channels)
    return np.broadcast_to(one, shape), np.broadcast_to(other, shape)


def levels(pixels: Pixels) -> Levels:
    """Return samples as levels: uint16 divided by 257, floats times 255."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float64)
    if pixels.dtype == np.uint16:
        return pixels / 257.0
    return pixels.astype(np.float64) * 255.0


def luma_levels(pixels: Pixels) -> Levels:
    """Return (H, W, 1), the luma of ITU-R BT.601 in levels of 16 to 235, not rounded.

    It is Y of MATLAB's `rgb2ycbcr`. Grey counts as RGB of equal channels, so that it does not
    matter how a file stores it.
    """
    found = levels(pixels)
    if found.shape[2] == 1:
        return found * _LUMA.sum() + _LUMA_OFFSET
    return (found @ _LUMA)[..., None] + _LUMA_OFFSET


def grey_levels(pixels: Pixels) -> Levels:
    """Return (H, W, 1), the BT.601 grey in levels of 0 to 255, not rounded."""
    found = levels(pixels)
    return found if found.shape[2] == 1 else (found @ _GREY)[..., None]


def bands(height: int, overlap: int = 0) -> Iterator[slice]:
    """Yield the rows of an image in bands, so that no temporary array has its size.

    Args:
        height: Of the image.
        overlap: How many rows of the next band each has, too: one less than a window is high.
    """
    for top in range(0, height - overlap, _BAND_ROWS):
        yield slice(top, min(top + _BAND_ROWS + overlap, height))
