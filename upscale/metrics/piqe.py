"""PIQE: share of an image's active blocks that show noise or artefacts."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from upscale.metrics.samples import Levels, Pixels, check_image, to_grey
from upscale.metrics.scene_statistics import mscn, split_into_blocks

_BLOCK = 16
_SEGMENT = 6
_ACTIVE_VARIANCE = 0.1
_IMPAIRED_DEVIATION = 0.1
_CENTRE = [7, 8]
# MATLAB's `piqe` deletes the two centre columns one after the other, and therefore columns 7 and
# 9. Comparable scores need the same columns.
_SURROUND = [column for column in range(_BLOCK) if column not in (7, 9)]


def piqe(pixels: Pixels, *, border: int = 0) -> float:
    """Return the PIQE score, about 0 (good) to 100 (bad, or flat); lower is better.

    Source: Venkatanath et al., "Blind Image Quality Evaluation Using Perception Based Features"
    (2015), as in MATLAB's `piqe`, on BT.601 grey rounded to whole levels. Sides that are not a
    multiple of 16 are padded by repeating the last pixels.

    Args:
        pixels: Image of shape (H, W), (H, W, 1) or (H, W, 3), RGB; uint8, uint16, or floats in
            [0, 1].
        border: Number of pixels to ignore on every side.

    Returns:
        The score.

    Raises:
        ValueError: The shape or type is not supported, or the border is negative.
        MetricError: No pixel is left inside the border.

    Example:
        >>> import numpy as np
        >>> from upscale.metrics import piqe
        >>> piqe(np.zeros((32, 32), np.uint8))
        100.0
    """
    grey = np.rint(to_grey(check_image(pixels, border))[..., 0])
    below, beside = (-side % _BLOCK for side in grey.shape)
    grey = cv2.copyMakeBorder(grey, 0, below, 0, beside, cv2.BORDER_REPLICATE)
    blocks = split_into_blocks(mscn(np.asarray(grey, np.float64)), _BLOCK)
    variances = blocks.var(axis=(1, 2), ddof=1)
    active = variances > _ACTIVE_VARIANCE
    blocks, variances = blocks[active], variances[active]
    distortion = _is_impaired(blocks) * (1 - variances) + _is_noisy(blocks, variances) * variances
    return float(100 * (distortion.sum() + 1) / (len(blocks) + 1))


def _is_impaired(blocks: Levels) -> NDArray[np.bool_]:
    """Whether six adjacent pixels on an edge of a block are nearly equal."""
    edges = np.stack((blocks[:, 0], blocks[:, -1], blocks[:, :, 0], blocks[:, :, -1]), axis=1)
    segments = sliding_window_view(edges, _SEGMENT, axis=2)
    return (segments.std(axis=3, ddof=1) < _IMPAIRED_DEVIATION).any(axis=(1, 2))


def _is_noisy(blocks: Levels, variances: Levels) -> NDArray[np.bool_]:
    """Whether the two centre columns of a block deviate as much as the columns around them."""
    deviations = np.sqrt(variances)
    centre = blocks[:, :, _CENTRE].std(axis=(1, 2), ddof=1)
    surround = blocks[:, :, _SURROUND].std(axis=(1, 2), ddof=1)
    ratios = np.divide(centre, surround, out=np.zeros_like(centre), where=surround > 0)
    difference = np.abs(deviations - ratios) / np.maximum(deviations, ratios)
    return deviations > 2 * difference
