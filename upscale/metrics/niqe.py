"""NIQE: how far the statistics of an image's blocks are from those of undamaged photographs."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple

import cv2
import numpy as np

from upscale.metrics.samples import Levels, Pixels, UnfitError, checked, luma_levels
from upscale.metrics.scene_statistics import fit, in_blocks, normalised

BLOCK = 96
"""Side of a block in pixels, for which the parameters were made."""

_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
_HALVING = np.array([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5]) / 2


def niqe(pixels: Pixels, *, border: int = 0) -> float:
    """Return the distance to undamaged photographs; less is better, good ones have 2 to 5.

    Mittal, Soundararajan and Bovik 2013 with the parameters of their release, on BT.601 luma that
    is rounded to whole levels: what basicsr's `calculate_niqe` does by default, and what papers on
    super-resolution report.

    Args:
        pixels: (H, W), (H, W, 1) or (H, W, 3), RGB; uint8, uint16, or floats in [0, 1].
        border: Pixels on every side that do not count.

    Raises:
        ValueError: The shape or type is not one of these, or the border is below 0.
        UnfitError: There are not two blocks of 96x96 pixels with some texture.
    """
    plane = np.rint(luma_levels(checked(pixels, border))[..., 0])
    height, width = (side // BLOCK * BLOCK for side in plane.shape)
    if height * width < 2 * BLOCK * BLOCK:
        size = f"{plane.shape[1]}x{plane.shape[0]}"
        raise UnfitError(f"{size} does not hold two blocks of {BLOCK}x{BLOCK}, which NIQE needs")
    plane = np.ascontiguousarray(plane[:height, :width])
    features = np.hstack((_features(plane, BLOCK), _features(_halved(plane), BLOCK // 2)))
    textured = features[~np.isnan(features).any(axis=1)]
    if len(textured) < 2:
        raise UnfitError("has no two blocks with texture, which NIQE needs")
    pristine = _pristine()
    difference = pristine.mean - np.nanmean(features, axis=0)
    covariance = (pristine.covariance + np.cov(textured, rowvar=False)) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(covariance) @ difference))


class _Pristine(NamedTuple):
    """Mean (36,) and covariance (36, 36) of the features of undamaged photographs."""

    mean: Levels
    covariance: Levels


@cache
def _pristine() -> _Pristine:
    with files("upscale.metrics").joinpath("parameters", "niqe.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        return _Pristine(stored["mean"], stored["covariance"])


def _features(plane: Levels, side: int) -> Levels:
    """18 numbers for each block, (N, 18); NaN where a block is flat."""
    blocks = in_blocks(normalised(plane), side)
    own = fit(blocks.reshape(len(blocks), -1))
    found = [own.shape, (own.left + own.right) * own.spread / 2]
    for shift in _SHIFTS:
        products = blocks * np.roll(blocks, shift, axis=(1, 2))
        pair = fit(products.reshape(len(blocks), -1))
        found += [pair.shape, pair.mean, pair.left * pair.spread, pair.right * pair.spread]
    return np.stack(found, axis=1)


def _halved(plane: Levels) -> Levels:
    """Half of an even size by the antialiased bicubic filter of MATLAB's `imresize`."""
    away = np.abs(_HALVING)
    near = (1.5 * away - 2.5) * away**2 + 1
    far = ((-0.5 * away + 2.5) * away - 4) * away + 2
    kernel = np.where(away <= 1, near, far) / 2
    padded = cv2.copyMakeBorder(plane, 4, 4, 4, 4, cv2.BORDER_REFLECT)
    filtered = cv2.sepFilter2D(padded, -1, kernel, kernel, anchor=(3, 3))
    return np.asarray(filtered[4:-4:2, 4:-4:2], np.float64)
