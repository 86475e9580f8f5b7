"""Automatic crops: the part of an image with most detail, or with most difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CROP_WIDTH, CROP_HEIGHT = 288, 192
"""Size of an automatic crop in pixels; upscaled by 4, it fits a laptop screen at 100 %."""

_CELL = 8
"""Side in pixels of the cells whose detail is summed; windows start at multiples of it."""
_CHUNK_CELLS = 64
"""Rows of cells that are computed at once, because images can be large."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_NEAR_BEST = 1e-6


class Box(NamedTuple):
    """A rectangle in an image, in pixels; `x` and `y` are its left and top edges."""

    x: int
    y: int
    width: int
    height: int

    def fits_in(self, size: tuple[int, int]) -> bool:
        """Whether an image of `size` = (width, height) contains the whole box."""
        return self.x + self.width <= size[0] and self.y + self.height <= size[1]

    def expanded(self, margin: int, size: tuple[int, int]) -> Box:
        """Return the box with a margin on every side, clipped to an image of `size`."""
        left, top = max(0, self.x - margin), max(0, self.y - margin)
        right = min(size[0], self.x + self.width + margin)
        bottom = min(size[1], self.y + self.height + margin)
        return Box(left, top, right - left, bottom - top)

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of the box in an array of shape (H, W, ...)."""
        return array[self.y : self.y + self.height, self.x : self.x + self.width]


def choose_crop(pixels: NDArray[Any], alpha: NDArray[Any] | None = None) -> Box:
    """Return the window of 288x192 pixels with most fine detail; all of a small image.

    Detail is the square root of the gradient of the brightness, which is averaged over 2x2 pixels
    first. The average keeps noise and JPEG blocks from outweighing real structure; the root keeps
    a few hard edges, such as a frame, from outweighing a face or leaves. Transparent pixels do not
    count. Among equal windows, the one nearest to the centre is chosen.

    Args:
        pixels: Array of shape (H, W, 1 or 3), uint8, uint16, or float32 in [0, 1].
        alpha: Array of shape (H, W) and the same type, or None.
    """
    height, width = pixels.shape[:2]
    if width * height <= 2 * CROP_WIDTH * CROP_HEIGHT:
        return Box(0, 0, width, height)
    cells = _empty_cells(pixels)
    for row, rows in _chunks(len(cells)):
        edges = np.sqrt(_gradient(_halved(pixels[rows])))
        if alpha is not None:
            edges *= alpha[rows][::2, ::2][: edges.shape[0], : edges.shape[1]] > 0
        cells[row : row + _CHUNK_CELLS] = _cell_sums(edges, cells.shape[1])
    return _best_window(cells, width, height)


def choose_difference(pixels: NDArray[Any], versions: Sequence[NDArray[Any]]) -> Box:
    """Return the window of 288x192 pixels where versions differ most; all of a small image.

    The squared difference of the brightness, which is averaged over 2x2 pixels first, is summed
    over the versions. Among equal windows, the one nearest to the centre is chosen.

    Args:
        pixels: Array of shape (H, W, 1 or 3), uint8, uint16, or float32 in [0, 1].
        versions: Other arrays of the same height and width.
    """
    height, width = pixels.shape[:2]
    cells = _empty_cells(pixels)
    for row, rows in _chunks(len(cells)):
        original = _halved(pixels[rows])
        for version in versions:
            difference = np.square(_halved(version[rows]) - original)
            cells[row : row + _CHUNK_CELLS] += _cell_sums(difference, cells.shape[1])
    return _best_window(cells, width, height)


def _empty_cells(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Return zeros for each complete cell, (H // 8, W // 8)."""
    return np.zeros([max(1, side // _CELL) for side in pixels.shape[:2]])


def _chunks(cell_rows: int) -> Iterator[tuple[int, slice]]:
    """Yield the first row of cells of each chunk, and its rows of pixels."""
    for row in range(0, cell_rows, _CHUNK_CELLS):
        yield row, slice(row * _CELL, min(cell_rows, row + _CHUNK_CELLS) * _CELL)


def _best_window(cells: NDArray[np.float64], width: int, height: int) -> Box:
    """Return the window with the largest sum of cells."""
    wide, high = min(width, CROP_WIDTH), min(height, CROP_HEIGHT)
    sums = _window_sums(cells, max(1, wide // _CELL), max(1, high // _CELL))
    row, column = _best_position(sums)
    return Box(min(column * _CELL, width - wide), min(row * _CELL, height - high), wide, high)


def _halved(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Return the brightness in [0, 1], averaged over 2x2 pixels."""
    full = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    luma = pixels.astype(np.float32) @ _LUMA if pixels.shape[2] == 3 else pixels[..., 0]
    luma = np.nan_to_num(luma.astype(np.float32) / full)
    luma = np.pad(luma, ((0, luma.shape[0] % 2), (0, luma.shape[1] % 2)), mode="edge")
    rows = luma[::2] + luma[1::2]
    return ((rows[:, ::2] + rows[:, 1::2]) / 4).astype(np.float32, copy=False)


def _gradient(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the gradient magnitude from the next pixels to the right and below."""
    across = np.diff(luma, axis=1, append=luma[:, -1:])
    down = np.diff(luma, axis=0, append=luma[-1:])
    return np.sqrt(across * across + down * down)


def _cell_sums(edges: NDArray[np.float32], columns: int) -> NDArray[np.float64]:
    """Sum over the cells of a chunk of half size; incomplete cells are dropped."""
    side = _CELL // 2
    rows = max(1, edges.shape[0] // side)
    complete = edges[: rows * side, : columns * side]
    starts = [np.arange(0, length, side) for length in complete.shape]
    by_row = np.add.reduceat(complete, starts[0], axis=0, dtype=np.float64)
    return np.add.reduceat(by_row, starts[1], axis=1)


def _window_sums(cells: NDArray[np.float64], wide: int, high: int) -> NDArray[np.float64]:
    """Return the sum of every window of wide x high cells, from an integral image."""
    total = np.pad(cells.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return total[high:, wide:] - total[:-high, wide:] - total[high:, :-wide] + total[:-high, :-wide]


def _best_position(sums: NDArray[np.float64]) -> tuple[int, int]:
    """Return row and column of the largest sum; among equal ones, the nearest to the centre."""
    rows, columns = np.nonzero(sums >= sums.max() * (1 - _NEAR_BEST))
    centre = (sums.shape[0] - 1) / 2, (sums.shape[1] - 1) / 2
    nearest = int(np.argmin((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2))
    return int(rows[nearest]), int(columns[nearest])
