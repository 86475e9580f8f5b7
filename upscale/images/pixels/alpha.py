"""Transparency: the colour under what cannot be seen, and an upscaled alpha's faithfulness."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.images.image import Pixels

_Plane = NDArray[np.float32]

_TRUSTED = 4 / 255
"""Alpha from which a pixel's own colour counts in full."""

_GENTLE, _STEEP = 0.25, 0.75
"""Rise of alpha over 3 pixels up to which it is a slope, and from which it is an edge."""

_OVERSHOOT = 0.5
"""How far beyond the source pixels around it a pixel may be, as a part of what they span."""

_ROUNDS = 2
"""How often what an upscaled alpha lacks is added back."""

_BAND_ROWS = 256


def extend_colour(pixels: NDArray[Any], alpha: NDArray[Any]) -> Pixels:
    """Spread visible colours under transparent pixels, so that a filter finds no edge there.

    Coarser and coarser averages of the visible colours (weighted by alpha) fill the holes; the
    nearer a visible pixel, the finer the average that is used. Colours that can hardly be seen
    (alpha below 4/255) are often arbitrary, too: they are mixed with the average, by alpha.

    Args:
        pixels: (H, W, C), any of uint8, uint16, float32; not changed.
        alpha: (H, W), same type; 0 is fully transparent.

    Returns:
        Same shape and type. Pixels whose alpha is 4/255 or more, or the greatest of all, are
        unchanged; the array given is returned when that is every pixel.
    """
    weight = (alpha / np.float32(_full(alpha))).astype(np.float32, copy=False).clip(0, 1)
    trusted = min(_TRUSTED, float(weight.max()))
    doubtful = weight < trusted
    if not doubtful.any():
        return pixels
    product = (pixels * weight[..., None]).astype(np.float32, copy=False)
    spread = _fill(product, weight, trusted)
    if pixels.dtype.kind == "u":
        np.rint(spread, out=spread).clip(0, _full(pixels), out=spread)
    return np.where(doubtful[..., None], spread.astype(pixels.dtype), pixels)


def hold_to_source(alpha: NDArray[Any], source: NDArray[Any]) -> None:
    """Keep an upscaled alpha, in place, true to the alpha that it was made from.

    A network leaves flat areas a level or two off and takes a soft slope for a blurred edge. So
    slopes are interpolated instead; each pixel is held near the span of the 3x3 source pixels
    around it, which keeps flat areas exact; and what the mean over a source pixel's area lacks is
    added back in a few rounds, so that edges lie where they lay.

    Args:
        alpha: (H, W), the upscaled alpha; any of uint8, uint16, float32.
        source: (h, w), same type.
    """
    around = np.ones((3, 3), np.uint8)
    low, high = (change(source, around).astype(np.float32) for change in (cv2.erode, cv2.dilate))
    rise = high - low
    share = ((rise / _full(source) - _GENTLE) / (_STEEP - _GENTLE)).clip(0, 1)
    limits = (low - rise * _OVERSHOOT).clip(0), (high + rise * _OVERSHOOT).clip(0, _full(source))
    grid, plain = _Grid(alpha.shape, source.shape), source.astype(np.float32)
    for band in grid.bands():
        large = alpha[band].astype(np.float32)
        large += (grid.linear(plain, band) - large) * (1 - grid.linear(share, band))
        _put(alpha[band], large, *(grid.nearest(limit, band) for limit in limits))
    if alpha.shape[0] < source.shape[0] or alpha.shape[1] < source.shape[1]:
        return
    for _ in range(_ROUNDS):
        lack = plain - cv2.resize(alpha, source.shape[::-1], interpolation=cv2.INTER_AREA)
        for band in grid.bands():
            large = alpha[band] + grid.linear(lack, band)
            _put(alpha[band], large, *(grid.nearest(limit, band) for limit in limits))


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


class _Grid:
    """Upscales planes (h, w) to bands of rows of (H, W), never the whole of one."""

    def __init__(self, shape: tuple[int, ...], source_shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._last = source_shape[0] - 1
        self._rows, self._columns = (
            (np.arange(length) + 0.5) * (source_length / length)
            for length, source_length in zip(shape, source_shape, strict=True)
        )

    def bands(self) -> Iterator[slice]:
        """Every band of rows, from the top."""
        return (slice(at, at + _BAND_ROWS) for at in range(0, self._shape[0], _BAND_ROWS))

    def nearest(self, plane: _Plane, band: slice) -> _Plane:
        """The value of the cell that each pixel of a band lies in."""
        return plane[np.ix_(self._rows[band].astype(np.intp), self._columns.astype(np.intp))]

    def linear(self, plane: _Plane, band: slice) -> _Plane:
        """What lies between the middles of the cells."""
        rows = (self._rows[band] - 0.5).clip(0, self._last)
        first = rows.astype(np.intp)
        second = np.minimum(first + 1, self._last)
        share = (rows - first).astype(np.float32)[:, None]
        tall = plane[first] + (plane[second] - plane[first]) * share
        return _resize(tall.astype(np.float32), (self._shape[1], len(tall)), cv2.INTER_LINEAR)


def _put(target: Pixels, values: _Plane, low: _Plane, high: _Plane) -> None:
    """Store values in a target of any type, none outside of its limits."""
    values.clip(low, high, out=values)
    target[...] = np.rint(values, out=values) if target.dtype.kind == "u" else values


def _fill(colour: _Plane, weight: _Plane, trusted: float) -> _Plane:
    """Colours everywhere, from weighted colours (H, W, C) and weights (H, W) that may be 0.

    Weights of `trusted` and more count in full. The array of colours is used for the result.
    """
    height, width = weight.shape
    floor = np.maximum(weight, np.finfo(np.float32).tiny)[..., None]
    if max(height, width) == 1 or weight.min() >= trusted:
        return np.divide(colour, floor, out=colour)
    half = ((width + 1) // 2, (height + 1) // 2)
    colours, weights = (_resize(plane, half, cv2.INTER_AREA) for plane in (colour, weight))
    filled = _resize(_fill(colours, weights, trusted), (width, height), cv2.INTER_LINEAR)
    np.divide(colour, floor, out=colour)
    colour -= filled
    colour *= np.minimum(weight / np.float32(trusted), 1)[..., None]
    colour += filled
    return colour


def _resize(plane: _Plane, size: tuple[int, int], how: int) -> _Plane:
    """Resize to (width, height), keeping the number of axes, which OpenCV does not for C = 1."""
    return np.asarray(cv2.resize(plane, size, interpolation=how), np.float32).reshape(
        size[1], size[0], *plane.shape[2:]
    )
