"""Natural scene statistics, the common basis of NIQE, BRISQUE and PIQE.

In an undistorted photograph, samples minus their local mean, divided by their local deviation, are
nearly normal, and products of neighbours have a known skew (Ruderman 1994; Mittal et al. 2012).
Distortions change the shapes of these distributions.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from upscale.metrics.samples import Levels

_RADIUS = 3
_SIGMA = 7 / 6
_SHAPES = np.arange(200, 10001) / 1000


class AsymmetricGaussian(NamedTuple):
    """Parameters of asymmetric generalised Gaussian distributions, each of shape (N,).

    Source: Lasmar, Stitou and Berthoumieu, "Multiscale Skewed Heavy Tailed Model for Texture
    Analysis" (2009).

    Attributes:
        shape: Exponent; 2 is a normal distribution.
        left: Standard deviation of the negative samples.
        right: Standard deviation of the positive samples.
    """

    shape: Levels
    left: Levels
    right: Levels

    @property
    def scale_ratio(self) -> Levels:
        """Factor from the standard deviation to the scale of the distribution."""
        return np.sqrt(_gamma(1 / self.shape) / _gamma(3 / self.shape))

    @property
    def mean(self) -> Levels:
        """Mean of the distribution."""
        ratio = _gamma(2 / self.shape) / _gamma(1 / self.shape)
        return (self.right - self.left) * self.scale_ratio * ratio


def mscn(plane: Levels, constant: float = 1.0) -> Levels:
    """Return the mean-subtracted contrast-normalised coefficients of a plane.

    Source: Mittal, Moorthy and Bovik (2012), equations 1 to 3.

    Args:
        plane: Array of shape (H, W).
        constant: Value added to the local deviation, so that flat parts become nearly 0.
    """
    mean = _local_mean(plane)
    deviation = np.sqrt(np.abs(_local_mean(plane * plane) - mean * mean))
    return (plane - mean) / (deviation + constant)


def split_into_blocks(plane: Levels, side: int) -> Levels:
    """Split (H, W), both multiples of `side`, into blocks of shape (N, side, side)."""
    rows, columns = plane.shape[0] // side, plane.shape[1] // side
    blocks = plane.reshape(rows, side, columns, side).swapaxes(1, 2)
    return blocks.reshape(rows * columns, side, side)


def fit(samples: Levels) -> AsymmetricGaussian:
    """Fit an asymmetric generalised Gaussian to each row of (N, count) by moment matching.

    As in the original releases, the shape is the nearest of 0.2, 0.201, ..., 10. The deviation of
    a side is NaN in rows that have no sample on that side of 0.
    """
    squares = samples * samples
    with np.errstate(invalid="ignore", divide="ignore"):
        left = np.sqrt(_mean_where(squares, samples < 0))
        right = np.sqrt(_mean_where(squares, samples > 0))
        ratio = left / right
        moments = np.abs(samples).mean(axis=1) ** 2 / squares.mean(axis=1)
        target = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    return AsymmetricGaussian(_nearest_shape(target), left, right)


def _local_mean(plane: Levels) -> Levels:
    """Average with a Gaussian window of 7x7; the edge pixels are repeated.

    In exactly flat parts only rounding errors are left of a sample, and the fit counts their
    signs. Sums in a fixed order give the same signs on every machine, which a library filter does
    not.
    """
    return _column_mean(_column_mean(plane).T).T


def _column_mean(plane: Levels) -> Levels:
    weights = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    weights /= weights.sum()
    padded = np.pad(plane, ((_RADIUS, _RADIUS), (0, 0)), mode="edge")
    mean = np.zeros_like(plane)
    for offset, weight in enumerate(weights):
        mean += weight * padded[offset : offset + len(plane)]
    return mean


def _mean_where(values: Levels, mask: NDArray[np.bool_]) -> Levels:
    return np.where(mask, values, 0).sum(axis=1) / mask.sum(axis=1)


def _nearest_shape(target: Levels) -> Levels:
    """Return the shapes with the nearest moment ratio; the smallest shape for NaN."""
    ratios = _moment_ratios()
    after = np.searchsorted(ratios, target).clip(1, len(ratios) - 1)
    is_below_nearer = target - ratios[after - 1] <= ratios[after] - target
    shapes = _SHAPES[np.where(is_below_nearer, after - 1, after)]
    return np.where(np.isnan(target), _SHAPES[0], shapes)


@cache
def _moment_ratios() -> Levels:
    """Return E[|x|]^2 / E[x^2] of each shape, which increases with the shape."""
    return _gamma(2 / _SHAPES) ** 2 / (_gamma(1 / _SHAPES) * _gamma(3 / _SHAPES))


def _gamma(values: Levels) -> Levels:
    return np.array([math.gamma(value) for value in values])
