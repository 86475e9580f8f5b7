"""Which part of an image tells most: that with the most fine detail, or the most difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CROP_WIDTH, CROP_HEIGHT = 288, 192
"""Sides of an automatic crop in pixels: upscaled by 4 it fits a laptop's window at 100 %."""

_CELL = 8
"""Side in pixels of the cells whose detail is summed; windows start at multiples of it."""
_BAND_CELLS = 64
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_NEAR_BEST = 1e-6


class Box(NamedTuple):
    """A part of an image in pixels; `x` and `y` are its left and top."""

    x: int
    y: int
    width: int
    height: int

    def lies_in(self, size: tuple[int, int]) -> bool:
        """Whether an image of `size` = (width, height) has all of it."""
        return self.x + self.width <= size[0] and self.y + self.height <= size[1]

    def grown(self, margin: int, size: tuple[int, int]) -> Box:
        """The box with `margin` pixels more on every side that an image of `size` has."""
        left, top = max(0, self.x - margin), max(0, self.y - margin)
        right = min(size[0], self.x + self.width + margin)
        bottom = min(size[1], self.y + self.height + margin)
        return Box(left, top, right - left, bottom - top)


def choose_crop(pixels: NDArray[Any], alpha: NDArray[Any] | None = None) -> Box:
    """Return the window of 288x192 pixels with the most fine detail; all of a small image.

    Detail is the square root of the gradient of the brightness, averaged over 2x2 pixels first. The
    mean keeps noise and JPEG blocks from winning over real structure; the root keeps a few hard
    edges, such as a frame, from winning over a face or leaves. What is transparent counts nothing.
    Among equals the window nearest to the centre is taken.

    Args:
        pixels: (H, W, 1 or 3), uint8, uint16, or float32 in [0, 1].
        alpha: (H, W) of the same type, or None.
    """
    height, width = pixels.shape[:2]
    if width * height <= 2 * CROP_WIDTH * CROP_HEIGHT:
        return Box(0, 0, width, height)
    return _window(_detail(pixels, alpha), width, height)


def choose_difference(pixels: NDArray[Any], versions: Sequence[NDArray[Any]]) -> Box:
    """Return the window of 288x192 pixels where versions differ most; all of what is smaller.

    The squared difference of the brightness, averaged over 2x2 pixels first, is summed over the
    versions. Among equals the window nearest to the centre is taken.

    Args:
        pixels: (H, W, 1 or 3), uint8, uint16, or float32 in [0, 1].
        versions: Others of that height and width.
    """
    height, width = pixels.shape[:2]
    rows, columns = (max(1, side // _CELL) for side in pixels.shape[:2])
    cells = np.zeros((rows, columns))
    for first in range(0, rows, _BAND_CELLS):
        last = min(rows, first + _BAND_CELLS)
        band = slice(first * _CELL, last * _CELL)
        original = _halved(pixels[band])
        for version in versions:
            cells[first:last] += _cell_sums(np.square(_halved(version[band]) - original), columns)
    return _window(cells, width, height)


def _window(cells: NDArray[np.float64], width: int, height: int) -> Box:
    """The window with the largest sum of cells."""
    wide, high = min(width, CROP_WIDTH), min(height, CROP_HEIGHT)
    sums = _window_sums(cells, max(1, wide // _CELL), max(1, high // _CELL))
    row, column = _best(sums)
    return Box(min(column * _CELL, width - wide), min(row * _CELL, height - high), wide, high)


def _detail(pixels: NDArray[Any], alpha: NDArray[Any] | None) -> NDArray[np.float64]:
    """Detail of each whole cell, (H // 8, W // 8); computed in bands, since images are large."""
    rows, columns = (max(1, side // _CELL) for side in pixels.shape[:2])
    cells = np.zeros((rows, columns))
    for first in range(0, rows, _BAND_CELLS):
        last = min(rows, first + _BAND_CELLS)
        band = slice(first * _CELL, last * _CELL)
        edges = np.sqrt(_gradient(_halved(pixels[band])))
        if alpha is not None:
            edges *= alpha[band][::2, ::2][: edges.shape[0], : edges.shape[1]] > 0
        cells[first:last] = _cell_sums(edges, columns)
    return cells


def _halved(band: NDArray[Any]) -> NDArray[np.float32]:
    """Brightness in [0, 1], the mean of each 2x2 pixels."""
    full = 1.0 if band.dtype == np.float32 else float(np.iinfo(band.dtype).max)
    luma = band.astype(np.float32) @ _LUMA if band.shape[2] == 3 else band[..., 0]
    luma = np.nan_to_num(luma.astype(np.float32) / full)
    luma = np.pad(luma, ((0, luma.shape[0] % 2), (0, luma.shape[1] % 2)), mode="edge")
    rows = luma[::2] + luma[1::2]
    return ((rows[:, ::2] + rows[:, 1::2]) / 4).astype(np.float32, copy=False)


def _gradient(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """The length of the step to the next pixel, right and down, of the shape of `luma`."""
    across = np.diff(luma, axis=1, append=luma[:, -1:])
    down = np.diff(luma, axis=0, append=luma[-1:])
    return np.sqrt(across * across + down * down)


def _cell_sums(edges: NDArray[np.float32], columns: int) -> NDArray[np.float64]:
    """Sums over the cells of a band, which are half as large here; cut-off cells are left out."""
    side = _CELL // 2
    rows = max(1, edges.shape[0] // side)
    whole = edges[: rows * side, : columns * side]
    by_row = np.add.reduceat(whole, np.arange(0, whole.shape[0], side), axis=0, dtype=np.float64)
    return np.add.reduceat(by_row, np.arange(0, whole.shape[1], side), axis=1)


def _window_sums(cells: NDArray[np.float64], wide: int, high: int) -> NDArray[np.float64]:
    """The sum of every window of wide x high cells, through an integral image."""
    total = np.pad(cells.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return total[high:, wide:] - total[:-high, wide:] - total[high:, :-wide] + total[:-high, :-wide]


def _best(sums: NDArray[np.float64]) -> tuple[int, int]:
    """Row and column of the largest sum; of equal ones, that nearest to the centre."""
    rows, columns = np.nonzero(sums >= sums.max() * (1 - _NEAR_BEST))
    centre = (sums.shape[0] - 1) / 2, (sums.shape[1] - 1) / 2
    nearest = int(np.argmin((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2))
    return int(rows[nearest]), int(columns[nearest])
