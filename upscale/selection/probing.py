"""What a network that removes damage makes of crops, which tells noise from fine texture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.selection.noise import high_frequencies
from upscale.selection.patches import (
    Floats,
    block_means,
    detailed_crops,
    in_levels,
    luma_of,
)

_SIDE, _LEAST_SIDE, _COUNT, _MARGIN = 64, 32, 3, 8
_BLOCK, _PLAIN_SHARE = 8, 0.25
# Keeps ratios of powers finite, below the power of rounding to whole levels.
_FLOOR = 0.05


@dataclass(frozen=True, slots=True)
class Findings:
    """What a network for damaged images changes; natural logarithms of ratios.

    Attributes:
        gain: Power of the finest detail of its output, shrunk to the input's size, over that of
            the input: above 0 it sharpened, below 0 it smoothed.
        plain_gain: Gain in the plainest quarter: far below 0 it removed noise.
        change: Mean change over the mean strength of the finest detail.
    """

    gain: float
    plain_gain: float
    change: float


Upscale = Callable[[NDArray[Any]], NDArray[Any]]
"""Upscales an (H, W, C) crop."""


def findings_of(pixels: NDArray[Any], upscale: Upscale) -> Findings:
    """Let a network for damaged images upscale crops; the median of the crops counts.

    Args:
        pixels: Image of shape (H, W, C).
        upscale: The network.
    """
    crops = detailed_crops(_mirrored(pixels), _SIDE, _COUNT)
    rows = [_compared(crop, upscale(crop)) for crop in crops]
    return Findings(*(float(value) for value in np.median(rows, axis=0)))


def _mirrored(pixels: NDArray[Any]) -> NDArray[Any]:
    """Mirror an image at its edges until it is large enough for a crop."""
    missing = [max(0, _LEAST_SIDE - side) for side in pixels.shape[:2]]
    borders = [(length // 2, length - length // 2) for length in missing]
    return np.pad(pixels, (*borders, (0, 0)), "symmetric") if any(missing) else pixels


def _compared(crop: NDArray[Any], output: NDArray[Any]) -> tuple[float, float, float]:
    """Return the fields of `Findings` for a crop and the network's output."""
    source, large = luma_of(in_levels(crop)), luma_of(in_levels(output))
    size = source.shape[1], source.shape[0]
    shrunk = np.asarray(cv2.resize(large, size, interpolation=cv2.INTER_AREA), np.float32)
    inner = slice(_MARGIN, -_MARGIN)
    before = high_frequencies(source)[inner, inner]
    after = high_frequencies(shrunk)[inner, inner]
    change = np.abs(shrunk - source)[inner, inner].mean()
    old, new = (block_means(np.square(values), _BLOCK) for values in (before, after))
    plain = old <= np.quantile(old, _PLAIN_SHARE)
    return (
        _ratio(new, old),
        _ratio(new[plain], old[plain]),
        float(np.log((change + 0.1) / (np.abs(before).mean() + 0.1))),
    )


def _ratio(above: Floats, below: Floats) -> float:
    return float(np.log((above.mean() + _FLOOR) / (below.mean() + _FLOOR)))
