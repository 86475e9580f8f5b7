"""Linear interpolation between the pixels of a source, and images that keep its means."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.images.image import Pixels
from upscale.images.pixels.depth import full_scale
from upscale.images.pixels.row_chunks import row_chunks

_Plane = NDArray[np.float32]

_ROUNDS = 3
"""Number of times that the difference to the source is added back."""


def match_means(large: Pixels, source: Pixels, seamless: str = "") -> None:
    """Correct an upscaled image in place, so that its means are the pixels of its source.

    Networks shift values and change contrasts a little, which data must not. The difference of
    each source pixel to the mean over its area is added back, interpolated.

    Args:
        large: Upscaled image of shape (H, W, C), uint8, uint16 or float32; smaller images than
            the source are left unchanged.
        source: Image of shape (h, w, C) and the same type.
        seamless: Directions in which the image repeats: `x`, `y` or `xy`.
    """
    if large.shape[0] < source.shape[0] or large.shape[1] < source.shape[1]:
        return
    full = full_scale(large.dtype)
    grid = Grid(large.shape[:2], source.shape[:2], seamless)
    for channel in range(source.shape[2]):
        plain = source[..., channel].astype(np.float32)
        plane = large[..., channel].astype(np.float32)
        for _ in range(_ROUNDS):
            reduced = cv2.resize(plane, plain.shape[::-1], interpolation=cv2.INTER_AREA)
            missing = plain - reduced.reshape(plain.shape)
            for rows in row_chunks(plane.shape):
                plane[rows] += grid.linear(missing, rows)
            plane.clip(0, full, out=plane)
        large[..., channel] = np.rint(plane, out=plane) if large.dtype.kind == "u" else plane


class Grid:
    """Upscales planes of shape (h, w) to row chunks of shape (H, W), never to a whole plane.

    Args:
        shape: Height and width of the upscaled plane.
        source_shape: Height and width of the plane.
        seamless: Directions in which the plane repeats: `x`, `y` or `xy`.
    """

    def __init__(
        self, shape: tuple[int, ...], source_shape: tuple[int, ...], seamless: str = ""
    ) -> None:
        self._shape = shape
        self._source_shape = source_shape
        self._wraps = "y" in seamless, "x" in seamless
        self._rows, self._columns = (
            (np.arange(length) + 0.5) * (source_length / length)
            for length, source_length in zip(shape, source_shape, strict=True)
        )

    def nearest(self, plane: _Plane, rows: slice) -> _Plane:
        """Return the value of the source pixel that contains each pixel of a row chunk."""
        return plane[np.ix_(self._rows[rows].astype(np.intp), self._columns.astype(np.intp))]

    def linear(self, plane: _Plane, rows: slice) -> _Plane:
        """Interpolate linearly between the centres of the source pixels."""
        first, second, share = self._neighbours(self._rows[rows], 0)
        tall = (plane[first] + (plane[second] - plane[first]) * share[:, None]).astype(np.float32)
        if not self._wraps[1]:
            return resize_plane(tall, (self._shape[1], len(tall)), cv2.INTER_LINEAR)
        first, second, share = self._neighbours(self._columns, 1)
        return (tall[:, first] + (tall[:, second] - tall[:, first]) * share).astype(np.float32)

    def _neighbours(
        self, positions: NDArray[Any], axis: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], _Plane]:
        """Return the two source pixels around each position, and the share of the second."""
        length = self._source_shape[axis]
        positions = positions - 0.5
        if not self._wraps[axis]:
            positions = positions.clip(0, length - 1)
        first = np.floor(positions).astype(np.intp)
        share = (positions - first).astype(np.float32)
        if self._wraps[axis]:
            return first % length, (first + 1) % length, share
        return first, np.minimum(first + 1, length - 1), share


def resize_plane(plane: _Plane, size: tuple[int, int], how: int) -> _Plane:
    """Resize to (width, height), keeping the number of axes, which OpenCV reduces for C = 1."""
    return np.asarray(cv2.resize(plane, size, interpolation=how), np.float32).reshape(
        size[1], size[0], *plane.shape[2:]
    )
