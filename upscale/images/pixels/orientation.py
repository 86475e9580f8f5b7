"""EXIF orientations: how stored pixels are turned upright."""

from __future__ import annotations

import numpy as np

from upscale.images.image import Pixels


def swaps_sides(orientation: int) -> bool:
    """Return whether an orientation 1..8 exchanges width and height, as 5 to 8 do."""
    return orientation >= 5


def mirrors(orientation: int) -> tuple[bool, bool]:
    """Return whether columns and rows are reversed, after sides have been exchanged."""
    return orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)


def upright(samples: Pixels, orientation: int) -> Pixels:
    """Turn stored samples upright.

    Args:
        samples: Array of shape (H, W) or (H, W, C).
        orientation: EXIF orientation 1..8 (EXIF 2.32, tag 0x0112).
    """
    if swaps_sides(orientation):
        samples = samples.swapaxes(0, 1)
    is_mirrored, is_flipped = mirrors(orientation)
    if is_flipped:
        samples = samples[::-1]
    if is_mirrored:
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)
