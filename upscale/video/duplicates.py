"""Find frames that repeat the one before, so that they are computed once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from upscale.video.info import PlaneFormat

Duplicates = Literal["exact", "near"]
"""Whether repeated frames are equal, or differ by the noise of a codec."""

DUPLICATE_CHOICES: tuple[Duplicates, ...] = get_args(Duplicates)

_BLOCK = 16
"""Side of the blocks in pixels of which none may differ, so that small motion counts."""

_NOISE = 2.0
"""Largest mean difference of a block, in levels of 8 bits."""


class RepeatFinder:
    """Say of one frame after another whether it repeats an earlier one.

    With `near`, frames are compared with the last one that was not a repetition, so that slow
    changes add up until they count.

    Args:
        planes: Format of the frames.
        duplicates: Kind of frames that count as repeated.
        parts: Times at which parts of the video begin, sorted; with `near`, no frame repeats one of
            an earlier part.
    """

    def __init__(
        self, planes: PlaneFormat, duplicates: Duplicates = "exact", parts: Sequence[int] = ()
    ) -> None:
        self._is_near = duplicates == "near"
        self._limit = _NOISE * (1 << (planes.depth - 8))
        self._parts, self._part = parts, 0
        self._before: Sequence[NDArray[Any]] | None = None

    def repeats(self, pts: int, planes: Sequence[NDArray[Any]]) -> bool:
        """Return whether a frame repeats the one that it is compared with.

        Args:
            pts: Time of the frame.
            planes: Its planes, each of shape (height, width); they are kept, and must not change.
        """
        before, part = self._before, self._part
        if not self._is_near:
            self._before = planes
            return before is not None and all(map(np.array_equal, planes, before))
        self._part = bisect_right(self._parts, pts)
        if before is None or self._part != part or not self._is_similar(planes, before):
            self._before = planes
            return False
        return True

    def _is_similar(self, planes: Sequence[NDArray[Any]], before: Sequence[NDArray[Any]]) -> bool:
        return all(
            _largest_difference(one, other) <= self._limit
            for one, other in zip(planes, before, strict=True)
        )


def _largest_difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the largest mean absolute difference of a block."""
    difference = np.abs(one.astype(np.int32) - other.astype(np.int32))
    height, width = difference.shape
    rows, columns = np.arange(0, height, _BLOCK), np.arange(0, width, _BLOCK)
    sums = np.add.reduceat(np.add.reduceat(difference, rows, 0), columns, 1)
    counts = np.outer(np.diff(rows, append=height), np.diff(columns, append=width))
    return float((sums / counts).max())
