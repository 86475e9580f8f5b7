"""BMP whose pixels have channels in unusual bits, with or without alpha.

Pillow reads the usual places only, and drops an alpha of one bit. Source: "Bitmap Header Types" in
Microsoft's documentation of Windows GDI.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import BinaryIO

from upscale.images.codecs.base import MalformedError, Raster
from upscale.images.codecs.bit_masks import Masks, from_masks, packed_pixels

_HEAD_BYTES, _INFO_BYTES, _WITH_ALPHA_BYTES = 14, 40, 56
_BIT_FIELDS, _ALPHA_BIT_FIELDS = 3, 6


@dataclass(frozen=True, slots=True)
class MaskedBitmap:
    """The header of a BMP with masks.

    Attributes:
        width: Width in pixels.
        height: Height in pixels.
        is_top_down: Whether the first row is the top one.
        start: Position of the pixels.
        layout: Place of each channel.
    """

    width: int
    height: int
    is_top_down: bool
    start: int
    layout: Masks


def masked_bitmap(file: BinaryIO) -> MaskedBitmap | None:
    """Read the header of a BMP; None where its pixels are not described by masks.

    Args:
        file: The file at its start; its position is kept.
    """
    data = file.read(_HEAD_BYTES + _WITH_ALPHA_BYTES)
    file.seek(0)
    if len(data) < _HEAD_BYTES + _INFO_BYTES + 12:
        return None
    start, size, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
    is_masked = compression in (_BIT_FIELDS, _ALPHA_BIT_FIELDS) and bits in (16, 32)
    if size < _INFO_BYTES or not is_masked or width <= 0 or height == 0:
        return None
    colour = struct.unpack_from("<3I", data, _HEAD_BYTES + _INFO_BYTES)
    alpha = 0
    has_alpha = size >= _WITH_ALPHA_BYTES or compression == _ALPHA_BIT_FIELDS
    if has_alpha and len(data) >= _HEAD_BYTES + _WITH_ALPHA_BYTES:
        (alpha,) = struct.unpack_from("<I", data, _HEAD_BYTES + _INFO_BYTES + 12)
    if not all(colour):
        return None
    return MaskedBitmap(width, abs(height), height < 0, start, Masks(bits, colour, alpha))


def decode(file: BinaryIO, bitmap: MaskedBitmap) -> Raster:
    """Decode the image; an alpha that hides everything is unused and is left out.

    Args:
        file: The file.
        bitmap: Its header.

    Raises:
        MalformedError: Cut off.
        UnsupportedError: The bits of a channel are not next to each other.
    """
    file.seek(bitmap.start)
    width, height, bits = bitmap.width, bitmap.height, bitmap.layout.bits
    length = (width * bits // 8 + 3) // 4 * 4 * height
    data = file.read(length)
    if len(data) < length:
        raise MalformedError("is cut off")
    packed = packed_pixels(data, width, height, bits, padding=4)
    raster = from_masks(packed if bitmap.is_top_down else packed[::-1], bitmap.layout)
    is_unused = raster.alpha is not None and not raster.alpha.any()
    return replace(raster, alpha=None) if is_unused else raster
