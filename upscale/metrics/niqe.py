"""NIQE: distance between the statistics of an image and those of undistorted photographs."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple

import cv2
import numpy as np

from upscale.metrics.samples import Levels, MetricError, Pixels, check_image, to_luma
from upscale.metrics.scene_statistics import fit, mscn, split_into_blocks

BLOCK = 96
"""Side of a block in pixels; the parameters were fitted for this size."""

_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
_HALVING_OFFSETS = np.array([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5]) / 2


def niqe(pixels: Pixels, *, border: int = 0) -> float:
    """Return the Natural Image Quality Evaluator; lower is better, good photos have 2 to 5.

    Source: Mittal, Soundararajan and Bovik, "Making a 'Completely Blind' Image Quality Analyzer"
    (2013), with the parameters of their release, on BT.601 luma rounded to whole levels. This is
    what BasicSR's `calculate_niqe` computes by default and what papers on super-resolution report.

    Args:
        pixels: Image of shape (H, W), (H, W, 1) or (H, W, 3), RGB; uint8, uint16, or floats in
            [0, 1].
        border: Number of pixels to ignore on every side.

    Returns:
        The distance, 0 or more.

    Raises:
        ValueError: The shape or type is not supported, or the border is negative.
        MetricError: The image has fewer than two blocks of 96x96 pixels with texture.

    Example:
        >>> import numpy as np
        >>> from upscale.metrics import niqe
        >>> noise = np.random.default_rng(0).integers(0, 256, (96, 192), np.uint8)
        >>> niqe(noise) > 10
        True
    """
    plane = np.rint(to_luma(check_image(pixels, border))[..., 0])
    height, width = (side // BLOCK * BLOCK for side in plane.shape)
    if height * width < 2 * BLOCK * BLOCK:
        size = f"{plane.shape[1]}x{plane.shape[0]}"
        raise MetricError(f"{size} does not hold two blocks of {BLOCK}x{BLOCK}, which NIQE needs")
    plane = np.ascontiguousarray(plane[:height, :width])
    features = np.hstack((_features(plane, BLOCK), _features(_halved(plane), BLOCK // 2)))
    textured = features[~np.isnan(features).any(axis=1)]
    if len(textured) < 2:
        raise MetricError("has fewer than two blocks with texture, which NIQE needs")
    pristine = _pristine_model()
    difference = pristine.mean - np.nanmean(features, axis=0)
    covariance = (pristine.covariance + np.cov(textured, rowvar=False)) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(covariance) @ difference))


class _PristineModel(NamedTuple):
    """Mean (36,) and covariance (36, 36) of the features of undistorted photographs."""

    mean: Levels
    covariance: Levels


@cache
def _pristine_model() -> _PristineModel:
    with files("upscale.metrics").joinpath("parameters", "niqe.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        return _PristineModel(stored["mean"], stored["covariance"])


def _features(plane: Levels, side: int) -> Levels:
    """Return 18 features of each block as (N, 18); NaN where a block is flat."""
    blocks = split_into_blocks(mscn(plane), side)
    single = fit(blocks.reshape(len(blocks), -1))
    features = [single.shape, (single.left + single.right) * single.scale_ratio / 2]
    for shift in _SHIFTS:
        products = blocks * np.roll(blocks, shift, axis=(1, 2))
        pair = fit(products.reshape(len(blocks), -1))
        scales = pair.left * pair.scale_ratio, pair.right * pair.scale_ratio
        features += [pair.shape, pair.mean, *scales]
    return np.stack(features, axis=1)


def _halved(plane: Levels) -> Levels:
    """Halve an even size with the antialiased bicubic filter of MATLAB's `imresize`."""
    distance = np.abs(_HALVING_OFFSETS)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    kernel = np.where(distance <= 1, near, far) / 2
    padded = cv2.copyMakeBorder(plane, 4, 4, 4, 4, cv2.BORDER_REFLECT)
    filtered = cv2.sepFilter2D(padded, -1, kernel, kernel, anchor=(3, 3))
    return np.asarray(filtered[4:-4:2, 4:-4:2], np.float64)
