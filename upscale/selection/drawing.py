"""Whether an image is a drawing, and whether its flat colours are untouched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from upscale.selection.patches import Patch

# Range of levels among the neighbours of a pixel: flat up to the first, an edge above the last,
# and shading, of which drawings have little, up to the one between.
_FLAT, _SHADING, _EDGE = 8, 40, 60
_COLOURS, _COLOUR_STEP = 8, 12
_WINDOW = np.ones((3, 3), np.uint8)
# Flat pixels that equal all neighbours: 82 % and more in screenshots and drawings that were only
# made smaller, at most 77 % after WebP 90, and 68 % after JPEG 97 or H.264.
_UNTOUCHED = 0.8


@dataclass(frozen=True, slots=True)
class Rule:
    """Shares of pixels that make an image a drawing.

    Attributes:
        flat: Least share of flat pixels.
        even: Least share of pixels that equal all neighbours.
        edges: Least share of pixels at hard edges.
        shading: Most pixels with shading.
        plain: Least share of flat pixels that have one of the eight most frequent colours.
    """

    flat: float
    even: float
    edges: float
    shading: float
    plain: float


# Illustrations, compressed ones too; screenshots and diagrams. Set on drawn shapes, and on 512
# photographs, clean and degraded, of which none may pass.
_RULES = (Rule(0.4, 0.15, 0.2, 0.28, 0.7), Rule(0.6, 0.5, 0.05, 0.12, 0.8))


def is_drawing(patches: Sequence[Patch]) -> bool:
    """Return whether the patches of an image are those of a drawing, by the median of each share.

    Args:
        patches: Patches of one image.
    """
    rows = [_shares(patch) for patch in patches if min(patch.shape[:2]) >= len(_WINDOW)]
    if not rows:
        return False
    flat, even, edges, shading, plain = np.median(rows, axis=0)
    return any(
        flat >= rule.flat
        and even >= rule.even
        and edges >= rule.edges
        and shading <= rule.shading
        and plain >= rule.plain
        for rule in _RULES
    )


def is_untouched(patches: Sequence[Patch]) -> bool:
    """Return whether the flat colours of a drawing are exact, without noise or compression.

    Args:
        patches: Patches of one image.
    """
    rows = [_shares(patch) for patch in patches if min(patch.shape[:2]) >= len(_WINDOW)]
    ratios = [even / flat for flat, even, *_ in rows if flat]
    return bool(ratios) and float(np.median(ratios)) >= _UNTOUCHED


def _shares(patch: Patch) -> tuple[float, float, float, float, float]:
    """Return the shares of one patch, in the order of `Rule`."""
    levels = np.rint(patch).astype(np.uint8)
    smooth = np.asarray(cv2.medianBlur(levels, 3), np.uint8).reshape(levels.shape)
    ranges = _ranges(smooth)
    flat = ranges <= _FLAT
    shading = (ranges > _FLAT) & (ranges <= _SHADING)
    return (
        float(flat.mean()),
        float((_ranges(levels) == 0).mean()),
        float((ranges > _EDGE).mean()),
        float(shading.mean()),
        _plain_share(smooth[flat]),
    )


def _ranges(levels: np.ndarray) -> np.ndarray:
    """Return the largest range of any channel among each pixel and its neighbours."""
    span = cv2.subtract(cv2.dilate(levels, _WINDOW), cv2.erode(levels, _WINDOW))
    return np.asarray(span).reshape(levels.shape).max(axis=2)


def _plain_share(pixels: np.ndarray) -> float:
    """Return the share of pixels that have one of the most frequent colours."""
    if not len(pixels):
        return 0.0
    steps = (pixels.astype(np.int64) + _COLOUR_STEP // 2) // _COLOUR_STEP
    side = 255 // _COLOUR_STEP + 2
    keys = sum(steps[:, number] * side**number for number in range(steps.shape[1]))
    counts = np.sort(np.bincount(np.asarray(keys)))
    return float(counts[-_COLOURS:].sum() / len(pixels))
