"""WebP: its header is read here, its pixels by Pillow, which needs them all to tell the size."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from PIL import WebPImagePlugin

from upscale.images.codecs import pillow
from upscale.images.codecs.base import Header, MalformedError, Raster
from upscale.images.encoding import ResolvedEncoding
from upscale.images.image import Image, Metadata
from upscale.images.metadata import exif

_LOSSLESS_EFFORT = 60
_METHOD = 4
_METADATA = (b"ICCP", b"EXIF", b"XMP ")
_SIZE_BYTES = 10
_START_BYTES = 20


def read_header(file: BinaryIO) -> Header:
    """Size, frames, orientation and metadata.

    Raises:
        MalformedError: Damaged or cut off.
    """
    size: tuple[int, int] | None = None
    frames, plays, lossless = 0, 1, False
    found: dict[bytes, bytes] = {}
    for kind, body in _chunks(file):
        if kind in (b"VP8X", b"VP8 ", b"VP8L") and size is None:
            size = _size(kind, body)
        frames += kind == b"ANMF"
        lossless = lossless or kind == b"VP8L" or (kind == b"ANMF" and body[16:20] == b"VP8L")
        if kind == b"ANIM" and len(body) >= 6:
            plays = int.from_bytes(body[4:6], "little")
        if kind in _METADATA:
            found.setdefault(kind, body)
    if size is None or 0 in size:
        raise MalformedError("is damaged")
    block = exif.without_prefix(found.get(b"EXIF"))
    metadata = Metadata(found.get(b"ICCP"), block, found.get(b"XMP "))
    width, height = size
    return Header(
        width,
        height,
        exif.orientation_of(block),
        max(1, frames),
        plays,
        metadata,
        lossless=lossless,
    )


def decode(file: BinaryIO) -> Raster:
    """Decode a still image.

    Raises:
        MalformedError: Damaged or cut off.
    """
    return pillow.raster_of(WebPImagePlugin.WebPImageFile(file))


def encode(image: Image, target: BinaryIO, settled: ResolvedEncoding) -> None:
    """Encode uint8 pixels; alpha and the colours under it stay exact even where others do not."""
    metadata = image.metadata
    pillow.image_of(image).save(
        target,
        "WEBP",
        quality=_LOSSLESS_EFFORT if settled.lossless else settled.quality,
        lossless=settled.lossless,
        method=_METHOD,
        exact=True,
        icc_profile=metadata.icc or b"",
        exif=metadata.exif or b"",
        xmp=metadata.xmp or b"",
    )


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content (of pixels, its start) of each chunk that the file's own length covers."""
    end, size = 8 + struct.unpack("<4xI", file.read(8))[0], file.seek(0, 2)
    if end > size:
        raise MalformedError("is cut off")
    place = 12
    while place + 8 <= end:
        file.seek(place)
        kind, length = struct.unpack("<4sI", file.read(8))
        if place + 8 + length > end:
            raise MalformedError("is cut off")
        yield kind, file.read(length if kind in _METADATA else min(length, _START_BYTES))
        place += 8 + length + length % 2


def _size(kind: bytes, body: bytes) -> tuple[int, int]:
    """Width and height from the chunk that states them."""
    if kind == b"VP8X" and len(body) == _SIZE_BYTES:
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(body) >= _SIZE_BYTES and body[3:6] == b"\x9d\x01\x2a":
        width, height = int.from_bytes(body[6:8], "little"), int.from_bytes(body[8:10], "little")
        return width & 0x3FFF, height & 0x3FFF
    raise MalformedError("is damaged")
