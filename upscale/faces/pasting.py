"""Pasting: put a restored face back into the upscaled image, so that no border shows.

Outside the mask of the face, not a single value changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.faces.alignment import SIDE
from upscale.faces.face import Pixels
from upscale.faces.sampling import Transform, inverse, sample, transformed
from upscale.images.pixels.depth import full_scale

_COVERED = 0.999
"""Part of a pixel that a face covers, from which on the pixel lies inside."""


@dataclass(frozen=True, slots=True)
class _Window:
    """A part of an image: rows, columns, and the map from its pixels' positions to the image's."""

    rows: slice
    columns: slice

    def moved(self, matrix: Transform) -> Transform:
        """Return a map into the image as a map into the window."""
        result = matrix.copy()
        result[:, 2] -= (self.columns.start, self.rows.start)
        return result

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        columns, rows = self.columns, self.rows
        return columns.stop - columns.start, rows.stop - rows.start


def upscaled_alignment(
    matrix: Transform, size: tuple[int, int], size_out: tuple[int, int]
) -> Transform:
    """Return the map from an upscaled image to the aligned face.

    Pixels are squares: the middle x of one in the source is at s x + (s - 1) / 2 in the result.

    Args:
        matrix: Map from the source to the aligned face.
        size: Width and height of the source.
        size_out: Width and height of the upscaled image.

    Example:
        >>> upscaled_alignment(np.eye(2, 3), (10, 10), (20, 20)).tolist()
        [[0.5, 0.0, -0.25], [0.0, 0.5, -0.25]]
    """
    scale = np.array(size_out) / np.array(size)
    to_source = np.column_stack([np.diag(1 / scale), -(scale - 1) / 2 / scale])
    return np.column_stack([matrix[:, :2] @ to_source[:, :2], transformed(to_source[:, 2], matrix)])


def paste(
    image: Pixels,
    face: NDArray[np.float32],
    matrix: Transform,
    *,
    mask: NDArray[np.float32] | None = None,
    scale: float = 1.0,
    strength: float = 1.0,
) -> None:
    """Blend an aligned face into an image, in place.

    Args:
        image: Image of shape (H, W, 1 or 3): uint8, uint16, or float32 in 0..1. Grey images get
            the luminance of the face.
        face: RGB in 0..1, shape (512, 512, 3).
        matrix: Map from the image to the aligned face.
        mask: Mask of the aligned face, (512, 512) in 0..1; None for a soft square.
        scale: Upscaling factor of the image, which the border of the soft square depends on.
        strength: Weight of the face in the middle of the mask, 0..1.
    """
    back = inverse(matrix)
    window = _window(image, back, scale)
    if window is None:
        return
    placed = window.moved(back)
    weights = (
        _square_mask(placed, window.size, scale)
        if mask is None
        else sample(mask[..., None], placed, window.size)[..., 0]
    )
    weights = (weights * np.float32(strength))[..., None]
    _blend(image[window.rows, window.columns], _placed_face(face, placed, window.size), weights)


def _placed_face(
    face: NDArray[np.float32], placed: Transform, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Return an aligned face in its place in the image.

    Where it shrinks, what its enlarged result lacks is added once (iterative back-projection): the
    filter alone would take a part of the finest detail that the image can hold.
    """
    result = sample(face, placed, size, None, sharp=True)
    if np.hypot(*placed[:, 0]) < 1:
        enlarged = sample(result, inverse(placed), (SIDE, SIDE), None, sharp=True)
        result += sample(face - enlarged, placed, size, None, sharp=True)
    return result


def _blend(part: Pixels, face: NDArray[np.float32], mask: NDArray[np.float32]) -> None:
    """Mix a face of 0..1 into a part of an image; integers are rounded."""
    if part.shape[2] == 1:
        face = np.asarray(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), np.float32)[..., None]
    full = np.float32(full_scale(part.dtype))
    mixed = part + (face.clip(0, 1) * full - part) * mask
    if part.dtype.kind == "u":
        mixed = np.rint(mixed).clip(0, full)
    np.copyto(part, mixed.astype(part.dtype), where=mask > 0)


def _window(image: Pixels, back: Transform, scale: float) -> _Window | None:
    """Return the part of an image around a face, with space for the mask; None if it is outside.

    The space keeps the edges of the part out of the mask, except where they are edges of the image.
    """
    end = SIDE - 0.5
    corners = transformed(np.array([[-0.5, -0.5], [end, -0.5], [-0.5, end], [end, end]]), back)
    margin = 2 * scale + 2
    low = np.floor(corners.min(0) - margin).astype(int)
    high = np.ceil(corners.max(0) + margin).astype(int)
    left, top = low.clip(0).tolist()
    right, bottom = np.minimum(high, (image.shape[1], image.shape[0])).tolist()
    if right <= left or bottom <= top:
        return None
    return _Window(slice(top, bottom), slice(left, right))


def _square_mask(placed: Transform, size: tuple[int, int], scale: float) -> NDArray[np.float32]:
    """Return the soft square of facexlib: eroded by its border, and then blurred.

    Kernels with even sides erode the right and lower edges less, so that the blur reaches beyond
    the face there; that pixel is cut off.
    """
    mask = sample(np.ones((SIDE, SIDE, 1), np.float32), placed, size)[..., 0]
    mask = _eroded(mask, int(2 * scale))
    edge = int(float(mask.sum()) ** 0.5) // 20
    center = _eroded(mask, 2 * edge)
    blurred = cv2.GaussianBlur(center, (2 * edge + 1, 2 * edge + 1), 0)
    return np.asarray(blurred, np.float32) * (_eroded(mask, 3) > _COVERED)


def _eroded(mask: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    if side < 2:
        return mask
    return np.asarray(cv2.erode(mask, np.ones((side, side), np.uint8)), np.float32)
