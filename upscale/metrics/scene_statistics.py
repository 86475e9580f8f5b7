"""Statistics of natural images: what NIQE, BRISQUE and PIQE measure in common.

Each sample, less the mean around it and divided by the deviation around it, is nearly normal in an
undamaged photograph, and products of neighbours are skewed in a known way (Ruderman 1994; Mittal et
al. 2012). Damage shows in the shapes of these distributions.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upscale.metrics.samples import Levels

_REACH = 3
_SPREAD = 7 / 6
_SHAPES = np.arange(200, 10001) / 1000


class Asymmetric(NamedTuple):
    """Asymmetric generalised Gaussians, each field (N,): shape, and deviation on either side."""

    shape: Levels
    left: Levels
    right: Levels

    @property
    def spread(self) -> Levels:
        """The factor from a deviation to the scale of the distribution."""
        return np.sqrt(_gamma(1 / self.shape) / _gamma(3 / self.shape))

    @property
    def mean(self) -> Levels:
        """Where the distribution is centred."""
        steepness = _gamma(2 / self.shape) / _gamma(1 / self.shape)
        return (self.right - self.left) * self.spread * steepness


def normalised(plane: Levels, steadier: float = 1.0) -> Levels:
    """Return (H, W): each sample less its surroundings' mean, over their deviation.

    Args:
        plane: (H, W).
        steadier: Added to the deviation, so that flat parts become nearly 0.
    """
    mean = _averaged(plane)
    deviation = np.sqrt(np.abs(_averaged(plane * plane) - mean * mean))
    return (plane - mean) / (deviation + steadier)


def in_blocks(plane: Levels, side: int) -> Levels:
    """Cut (H, W), whose sides are multiples of `side`, into (N, side, side)."""
    rows, columns = plane.shape[0] // side, plane.shape[1] // side
    cut = plane.reshape(rows, side, columns, side).swapaxes(1, 2)
    return cut.reshape(rows * columns, side, side)


def fit(samples: Levels) -> Asymmetric:
    """Fit an asymmetric generalised Gaussian to each row of (N, count) by matching moments.

    As in the original releases the shape is the nearest of 0.2, 0.201, ..., 10. Where a row has no
    sample on one side of 0, its deviation there is NaN.
    """
    squares = samples * samples
    with np.errstate(invalid="ignore", divide="ignore"):
        left = np.sqrt(_mean_where(squares, samples < 0))
        right = np.sqrt(_mean_where(squares, samples > 0))
        ratio = left / right
        moments = np.abs(samples).mean(axis=1) ** 2 / squares.mean(axis=1)
        wanted = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    return Asymmetric(_nearest_shape(wanted), left, right)


def _averaged(plane: Levels) -> Levels:
    """Means under a Gaussian window of 7x7; the edge goes on with its last samples.

    Where an image is exactly flat, what is left of a sample is a rounding error, and the fits
    count its sign. Sums in a fixed order give the same signs on every machine.
    """
    return _averaged_down(_averaged_down(plane).T).T


def _averaged_down(plane: Levels) -> Levels:
    weights = np.exp(-0.5 * (np.arange(-_REACH, _REACH + 1) / _SPREAD) ** 2)
    weights /= weights.sum()
    padded = np.pad(plane, ((_REACH, _REACH), (0, 0)), mode="edge")
    found = np.zeros_like(plane)
    for place, weight in enumerate(weights):
        found += weight * padded[place : place + len(plane)]
    return found


def _mean_where(values: Levels, chosen: NDArray[np.bool_]) -> Levels:
    return np.where(chosen, values, 0).sum(axis=1) / chosen.sum(axis=1)


def _nearest_shape(wanted: Levels) -> Levels:
    """The shape whose ratio of moments is nearest; the smallest one for NaN."""
    ratios = _ratios()
    after = np.searchsorted(ratios, wanted).clip(1, len(ratios) - 1)
    nearer_below = wanted - ratios[after - 1] <= ratios[after] - wanted
    found = _SHAPES[np.where(nearer_below, after - 1, after)]
    return np.where(np.isnan(wanted), _SHAPES[0], found)


@cache
def _ratios() -> Levels:
    """Squared mean over mean square of each shape's absolute values; grows with the shape."""
    return _gamma(2 / _SHAPES) ** 2 / (_gamma(1 / _SHAPES) * _gamma(3 / _SHAPES))


def _gamma(values: Levels) -> Levels:
    return np.array([math.gamma(value) for value in values])
