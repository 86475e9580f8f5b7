"""PIQE: the share of an image's active blocks that show noise or artefacts."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from upscale.metrics.samples import Levels, Pixels, checked, grey_levels
from upscale.metrics.scene_statistics import in_blocks, normalised

_BLOCK = 16
_SEGMENT = 6
_ACTIVE = 0.1
_IMPAIRED = 0.1
_CENTRE = [7, 8]
_SURROUND = [column for column in range(_BLOCK) if column not in (7, 9)]
"""MATLAB's `piqe` removes one column after the other, and so the one beside the centre; what is
compared with its figures has to do the same."""


def piqe(pixels: Pixels, *, border: int = 0) -> float:
    """Return about 0 (good) to 100 (bad, or flat); less is better.

    Venkatanath et al. 2015 as in MATLAB's `piqe`, on BT.601 grey that is rounded to whole levels. A
    side that is no multiple of 16 is continued with its last pixels.

    Args:
        pixels: See `niqe`.
        border: See `niqe`.

    Raises:
        ValueError: See `niqe`.
        UnfitError: The border leaves nothing.
    """
    grey = np.rint(grey_levels(checked(pixels, border))[..., 0])
    below, beside = (-side % _BLOCK for side in grey.shape)
    grey = cv2.copyMakeBorder(grey, 0, below, 0, beside, cv2.BORDER_REPLICATE)
    blocks = in_blocks(normalised(np.asarray(grey, np.float64)), _BLOCK)
    variances = blocks.var(axis=(1, 2), ddof=1)
    blocks, variances = blocks[variances > _ACTIVE], variances[variances > _ACTIVE]
    distortion = _is_impaired(blocks) * (1 - variances) + _is_noisy(blocks, variances) * variances
    return float(100 * (distortion.sum() + 1) / (len(blocks) + 1))


def _is_impaired(blocks: Levels) -> NDArray[np.bool_]:
    """Whether six pixels in a row on an edge of a block are nearly equal."""
    edges = np.stack((blocks[:, 0], blocks[:, -1], blocks[:, :, 0], blocks[:, :, -1]), axis=1)
    segments = sliding_window_view(edges, _SEGMENT, axis=2)
    return (segments.std(axis=3, ddof=1) < _IMPAIRED).any(axis=(1, 2))


def _is_noisy(blocks: Levels, variances: Levels) -> NDArray[np.bool_]:
    """Whether the two columns in the middle of a block deviate as much as those around them."""
    deviations = np.sqrt(variances)
    centre = blocks[:, :, _CENTRE].std(axis=(1, 2), ddof=1)
    surround = blocks[:, :, _SURROUND].std(axis=(1, 2), ddof=1)
    ratios = np.divide(centre, surround, out=np.zeros_like(centre), where=surround > 0)
    unlike = np.abs(deviations - ratios) / np.maximum(deviations, ratios)
    return deviations > 2 * unlike
