"""JPEG 2000: 8 bits through Pillow; other depths, which Pillow cuts, through imagecodecs."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

import imagecodecs
from PIL import Jpeg2KImagePlugin

from upscale.images.codecs import pillow
from upscale.images.codecs.base import Header, MalformedError, Raster, UnsupportedError
from upscale.images.codecs.iso_boxes import boxes
from upscale.images.image import Metadata
from upscale.images.metadata import exif
from upscale.images.pixels.bits import stretched

_SIGNATURE = b"\xff\x4f\xff\x51"
_EXIF, _XMP = b"JpgTiffExif->JP2", bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_PROFILES = (2, 3)
_SIGNED = 0x80
_LUMA = 18


def read_header(file: BinaryIO) -> Header:
    """Size, depth and metadata.

    Raises:
        MalformedError: Damaged or cut off.
    """
    data = file.read()
    width, height, depths = _size(data)
    bits = max(depth & ~_SIGNED for depth in depths) + 1
    return Header(width, height, metadata=_metadata(data), bits=bits if 8 < bits < 16 else None)


def decode(file: BinaryIO) -> Raster:
    """Decode the image, its samples stretched over all of their type.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Samples that are signed, of several depths, or of more than 16 bits.
        Exception: Whatever the decoders raise on damaged content.
    """
    data = file.read()
    width, height, depths = _size(data)
    depth = depths[0]
    if set(depths) == {7}:
        pil_image = Jpeg2KImagePlugin.Jpeg2KImageFile(io.BytesIO(data))
        # Pillow goes by the size that the container states, which may be any.
        if pil_image.size != (width, height):
            raise MalformedError("is damaged")
        return pillow.raster_of(pil_image)
    if len(set(depths)) > 1 or len(depths) > 4 or depth > 15 or _space(data) == _LUMA:
        raise UnsupportedError("stores its samples in an unusual way")
    return Raster.of(stretched(imagecodecs.jpeg2k_decode(data), depth + 1))


def _size(data: bytes) -> tuple[int, int, bytes]:
    """Width, height, and a byte for each component: its bits less one, and 0x80 if it is signed."""
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
    """The profile, and the boxes that hold EXIF and XMP; a bare codestream has none."""
    if data.startswith(_SIGNATURE):
        return Metadata()
    held = {body[:16]: body[16:] for kind, body in boxes(data) if kind == b"uuid"}
    profile = next((body[3:] for body in _colours(data) if body[0] in _PROFILES), None)
    # No program turns a JPEG 2000 by the orientation in its EXIF.
    block = exif.reset_orientation(exif.without_prefix(held.get(_EXIF)))
    return Metadata(profile or None, block, exif.reset_xmp_orientation(held.get(_XMP)))


def _space(data: bytes) -> int:
    """The number of the colour space; 0 when none is stated."""
    numbers = (body[3:7] for body in _colours(data) if body[0] == 1)
    return int.from_bytes(next(numbers, b""), "big")


def _colours(data: bytes) -> list[bytes]:
    if data.startswith(_SIGNATURE):
        return []
    head = dict(boxes(data)).get(b"jp2h", b"")
    return [body for kind, body in boxes(head) if kind == b"colr" and body]
