"""Boxes of face detectors: squares, overlap, and the best box of each group of overlapping ones.

A box is (left, top, right, bottom) in pixels, with the edges of the image at 0 and W or H.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
"""Array of shape (N, 4)."""


def squares(boxes: Boxes) -> Boxes:
    """Return the squares around the middles of boxes whose sides are the longer ones.

    Example:
        >>> squares(np.array([[0.0, 0, 4, 8]])).tolist()
        [[-2.0, 0.0, 6.0, 8.0]]
    """
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0)[:, None] / 2
    return np.hstack([middles - half, middles + half])


def shifted(boxes: Boxes, shifts: Boxes) -> Boxes:
    """Return boxes whose edges are moved by `shifts`, as fractions of the width and height.

    Example:
        >>> shifted(np.array([[0.0, 0, 10, 20]]), np.array([[0.1, 0.1, 0, 0]])).tolist()
        [[1.0, 2.0, 10.0, 20.0]]
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + shifts * np.hstack([sides, sides])


def best_boxes(
    boxes: Boxes,
    scores: NDArray[np.float64],
    most_overlap: float,
    share: Literal["union", "smaller"] = "union",
) -> NDArray[np.intp]:
    """Return the indices of the boxes that overlap none with a better score (NMS).

    Args:
        boxes: Boxes, shape (N, 4).
        scores: Score of each box, shape (N,).
        most_overlap: Largest overlap of two boxes that both stay, 0..1.
        share: Area that the overlap is divided by: that of the union of two boxes, or of the
            smaller one.

    Returns:
        Indices, those of the best scores first.

    Example:
        >>> boxes = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10]])
        >>> best_boxes(boxes, np.array([0.8, 0.9, 0.7]), 0.5).tolist()
        [1, 2]
    """
    order = np.argsort(-scores, kind="stable")
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept: list[int] = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:], boxes[order, 2:])
        common = np.prod((high - low).clip(0), axis=1)
        whole = (
            areas[best] + areas[order] - common
            if share == "union"
            else np.minimum(areas[best], areas[order])
        )
        order = order[common <= most_overlap * whole]
    return np.array(kept, np.intp)
