"""ICO: its largest image, as a PNG or through Pillow.

Pillow believes the sizes in the directory, which need not be those of the images.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from PIL import IcoImagePlugin

from upscale.images.codecs import pillow, png
from upscale.images.codecs.base import Header, MalformedError, Raster
from upscale.images.codecs.png_chunks import SIGNATURE as PNG_SIGNATURE
from upscale.images.codecs.registry import Codec, register

_SIGNATURE = b"\0\0\1\0"
_HEAD, _ENTRY = "<HHH", "<BBBBHHII"


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
    alone = struct.pack(_HEAD, 0, 1, 1) + struct.pack(_ENTRY, *entry[:-1], 22) + data
    return pillow.raster_of(IcoImagePlugin.IcoImageFile(io.BytesIO(alone)))


def _largest(file: BinaryIO) -> tuple[tuple[int, ...], bytes]:
    """Return the directory entry with most pixels, then most bits, and its content."""
    data = file.read()
    _, _, count = struct.unpack_from(_HEAD, data)
    positions = range(6, min(6 + 16 * count, len(data) - 15), 16)
    entries = [struct.unpack_from(_ENTRY, data, at) for at in positions]
    if not entries:
        raise MalformedError("is damaged")
    # A side of 256 is stated as 0.
    best = max(entries, key=lambda entry: ((entry[0] or 256) * (entry[1] or 256), entry[5]))
    return best, data[best[7] : best[7] + best[6]]


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
