"""Transparency: what colour lies under what cannot be seen."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.pictures.picture import Pixels

_Plane = NDArray[np.float32]


def extend_colour(pixels: NDArray[Any], alpha: NDArray[Any]) -> Pixels:
    """Spread visible colours under fully transparent pixels, so that a filter finds no edge there.

    Coarser and coarser averages of the visible colours (weighted by alpha) fill the holes; the
    nearer a visible pixel, the finer the average that is used.

    Args:
        pixels: (H, W, C), any of uint8, uint16, float32; not changed.
        alpha: (H, W), same type; 0 is fully transparent.

    Returns:
        Same shape and type. Pixels whose alpha is above 0 are unchanged; the array given is
        returned when there is nothing to spread (all visible, or nothing visible).
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return pixels
    weight = (alpha / np.float32(_full(alpha))).astype(np.float32)
    spread = _fill((pixels * weight[..., None]).astype(np.float32), weight)
    if pixels.dtype.kind == "u":
        np.rint(spread, out=spread).clip(0, _full(pixels), out=spread)
    return np.where(hidden[..., None], spread.astype(pixels.dtype), pixels)


def unmultiply(colour: Pixels, alpha: Pixels) -> Pixels:
    """Colour (H, W, C) from colour times alpha (the associated alpha of some TIFF files)."""
    full = _full(alpha)
    scale = full / np.maximum(alpha, 1 if alpha.dtype.kind == "u" else 1e-6).astype(np.float64)
    plain = colour * scale[..., None]
    if colour.dtype.kind == "u":
        plain = np.rint(plain).clip(0, full)
    return plain.astype(colour.dtype)


def _full(samples: Pixels) -> float:
    """The value of a sample at its brightest."""
    return float(np.iinfo(samples.dtype).max) if samples.dtype.kind == "u" else 1.0


def _fill(colour: _Plane, weight: _Plane) -> _Plane:
    """Colours everywhere, from weighted colours (H, W, C) and weights (H, W) that may be 0."""
    known = weight > 0
    height, width = weight.shape
    filled = np.zeros_like(colour)
    if not known.all():
        half = ((width + 1) // 2, (height + 1) // 2)
        coarse = _fill(_resize(colour, half, cv2.INTER_AREA), _resize(weight, half, cv2.INTER_AREA))
        filled = _resize(coarse, (width, height), cv2.INTER_LINEAR)
    np.divide(colour, weight[..., None], out=filled, where=known[..., None])
    return filled


def _resize(plane: _Plane, size: tuple[int, int], how: int) -> _Plane:
    """Resize to (width, height), keeping the number of axes, which OpenCV does not for C = 1."""
    return np.asarray(cv2.resize(plane, size, interpolation=how), np.float32).reshape(
        size[1], size[0], *plane.shape[2:]
    )
