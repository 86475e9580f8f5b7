"""BRISQUE: opinion score predicted from the statistics of an image."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.metrics.samples import Levels, MetricError, Pixels, check_image, to_grey
from upscale.metrics.scene_statistics import fit, mscn

SMALLEST_SIDE = 16
"""Pixels. The release accepts less, down to a division by 0; such scores mean nothing."""

_SHIFTS = ((0, 1), (1, 0), (1, 1), (-1, 1))


def brisque(pixels: Pixels, *, border: int = 0) -> float:
    """Return the BRISQUE score, about 0 (good) to 100 (bad); lower is better.

    Source: Mittal, Moorthy and Bovik, "No-Reference Image Quality Assessment in the Spatial
    Domain" (2012), as in their C++ release with its regression on the LIVE database, on BT.601
    grey rounded to whole levels.

    Args:
        pixels: Image of shape (H, W), (H, W, 1) or (H, W, 3), RGB; uint8, uint16, or floats in
            [0, 1].
        border: Number of pixels to ignore on every side.

    Returns:
        The predicted difference mean opinion score.

    Raises:
        ValueError: The shape or type is not supported, or the border is negative.
        MetricError: A side is below 16 pixels, or the image is flat.

    Example:
        >>> import numpy as np
        >>> from upscale.metrics import brisque
        >>> noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
        >>> brisque(noise) > 50
        True
    """
    grey = np.rint(to_grey(check_image(pixels, border))[..., 0]) / 255
    height, width = grey.shape
    if min(height, width) < SMALLEST_SIDE:
        raise MetricError(
            f"{width}x{height} is smaller than {SMALLEST_SIDE}x{SMALLEST_SIDE}, which BRISQUE needs"
        )
    half = cv2.resize(grey, (width // 2, height // 2), interpolation=cv2.INTER_CUBIC)
    features = np.concatenate((_features(grey), _features(np.asarray(half, np.float64))))
    if np.isnan(features).any():
        raise MetricError("is flat, so BRISQUE has no texture to measure")
    model = _model()
    scaled = 2 * (features - model.low) / (model.high - model.low) - 1
    distances = np.square(model.vectors - scaled).sum(axis=1)
    return float(model.weights @ np.exp(-model.gamma * distances) + model.bias)


class _Model(NamedTuple):
    """A support vector regression with a radial basis kernel.

    Attributes:
        low: Features that are scaled to -1, (36,).
        high: Features that are scaled to 1, (36,).
        vectors: Support vectors, (N, 36).
        weights: Weights of the support vectors, (N,).
        gamma: Coefficient of the kernel.
        bias: Constant that is added to the weighted sum.
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
            low=stored["low"],
            high=stored["high"],
            vectors=stored["vectors"],
            weights=stored["weights"],
            gamma=float(stored["gamma"]),
            bias=float(stored["bias"]),
        )


def _features(plane: Levels) -> Levels:
    """Return 18 features of a plane in [0, 1]; NaN where it is flat."""
    samples = mscn(plane, 1 / 255)
    single = fit(samples.reshape(1, -1))
    features = [single.shape, (single.left**2 + single.right**2) / 2]
    for down, right in _SHIFTS:
        pair = fit((samples * _shifted(samples, down, right)).reshape(1, -1))
        features += [pair.shape, pair.mean, pair.left**2, pair.right**2]
    return np.concatenate(features)


def _shifted(plane: Levels, down: int, right: int) -> Levels:
    """Return the neighbours `down` rows below and `right` columns beside; 0 past the edge."""
    height, width = plane.shape
    return np.pad(plane, 1)[1 + down : 1 + down + height, 1 + right : 1 + right + width]
