"""Transparency: colours under transparent pixels, and alpha that matches its source."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.images.image import Pixels
from upscale.images.pixels.depth import full_scale
from upscale.images.pixels.interpolation import Grid, resize_plane
from upscale.images.pixels.row_chunks import row_chunks

_Plane = NDArray[np.float32]

_TRUSTED = 4 / 255
"""Alpha from which the colour of a pixel is kept unchanged."""

_SLOPE, _EDGE = 0.25, 0.75
"""Rise of alpha over 3 pixels: a slope up to the first value, an edge from the second."""

_OVERSHOOT = 0.5
"""Distance of a pixel beyond the range of the 3x3 source pixels, as a fraction of that range."""

_ROUNDS = 2
"""Number of times that the difference to the source is added back."""


_WRAPPED_PIXELS = 128
"""Pixels beyond each border of an image that repeats from which colour is spread over it."""


def extend_colour(pixels: NDArray[Any], alpha: NDArray[Any], seamless: str = "") -> Pixels:
    """Spread visible colours under transparent pixels, so that filters find no edge there.

    Holes are filled with averages of the visible colours, weighted by alpha (pull-push
    interpolation, Gortler et al. 1996): fine averages near visible pixels, coarse ones elsewhere.
    Nearly invisible colours (alpha below 4/255) are often arbitrary: they are mixed with the
    average, by alpha.

    Args:
        pixels: Array of shape (H, W, C), uint8, uint16 or float32; not changed.
        alpha: Array of shape (H, W) and the same type; 0 is fully transparent.
        seamless: Directions in which the image repeats: `x`, `y` or `xy`. Colour is then also
            spread across those borders.

    Returns:
        An array of the same shape and type. Pixels with an alpha of at least 4/255, or of the
        largest value in the image, are unchanged; `pixels` itself is returned when all are.

    Example:
        >>> import numpy as np
        >>> pixels = np.array([[[200, 0, 0], [0, 255, 0]]], np.uint8)
        >>> alpha = np.array([[255, 0]], np.uint8)
        >>> extend_colour(pixels, alpha).tolist()
        [[[200, 0, 0], [200, 0, 0]]]
    """
    if seamless:
        return _extended_across_borders(pixels, alpha, seamless)
    weight = (alpha / np.float32(full_scale(alpha.dtype))).astype(np.float32, copy=False).clip(0, 1)
    trusted = min(_TRUSTED, float(weight.max()))
    unreliable = weight < trusted
    if not unreliable.any():
        return pixels
    product = (pixels * weight[..., None]).astype(np.float32, copy=False)
    spread = _fill(product, weight, trusted)
    if pixels.dtype.kind == "u":
        np.rint(spread, out=spread).clip(0, full_scale(pixels.dtype), out=spread)
    return np.where(unreliable[..., None], spread.astype(pixels.dtype), pixels)


def _extended_across_borders(pixels: Pixels, alpha: Pixels, seamless: str) -> Pixels:
    """Extend the colour of an image with a margin of what lies beyond its borders."""
    height, width = alpha.shape
    down = min(height, _WRAPPED_PIXELS) if "y" in seamless else 0
    across = min(width, _WRAPPED_PIXELS) if "x" in seamless else 0
    margins = ((down, down), (across, across))
    larger = extend_colour(
        np.pad(pixels, (*margins, (0, 0)), mode="wrap"), np.pad(alpha, margins, mode="wrap")
    )
    return np.ascontiguousarray(larger[down : down + height, across : across + width])


def hold_to_source(alpha: NDArray[Any], source: NDArray[Any], seamless: str = "") -> None:
    """Correct an upscaled alpha in place, so that it matches its source.

    Networks change flat areas by a level or two and sharpen soft slopes. Slopes are therefore
    interpolated; each pixel is limited to the range of the 3x3 source pixels around it, which keeps
    flat areas exact; and the difference of each source pixel to the mean over its area is added
    back twice, which keeps edges in position.

    Args:
        alpha: Upscaled alpha of shape (H, W), uint8, uint16 or float32; changed in place.
        source: Alpha of the source, shape (h, w), same type.
        seamless: Directions in which the image repeats: `x`, `y` or `xy`.
    """
    low, high = (extreme.astype(np.float32) for extreme in _extremes(source, seamless))
    rise = high - low
    full = full_scale(source.dtype)
    share = ((rise / full - _SLOPE) / (_EDGE - _SLOPE)).clip(0, 1)
    limits = (low - rise * _OVERSHOOT).clip(0), (high + rise * _OVERSHOOT).clip(0, full)
    grid, plain = Grid(alpha.shape, source.shape, seamless), source.astype(np.float32)
    for rows in row_chunks(alpha.shape):
        large = alpha[rows].astype(np.float32)
        large += (grid.linear(plain, rows) - large) * (1 - grid.linear(share, rows))
        _store(alpha[rows], large, *(grid.nearest(limit, rows) for limit in limits))
    if alpha.shape[0] < source.shape[0] or alpha.shape[1] < source.shape[1]:
        return
    for _ in range(_ROUNDS):
        missing = plain - cv2.resize(alpha, source.shape[::-1], interpolation=cv2.INTER_AREA)
        for rows in row_chunks(alpha.shape):
            large = alpha[rows] + grid.linear(missing, rows)
            _store(alpha[rows], large, *(grid.nearest(limit, rows) for limit in limits))


def _extremes(source: Pixels, seamless: str) -> tuple[Pixels, Pixels]:
    """Return the least and the greatest of the 3x3 pixels around each pixel."""
    height, width = source.shape
    down, across = int("y" in seamless), int("x" in seamless)
    wider = np.pad(source, ((down, down), (across, across)), mode="wrap") if seamless else source
    neighbours = np.ones((3, 3), np.uint8)
    inside = slice(down, down + height), slice(across, across + width)
    return cv2.erode(wider, neighbours)[inside], cv2.dilate(wider, neighbours)[inside]


def unmultiply(colour: Pixels, alpha: Pixels) -> Pixels:
    """Divide premultiplied colour by alpha.

    Args:
        colour: Array of shape (H, W, C), colour times alpha, as with associated alpha in TIFF.
        alpha: Array of shape (H, W) and the same type.
    """
    full = full_scale(alpha.dtype)
    scale = full / np.maximum(alpha, 1 if alpha.dtype.kind == "u" else 1e-6).astype(np.float64)
    plain = colour * scale[..., None]
    if colour.dtype.kind == "u":
        plain = np.rint(plain).clip(0, full)
    return plain.astype(colour.dtype)


def _store(target: Pixels, values: _Plane, low: _Plane, high: _Plane) -> None:
    """Store values in a target of any type, clipped to limits."""
    values.clip(low, high, out=values)
    target[...] = np.rint(values, out=values) if target.dtype.kind == "u" else values


def _fill(colour: _Plane, weight: _Plane, trusted: float) -> _Plane:
    """Return colours for all pixels from weighted colours (H, W, C) and weights (H, W).

    Weights of at least `trusted` count as 1. The array of colours is reused for the result.
    """
    height, width = weight.shape
    divisor = np.maximum(weight, np.finfo(np.float32).tiny)[..., None]
    if max(height, width) == 1 or weight.min() >= trusted:
        return np.divide(colour, divisor, out=colour)
    half = ((width + 1) // 2, (height + 1) // 2)
    colours, weights = (resize_plane(plane, half, cv2.INTER_AREA) for plane in (colour, weight))
    filled = resize_plane(_fill(colours, weights, trusted), (width, height), cv2.INTER_LINEAR)
    np.divide(colour, divisor, out=colour)
    colour -= filled
    colour *= np.minimum(weight / np.float32(trusted), 1)[..., None]
    colour += filled
    return colour
