"""BRISQUE: what people would say of an image, guessed from the statistics of its samples."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.metrics.samples import Levels, Pixels, UnfitError, checked, grey_levels
from upscale.metrics.scene_statistics import fit, normalised

SMALLEST_SIDE = 16
"""Pixels. The release takes less, down to a division by 0; figures on less mean nothing."""

_SHIFTS = ((0, 1), (1, 0), (1, 1), (-1, 1))


def brisque(pixels: Pixels, *, border: int = 0) -> float:
    """Return about 0 (good) to 100 (bad); less is better.

    Mittal, Moorthy and Bovik 2012 as in their C++ release, with its regression of opinions on the
    LIVE database, on BT.601 grey that is rounded to whole levels.

    Args:
        pixels: See `niqe`.
        border: See `niqe`.

    Raises:
        ValueError: See `niqe`.
        UnfitError: A side is below 16 pixels, or the image is flat.
    """
    grey = np.rint(grey_levels(checked(pixels, border))[..., 0]) / 255
    height, width = grey.shape
    if min(height, width) < SMALLEST_SIDE:
        raise UnfitError(f"{width}x{height} is less than BRISQUE's {SMALLEST_SIDE}x{SMALLEST_SIDE}")
    half = cv2.resize(grey, (width // 2, height // 2), interpolation=cv2.INTER_CUBIC)
    features = np.concatenate((_features(grey), _features(np.asarray(half, np.float64))))
    if np.isnan(features).any():
        raise UnfitError("is flat, so that BRISQUE has nothing to measure")
    model = _model()
    scaled = 2 * (features - model.low) / (model.high - model.low) - 1
    distances = np.square(model.vectors - scaled).sum(axis=1)
    return float(model.weights @ np.exp(-model.gamma * distances) + model.bias)


class _Model(NamedTuple):
    """A support vector regression with a radial basis.

    Attributes:
        low: (36,), features that become -1.
        high: (36,), features that become 1.
        vectors: (N, 36).
        weights: (N,).
        gamma: Of the radial basis.
        bias: Added to the weighted sum.
    """

    low: Levels
    high: Levels
    vectors: NDArray[np.float32]
    weights: Levels
    gamma: float
    bias: float


@cache
def _model() -> _Model:
    with files("upscale.metrics").joinpath("parameters", "brisque.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        return _Model(
            stored["low"],
            stored["high"],
            stored["vectors"],
            stored["weights"],
            float(stored["gamma"]),
            float(stored["bias"]),
        )


def _features(plane: Levels) -> Levels:
    """18 numbers for a plane in [0, 1]; NaN where it is flat."""
    samples = normalised(plane, 1 / 255)
    own = fit(samples.reshape(1, -1))
    found = [own.shape, (own.left**2 + own.right**2) / 2]
    for down, right in _SHIFTS:
        pair = fit((samples * _shifted(samples, down, right)).reshape(1, -1))
        found += [pair.shape, pair.mean, pair.left**2, pair.right**2]
    return np.concatenate(found)


def _shifted(plane: Levels, down: int, right: int) -> Levels:
    """The neighbours so many rows down and columns to the right; 0 beyond the edge."""
    height, width = plane.shape
    return np.pad(plane, 1)[1 + down : 1 + down + height, 1 + right : 1 + right + width]
