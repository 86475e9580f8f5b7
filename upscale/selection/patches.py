"""Parts of an image that stand for all of it, so that large images cost no more than small ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Patch = NDArray[np.float32]
"""Array of shape (H, W, C) of levels 0..255."""

_SIDE, _COUNT, _MEDIUM_RANK = 320, 6, 0.4
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


def patches_of(pixels: NDArray[Any]) -> list[Patch]:
    """Cut up to six patches out of an image, from plain ones to the most detailed.

    Args:
        pixels: Image of shape (H, W, C), uint8, uint16, or float32 in 0..1.
    """
    corners = list(_corners(pixels.shape[0], pixels.shape[1], _SIDE))
    if len(corners) > _COUNT:
        detail = [_rough_detail(pixels[y : y + _SIDE, x : x + _SIDE]) for y, x in corners]
        order = np.argsort(detail)
        corners = [corners[order[round(at)]] for at in np.linspace(0, len(order) - 1, _COUNT)]
    return [in_levels(pixels[y : y + _SIDE, x : x + _SIDE]) for y, x in corners]


def detailed_crops(pixels: NDArray[Any], side: int, count: int) -> list[NDArray[Any]]:
    """Cut out crops from the most detailed to one of medium detail, as they are.

    Args:
        pixels: Image of shape (H, W, C).
        side: Height and width of a crop; smaller where the image is.
        count: Number of crops, which do not overlap; fewer where there is no room.
    """
    corners = list(_corners(pixels.shape[0], pixels.shape[1], side))
    crops = [pixels[y : y + side, x : x + side] for y, x in corners]
    if len(crops) > count:
        order = np.argsort([_rough_detail(crop) for crop in crops])
        ranks = np.linspace(len(order) - 1, len(order) * _MEDIUM_RANK, count)
        crops = [crops[order[int(rank)]] for rank in ranks]
    return [np.ascontiguousarray(crop) for crop in crops]


def in_levels(pixels: NDArray[Any]) -> Patch:
    """Convert samples of any type to levels 0..255."""
    scale = np.float32(255.0 / _FULL_SCALE[pixels.dtype.name])
    levels = pixels.astype(np.float32) * scale
    return np.nan_to_num(levels).clip(0, 255) if pixels.dtype.kind == "f" else levels


def luma_of(patch: Patch) -> Patch:
    """Return the luma of a patch as an array of shape (H, W) (ITU-R BT.601)."""
    return patch[..., 0] if patch.shape[2] == 1 else patch @ _LUMA


def _corners(height: int, width: int, side: int) -> Iterator[tuple[int, int]]:
    """Yield the corners of a grid of crops in the middle of an image."""
    rows, columns = max(1, height // side), max(1, width // side)
    top, left = max(0, height - rows * side) // 2, max(0, width - columns * side) // 2
    for row in range(rows):
        for column in range(columns):
            yield top + row * side, left + column * side


def _rough_detail(pixels: NDArray[Any]) -> float:
    """Return the mean contrast of neighbours in every fourth row and column."""
    part = in_levels(pixels[::4])
    step = np.abs(np.diff(part, axis=1)[:, ::4])
    return float(step.mean()) if step.size else 0.0


def block_means(values: Floats, side: int) -> Floats:
    """Return the means of whole blocks of an (H, W) array, as one row."""
    rows, columns = values.shape[0] // side, values.shape[1] // side
    if not rows or not columns:
        return values.mean(keepdims=True).ravel()
    whole = np.ascontiguousarray(values[: rows * side, : columns * side], dtype=np.float32)
    means = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(means, np.float32).ravel()
