"""Pixels of one to four bytes whose channels are bits, as in BMP and DDS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from upscale.images.codecs.base import Raster, UnsupportedError
from upscale.images.image import Pixels
from upscale.images.pixels.depth import scaled


@dataclass(frozen=True, slots=True)
class Masks:
    """Pixels of whole bytes whose channels are bits.

    Attributes:
        bits: Bits of a pixel.
        colour: Mask of each colour channel.
        alpha: Mask of alpha, or 0.
    """

    bits: int
    colour: tuple[int, ...]
    alpha: int = 0


def packed_pixels(data: bytes, width: int, height: int, bits: int, padding: int = 1) -> Pixels:
    """Return pixels as one number each, of shape (H, W).

    Args:
        data: Stored rows; at least as many as there are.
        width: Width in pixels.
        height: Height in pixels.
        bits: Bits of a pixel: 8, 16, 24 or 32.
        padding: Number of bytes of which rows have a multiple.
    """
    step = bits // 8
    length = -(-width * step // padding) * padding
    rows = np.frombuffer(data, np.uint8, length * height).reshape(height, length)
    parts = rows[:, : width * step].reshape(height, width, step).astype(np.uint32)
    shifts = np.arange(step, dtype=np.uint32) * 8
    return (parts << shifts).sum(axis=2, dtype=np.uint32)


def from_masks(packed: Pixels, layout: Masks) -> Raster:
    """Return the channels of pixels, scaled to 8 bits, or to 16 where one has more.

    Args:
        packed: Pixels as one number each, of shape (H, W).
        layout: Place of each channel.

    Raises:
        UnsupportedError: The bits of a channel are not next to each other.
    """
    deepest = max(mask.bit_count() for mask in (*layout.colour, layout.alpha))
    kind: np.dtype[Any] = np.dtype(np.uint16 if deepest > 8 else np.uint8)
    colour = [_channel(packed, mask, kind) for mask in layout.colour]
    alpha = _channel(packed, layout.alpha, kind) if layout.alpha else None
    return Raster(np.stack(colour, axis=2), alpha)


def _channel(packed: Pixels, mask: int, kind: np.dtype[Any]) -> Pixels:
    """Return the bits under a mask, scaled to the whole range of a type."""
    if not mask:
        return np.zeros(packed.shape, kind)
    shift = (mask & -mask).bit_length() - 1
    top = mask >> shift
    if top & (top + 1):
        raise UnsupportedError("stores its pixels in a way that is not supported")
    # Of more than 16 bits, the others are dropped.
    beyond = max(0, top.bit_length() - 16)
    shift, top = shift + beyond, top >> beyond
    return scaled((packed >> shift) & packed.dtype.type(top), top, kind)
