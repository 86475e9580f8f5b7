"""Sampling of an image at transformed positions, without aliasing where it shrinks.

Sharp samples lose almost nothing on the way into a crop and back: the filters are Lanczos windows
in both directions. Bilinear ones, as facexlib takes them, cost up to 2.6 levels there and back.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.faces.face import Pixels, Points

Transform = NDArray[np.float64]
"""Affine map of positions, shape (2, 3): (x, y) becomes `matrix[:, :2] @ (x, y) + matrix[:, 2]`."""

_DISTANCE = 2
"""Distance of positions that are averaged, in pixels of the source; closer ones would only blur."""

REACH = 4
"""Pixels on each side of a position that sharp interpolation reads (Lanczos window)."""

_MARGIN = REACH + 1
"""Pixels around the part of the source that interpolation may read."""


def transformed(points: Points, matrix: Transform) -> Points:
    """Return positions after an affine map.

    Args:
        points: Positions, shape (N, 2).
        matrix: Map to apply.

    Example:
        >>> transformed(np.array([[1.0, 2.0]]), np.array([[2.0, 0, 5], [0, 2, 5]])).tolist()
        [[7.0, 9.0]]
    """
    return points @ matrix[:, :2].T + matrix[:, 2]


def inverse(matrix: Transform) -> Transform:
    """Return the affine map that undoes another one."""
    return np.asarray(cv2.invertAffineTransform(matrix), np.float64)


def fitted(points: Points, targets: Points) -> Transform | None:
    """Return the rotation, scaling and shift that moves most points to their targets (LMedS).

    Args:
        points: Positions, shape (N, 2).
        targets: Position of each point after the map.

    Returns:
        The map; None if there is none, because the points coincide.
    """
    found: Any = cv2.estimateAffinePartial2D(points, targets, method=cv2.LMEDS)[0]
    if found is None or not np.isfinite(found).all() or not np.hypot(*found[:, 0]) > 0:
        return None
    return np.asarray(found, np.float64)


def sample(
    pixels: Pixels,
    matrix: Transform,
    size: tuple[int, int],
    outside: tuple[float, float, float] | None = (0, 0, 0),
    *,
    sharp: bool = False,
    rim: int = 0,
) -> NDArray[np.float32]:
    """Return the part of an image that an affine map moves into a new image.

    Where the map shrinks lengths, several positions are averaged for each pixel of the result.

    Args:
        pixels: Source of shape (H, W, C), C = 1 or 3, of any type.
        matrix: Map from positions in the source to those in the result.
        size: Width and height of the result in pixels.
        outside: Values outside the source, for three channels; grey sources use the first. None
            continues the border pixels.
        sharp: Whether the filters are Lanczos windows, whose results may exceed the range of the
            source a little. Otherwise interpolation is bilinear, and averages begin where lengths
            shrink to a quarter.
        rim: Pixels of the source that are continued before `outside` begins.

    Returns:
        Array of shape (height, width, C) with the values of the source.
    """
    width, height = size
    rate = _rate(float(np.hypot(*matrix[:, 0])), sharp)
    fine = matrix * rate + np.array([[0, 0, 1], [0, 0, 1]]) * (rate - 1) / 2
    large = width * rate, height * rate
    part, corner = _part(pixels, fine, large)
    fine[:, 2] += fine[:, :2] @ (corner - rim)
    result = cv2.warpAffine(
        cv2.copyMakeBorder(part, rim, rim, rim, rim, cv2.BORDER_REPLICATE).astype(np.float32),
        fine,
        large,
        flags=cv2.INTER_LANCZOS4 if sharp else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT,
        borderValue=outside or 0,
    )
    result = np.asarray(result, np.float32).reshape(*large[::-1], pixels.shape[2])
    return result if rate == 1 else _reduced(result, size, sharp)


def _rate(zoom: float, sharp: bool) -> int:
    """Return the positions per pixel of the result, along each axis."""
    if sharp:
        return math.ceil(1 / max(zoom, 1e-3) - 1e-6)
    return max(int(1 / _DISTANCE / max(zoom, 1e-3)), 1)


def _reduced(
    pixels: NDArray[np.float32], size: tuple[int, int], sharp: bool
) -> NDArray[np.float32]:
    """Return an image at a smaller size."""
    if sharp:
        from upscale.engine.resize import resize  # imports torch

        return resize(pixels, *size)
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32).reshape(size[1], size[0], pixels.shape[2])


def _part(
    pixels: Pixels, matrix: Transform, size: tuple[int, int]
) -> tuple[Pixels, NDArray[np.int64]]:
    """Return the part of the source that the result shows, and the position of its corner."""
    right, bottom = size[0] - 1, size[1] - 1
    corners = np.array([[0.0, 0], [right, 0], [0, bottom], [right, bottom]])
    positions = transformed(corners, inverse(matrix))
    limit = np.array([pixels.shape[1], pixels.shape[0]])
    low = (np.floor(positions.min(0)).astype(int) - _MARGIN).clip(0, limit - 1)
    high = (np.ceil(positions.max(0)).astype(int) + _MARGIN + 1).clip(low + 1, limit)
    return pixels[low[1] : high[1], low[0] : high[0]], low
