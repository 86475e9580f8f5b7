"""Whether an image is a drawing, and whether its edges are crisp."""

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
_SURROUNDINGS = np.ones((5, 5), np.uint8)
# Share of an edge that one step from a pixel to the next makes up: as much or more in 161 of 166
# drawings that were made smaller or compressed, less in 62 of 64 that were upscaled or blurred.
_CRISP = 0.72


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


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of pixels of an image; medians over its patches.

    Attributes:
        flat: Share of flat pixels.
        even: Share of pixels that equal all neighbours.
        edges: Share of pixels at hard edges.
        shading: Share of pixels with shading.
        plain: Share of flat pixels that have one of the eight most frequent colours.
        step: Largest difference of neighbours near an edge, per range of levels around it.
    """

    flat: float = 0.0
    even: float = 0.0
    edges: float = 0.0
    shading: float = 1.0
    plain: float = 0.0
    step: float = 0.0

    @property
    def is_drawing(self) -> bool:
        """Whether they are those of a drawing."""
        return any(
            self.flat >= rule.flat
            and self.even >= rule.even
            and self.edges >= rule.edges
            and self.shading <= rule.shading
            and self.plain >= rule.plain
            for rule in _RULES
        )

    @property
    def is_crisp(self) -> bool:
        """Whether edges are as sharp as pixels allow, so that the image was not upscaled."""
        return self.step >= _CRISP


def shares_of(patches: Sequence[Patch]) -> Shares:
    """Return the shares of an image; those of no drawing if it is too small to be measured.

    Args:
        patches: Patches of one image.
    """
    rows = [_shares(patch) for patch in patches if min(patch.shape[:2]) >= len(_WINDOW)]
    if not rows:
        return Shares()
    steps = [step for *_, step in rows if step]
    flat, even, edges, shading, plain, _ = (float(each) for each in np.median(rows, axis=0))
    return Shares(flat, even, edges, shading, plain, float(np.median(steps)) if steps else 0.0)


def _shares(patch: Patch) -> tuple[float, ...]:
    """Return the values of `Shares` for one patch; the last is 0 without edges."""
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
        _step_share(levels),
    )


def _step_share(levels: np.ndarray) -> float:
    """Return the median share of edges that one step from a pixel to the next makes up."""
    luma = levels.mean(axis=2, dtype=np.float32)
    around = cv2.dilate(luma, _SURROUNDINGS) - cv2.erode(luma, _SURROUNDINGS)
    across = np.abs(np.diff(luma, axis=1, append=luma[:, -1:]))
    down = np.abs(np.diff(luma, axis=0, append=luma[-1:]))
    nearby = cv2.dilate(np.maximum(across, down), _SURROUNDINGS)
    is_edge = around > _EDGE
    return float(np.median(nearby[is_edge] / around[is_edge])) if is_edge.any() else 0.0


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
