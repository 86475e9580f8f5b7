"""Traces of JPEG and of other codecs with blocks of 8x8 pixels, in the pixels alone.

A decoded JPEG shows where its blocks were, and how coarsely they were quantised: at the right phase
many coefficients of the cosine transform are 0, and the others are multiples of the steps (Z. Fan,
R. L. de Queiroz, Identification of bitmap compression history, IEEE TIP 12(2), 2003). Textures and
things that repeat every 8 pixels have no such coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.selection.jpeg_quality import luma_table
from upscale.selection.patches import Floats, Patch, luma_of

_SIDE, _MAX_PATCHES = 8, 3
_NUMBERS = np.arange(_SIDE)
_BASIS = np.cos((2 * _NUMBERS + 1) * _NUMBERS[:, None] * np.pi / (2 * _SIDE)).astype(np.float32) / 2
_BASIS[0] /= np.sqrt(2)
_HIGH = range(4, _SIDE)
# A coefficient that was 0 differs from it by rounding to whole levels.
_ZERO = 0.6
_PLAINEST, _MIN_BLOCKS, _DISTINCT_SHARE = 3.0, 16, 0.5
_QUALITIES = range(10, 99)
_FINEST_STEP, _MIN_COEFFICIENTS = 3, 50
# Share of the grid above that of chance; agreement with multiples of the steps, at most 1.
_MIN_GRID, _MIN_AGREEMENT = 0.06, 0.35


@dataclass(frozen=True, slots=True)
class Compression:
    """Traces of compression.

    Attributes:
        grid: Excess of the share of zero coefficients at the grid over that elsewhere, 0..1;
            at most about 0.05 without compression.
        quality: JPEG quality that the pixels were quantised with; None if it cannot be seen.
    """

    grid: float
    quality: int | None


def compression_of(patches: Sequence[Patch]) -> Compression:
    """Find the traces of a block codec in an image; the clearest patch counts.

    Args:
        patches: Patches of one image, from plain ones to the most detailed.
    """
    lumas = [luma_of(patch) for patch in patches[-_MAX_PATCHES:]]
    grids = [(*_grid_of(luma), luma) for luma in lumas if min(luma.shape) >= 3 * _SIDE]
    strength, phase, luma = max(grids, key=lambda each: each[0], default=(0.0, (0, 0), None))
    if luma is None or strength < _MIN_GRID:
        return Compression(max(0.0, strength), None)
    coefficients = _coefficients(luma, phase)
    if _is_pattern(coefficients):
        return Compression(0.0, None)
    return Compression(strength, _quality_of(coefficients))


def _grid_of(luma: Patch) -> tuple[float, tuple[int, int]]:
    """Return the strength of the strongest grid of 8x8 blocks, and its first row and column."""
    high = np.zeros(luma.shape, np.float32)
    for row in _HIGH:
        for column in _HIGH:
            part = cv2.sepFilter2D(luma, cv2.CV_32F, _BASIS[column], _BASIS[row], anchor=(0, 0))
            high += np.abs(part) < _ZERO
    # Plain blocks have no such coefficients in any phase, and drawings only plain ones.
    busy = (_deviation(luma) > _PLAINEST).astype(np.float32)
    shares, counts = _by_phase(high * busy), _by_phase(busy)
    usual = float(np.median(counts))
    if usual < _MIN_BLOCKS:
        return 0.0, (0, 0)
    shares = np.where(counts >= usual / 2, shares / np.maximum(1, counts) / len(_HIGH) ** 2, 0)
    top, left = divmod(int(shares.argmax()), _SIDE)
    rows, columns = _distance(top) > 1, _distance(left) > 1
    return float(shares[top, left] - np.median(shares[np.ix_(rows, columns)])), (top, left)


def _deviation(luma: Patch) -> Floats:
    """Return the deviation in the 8x8 pixels right of and below each pixel."""
    means = [
        np.asarray(cv2.boxFilter(values, -1, (_SIDE, _SIDE), anchor=(0, 0)))
        for values in (luma, np.square(luma))
    ]
    return np.sqrt(np.maximum(0, means[1] - np.square(means[0])))


def _by_phase(values: Floats) -> Floats:
    """Sum values over all blocks, for each phase of the grid."""
    rows, columns = ((size - _SIDE + 1) // _SIDE * _SIDE for size in values.shape)
    blocks = values[:rows, :columns].reshape(rows // _SIDE, _SIDE, columns // _SIDE, _SIDE)
    return blocks.sum(axis=(0, 2), dtype=np.float64)


def _distance(phase: int) -> NDArray[np.int64]:
    """Return the distances of all phases of a grid from one."""
    apart = np.abs(_NUMBERS - phase)
    return np.minimum(apart, _SIDE - apart)


def _coefficients(luma: Patch, phase: tuple[int, int]) -> Floats:
    """Return the cosine transform of each block as a row of 64."""
    top, left = phase
    rows, columns = (luma.shape[0] - top) // _SIDE, (luma.shape[1] - left) // _SIDE
    part = luma[top : top + rows * _SIDE, left : left + columns * _SIDE] - 128
    blocks = part.reshape(rows, _SIDE, columns, _SIDE).transpose(0, 2, 1, 3)
    transformed: Floats = _BASIS @ blocks @ _BASIS.T
    return transformed.reshape(-1, _SIDE**2)


def _is_pattern(coefficients: Floats) -> bool:
    """Return whether few blocks that are not plain differ, as where a pattern is repeated."""
    changes = np.rint(coefficients[:, 1:])
    busy = changes[np.square(changes).sum(axis=1) > _SIDE**2 * _PLAINEST**2]
    return len(np.unique(busy, axis=0)) < _DISTINCT_SHARE * len(busy)


def _quality_of(coefficients: Floats) -> int | None:
    """Return the quality whose steps the coefficients are multiples of."""
    agreements = [_agreement(coefficients, luma_table(quality)) for quality in _QUALITIES]
    best = int(np.argmax(agreements))
    return _QUALITIES[best] if agreements[best] > _MIN_AGREEMENT else None


def _agreement(coefficients: Floats, steps: NDArray[np.int64]) -> float:
    """Return 1 if all coefficients above half a step are multiples of the steps, 0 by chance."""
    used = steps >= _FINEST_STEP
    # The mean level of a block is no evidence: it varies too much to be near few multiples.
    used[0] = False
    multiples = coefficients[:, used] / steps[used]
    others = multiples[np.abs(multiples) > 0.5]
    return float(np.cos(2 * np.pi * others).mean()) if len(others) >= _MIN_COEFFICIENTS else 0.0
