"""ICO: its largest image, as a PNG or through Pillow.

Pillow takes size and depth from the directory, which need not be those of the image, and expects
the mask at the end, where a colour profile may follow it.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import IcoImagePlugin

from upscale.images.codecs import pillow, png
from upscale.images.codecs.base import Header, MalformedError, Raster
from upscale.images.codecs.png_chunks import SIGNATURE as PNG_SIGNATURE
from upscale.images.codecs.registry import Codec, register

_SIGNATURE = b"\0\0\1\0"
_HEAD, _ENTRY = "<HHH", "<BBBBHHII"
_BITMAP_HEAD = "<IiiHHI12xI"
_SHORT_HEAD_BYTES = 40
# Bytes of the bit masks after a short head, by the number of the compression.
_MASKS = {3: 12, 6: 16}


def sniff(start: bytes) -> bool:
    """Detect an ICO file; a video in ISO boxes may start with the same bytes."""
    return start.startswith(_SIGNATURE) and start[4:8] != b"ftyp"


def read_header(file: BinaryIO) -> Header:
    """Read the size of the largest image, as the image itself states it.

    Raises:
        MalformedError: Damaged or cut off.
    """
    _, data = _largest(file)
    if data.startswith(PNG_SIGNATURE[:4]):
        return png.read_header(io.BytesIO(data))
    # The height of a bitmap includes the rows of its mask.
    width, rows = struct.unpack_from("<ii", data, 4)
    return Header(abs(width), abs(rows) // 2)


def decode(file: BinaryIO) -> Raster:
    """Decode the largest image.

    Raises:
        MalformedError: Damaged or cut off.
    """
    entry, data = _largest(file)
    if data.startswith(PNG_SIGNATURE[:4]):
        return png.decode_bytes(data)
    try:
        bitmap = _bitmap(data[: entry[6]])
    except MalformedError:
        # The length in the directory may be wrong, too.
        bitmap = _bitmap(data)
    numbers = (*entry[:5], bitmap.bits, len(bitmap.data), 22)
    alone = struct.pack(_HEAD, 0, 1, 1) + struct.pack(_ENTRY, *numbers) + bitmap.data
    raster = pillow.raster_of(IcoImagePlugin.IcoImageFile(io.BytesIO(alone)))
    if bitmap.bits < 32 or raster.alpha is None or raster.alpha.any():
        return raster
    # Icons of 32 bits without alpha have it 0 everywhere; then their mask applies.
    if not bitmap.mask:
        return Raster(raster.pixels)
    height, width = raster.alpha.shape
    rows = np.frombuffer(bitmap.mask, np.uint8).reshape(height, -1)[::-1]
    hidden = np.unpackbits(rows, axis=1)[:, :width]
    return Raster(raster.pixels, np.where(hidden, np.uint8(0), np.uint8(255)))


@dataclass(frozen=True, slots=True)
class _Bitmap:
    """A bitmap of an icon.

    Attributes:
        bits: Bits of a pixel.
        data: Head, palette, pixels and mask, without what follows them.
        mask: Rows of the mask, from the lowest; empty where it is missing.
    """

    bits: int
    data: bytes
    mask: bytes


def _bitmap(data: bytes) -> _Bitmap:
    """Divide a bitmap into its parts.

    Raises:
        MalformedError: Cut off; an icon of 32 bits needs no mask.
    """
    if len(data) < _SHORT_HEAD_BYTES:
        raise MalformedError("is cut off")
    start, width, rows, _, bits, compression, colours = struct.unpack_from(_BITMAP_HEAD, data)
    width, height = abs(width), abs(rows) // 2
    if start == _SHORT_HEAD_BYTES:
        start += _MASKS.get(compression, 0)
    start += 4 * (colours or (1 << bits if bits <= 8 else 0))
    mask_start = start + (width * bits + 31) // 32 * 4 * height
    end = mask_start + (width + 31) // 32 * 4 * height
    has_mask = end <= len(data)
    if mask_start > len(data) or not (has_mask or bits == 32):
        raise MalformedError("is cut off")
    return _Bitmap(bits, data[:end], data[mask_start:end] if has_mask else b"")


def _largest(file: BinaryIO) -> tuple[tuple[int, ...], bytes]:
    """Return the directory entry with most pixels, then most bits, and the file from there on."""
    data = file.read()
    _, _, count = struct.unpack_from(_HEAD, data)
    positions = range(6, min(6 + 16 * count, len(data) - 15), 16)
    entries = [struct.unpack_from(_ENTRY, data, at) for at in positions]
    if not entries:
        raise MalformedError("is damaged")
    # A side of 256 is stated as 0.
    best = max(entries, key=lambda entry: ((entry[0] or 256) * (entry[1] or 256), entry[5]))
    return best, data[best[7] :]


register(
    Codec(
        name="ico",
        label="ICO",
        suffixes=("ico",),
        sniff=sniff,
        read_header=read_header,
        decode=decode,
    )
)
