"""JPEG 2000, only read: 8 bits through Pillow, which reduces other depths; those by imagecodecs."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

import imagecodecs
from PIL import Jpeg2KImagePlugin

from upscale.images.codecs import pillow
from upscale.images.codecs.base import Header, MalformedError, Raster, UnsupportedError
from upscale.images.codecs.iso_boxes import boxes
from upscale.images.codecs.registry import Codec, register, starts_with
from upscale.images.image import Metadata
from upscale.images.metadata import exif, xmp
from upscale.images.pixels.depth import stretched

_SIGNATURE = b"\xff\x4f\xff\x51"
_EXIF, _XMP = b"JpgTiffExif->JP2", bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_PROFILES = (2, 3)
_SIGNED = 0x80
_LUMA = 18


def read_header(file: BinaryIO) -> Header:
    """Read size, depth and metadata.

    Raises:
        MalformedError: Damaged or cut off.
    """
    data = file.read()
    width, height, depths = _size(data)
    bits = max(depth & ~_SIGNED for depth in depths) + 1
    return Header(width, height, metadata=_metadata(data), bits=bits if 8 < bits < 16 else None)


def decode(file: BinaryIO) -> Raster:
    """Decode the image; samples are scaled to the whole range of their type.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Samples are signed, of several depths, or of more than 16 bits.
    """
    data = file.read()
    width, height, depths = _size(data)
    depth = depths[0]
    if set(depths) == {7}:
        pil_image = Jpeg2KImagePlugin.Jpeg2KImageFile(io.BytesIO(data))
        # Pillow uses the size in the container, which may be wrong.
        if pil_image.size != (width, height):
            raise MalformedError("is damaged")
        return pillow.raster_of(pil_image)
    if len(set(depths)) > 1 or len(depths) > 4 or depth > 15 or _space(data) == _LUMA:
        raise UnsupportedError("stores its samples in an unusual way")
    return Raster.of(stretched(imagecodecs.jpeg2k_decode(data), depth + 1))


def _size(data: bytes) -> tuple[int, int, bytes]:
    """Return width, height, and a byte per component: its bits less one, and 0x80 if signed."""
    start = data.find(_SIGNATURE)
    if start < 0 or start + 42 > len(data):
        raise MalformedError("is cut off")
    right, bottom, left, top = struct.unpack_from(">IIII", data, start + 8)
    (count,) = struct.unpack_from(">H", data, start + 40)
    depths = data[start + 42 : start + 42 + 3 * count : 3]
    if right <= left or bottom <= top or not depths:
        raise MalformedError("is damaged")
    return right - left, bottom - top, depths


def _metadata(data: bytes) -> Metadata:
    """Return the profile, EXIF and XMP; a bare codestream has none."""
    if data.startswith(_SIGNATURE):
        return Metadata()
    blocks = {body[:16]: body[16:] for kind, body in boxes(data) if kind == b"uuid"}
    profile = next((body[3:] for body in _colours(data) if body[0] in _PROFILES), None)
    # No program applies the EXIF orientation of a JPEG 2000.
    block = exif.reset_orientation(exif.without_prefix(blocks.get(_EXIF)))
    return Metadata(profile or None, block, xmp.reset_orientation(blocks.get(_XMP)))


def _space(data: bytes) -> int:
    """Return the number of the colour space; 0 when none is stated."""
    numbers = (body[3:7] for body in _colours(data) if body[0] == 1)
    return int.from_bytes(next(numbers, b""), "big")


def _colours(data: bytes) -> list[bytes]:
    if data.startswith(_SIGNATURE):
        return []
    head = dict(boxes(data)).get(b"jp2h", b"")
    return [body for kind, body in boxes(head) if kind == b"colr" and body]


register(
    Codec(
        name="jpeg2000",
        label="JPEG 2000",
        suffixes=("jp2", "j2k", "jpx"),
        sniff=starts_with(b"\0\0\0\x0cjP  ", _SIGNATURE),
        read_header=read_header,
        decode=decode,
    )
)
