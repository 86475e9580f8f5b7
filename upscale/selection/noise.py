"""How noisy an image is, from the plainest of its blocks."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from upscale.selection.patches import Patch, block_means, luma_of

# Difference of two Laplacians, blind to edges and slopes; it keeps the deviation of white noise
# (J. Immerkaer, Fast Noise Variance Estimation, CVIU 64(2), 1996).
_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
_SIDE, _PLAIN_SHARE = 8, 0.1
# The plainest tenth of blocks deviates less than the rest by this factor, for white noise.
_PLAIN_FACTOR = 0.846
_DARKEST, _BRIGHTEST = 1, 254
# Differences of channels below this deviation are no colour.
_GREY, _COLOURLESS = 2.0, 0.5


def luma_noise_of(patches: Sequence[Patch]) -> float:
    """Estimate the standard deviation of noise in luma, in levels 0..255.

    Images that are fine texture everywhere measure as if they were noisy.

    Args:
        patches: Patches of one image.
    """
    return _plain_deviation([_where_seen(patch, luma_of(patch)) for patch in patches])


def colour_noise_of(patches: Sequence[Patch]) -> float | None:
    """Estimate the standard deviation of noise that differs between channels.

    White noise in each channel measures as it is; textures have little.

    Args:
        patches: Patches of one image.

    Returns:
        None where the image is grey.
    """
    if patches[0].shape[2] == 1:
        return None
    differences = [[patch[..., channel] - patch[..., 1] for patch in patches] for channel in (0, 2)]
    if max(float(part.std()) for parts in differences for part in parts) < _GREY:
        return None
    seen = [
        [_where_seen(patch, _coloured(part)) for patch, part in zip(patches, parts, strict=True)]
        for parts in differences
    ]
    return float(np.mean([_plain_deviation(parts) for parts in seen]) / np.sqrt(2))


def high_frequencies(channel: Patch) -> Patch:
    """Return the finest details of an (H, W) array, as strong as white noise was.

    Args:
        channel: Luma, or one channel.
    """
    return np.asarray(cv2.filter2D(channel, cv2.CV_32F, _MASK), np.float32)


def _coloured(difference: Patch) -> Patch:
    """Replace the difference of two channels by NaN where all around is grey."""
    around = cv2.blur(np.abs(difference), (_SIDE, _SIDE))
    return np.where(np.asarray(around) > _COLOURLESS, difference, np.float32(np.nan))


def _where_seen(patch: Patch, values: Patch) -> Patch:
    """Replace values by NaN where a channel is black or white, so that noise cannot be seen."""
    seen = (patch.min(axis=2) > _DARKEST) & (patch.max(axis=2) < _BRIGHTEST)
    return np.where(seen, values, np.float32(np.nan))


def _plain_deviation(channels: Sequence[Patch]) -> float:
    """Return the deviation in the plainest blocks of arrays of shape (H, W)."""
    parts = [_deviations(channel) for channel in channels if min(channel.shape) >= 3]
    deviations = np.concatenate(parts) if parts else np.zeros(0)
    return float(np.quantile(deviations, _PLAIN_SHARE)) / _PLAIN_FACTOR if len(deviations) else 0.0


def _deviations(channel: Patch) -> Patch:
    """Return the deviation of the high frequencies in each block without NaN."""
    high = high_frequencies(channel)[1:-1, 1:-1]
    deviations = np.sqrt(block_means(np.square(high), _SIDE))
    return deviations[np.isfinite(deviations)]
