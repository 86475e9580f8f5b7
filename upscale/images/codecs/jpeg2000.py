"""JPEG 2000, only read, through imagecodecs; subsampled components through FFmpeg.

imagecodecs applies palettes and channel definitions, and converts luma and chroma to RGB.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import BinaryIO

import imagecodecs
import numpy as np

from upscale.images.codecs import pillow
from upscale.images.codecs.base import Header, MalformedError, Raster, UnsupportedError
from upscale.images.codecs.iso_boxes import boxes
from upscale.images.codecs.jpeg2000_codestream import (
    SIGNATURE,
    Codestream,
    missing_tiles,
    parse,
)
from upscale.images.codecs.jpeg2000_subsampling import rgb_of, subsampled
from upscale.images.codecs.registry import Codec, Salvage, register, starts_with
from upscale.images.image import Metadata, Pixels
from upscale.images.metadata import exif, xmp
from upscale.images.pixels.depth import full_scale, stretched

_EXIF, _XMP = b"JpgTiffExif->JP2", bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_PROFILES = (2, 3)
_CMYK, _LAB, _LUMA = 12, 14, 18
# Not stated, CMYK, CIELAB, sRGB, grey and sYCC.
_READ_SPACES = (0, _CMYK, _LAB, 16, 17, _LUMA)
_MAX_CHANNELS = 4


def read_header(file: BinaryIO) -> Header:
    """Read size, depth and metadata.

    Raises:
        MalformedError: Damaged or cut off.
    """
    data = file.read()
    stream = parse(data, data.find(SIGNATURE))
    bits = _bits(data, stream)
    size = stream.width, stream.height
    return Header(*size, metadata=_metadata(data), bits=bits if 8 < bits < 16 else None)


def decode(file: BinaryIO) -> Raster:
    """Decode the image; samples are scaled to the whole range of their type.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Samples are of several depths, or of more than 16 bits.
    """
    data = file.read()
    start = data.find(SIGNATURE)
    if missing_tiles(data, start, parse(data, start).tiles):
        raise MalformedError("is cut off")
    return _decoded(data)


def salvage(file: BinaryIO) -> Raster:
    """Decode the tiles that are there; the others are black.

    Raises:
        MalformedError: No tile is there.
        UnsupportedError: Samples are of several depths, or of more than 16 bits.
    """
    data = file.read()
    start = data.find(SIGNATURE)
    tiles = parse(data, start).tiles
    count, missing = len(tiles), missing_tiles(data, start, tiles)
    if missing == count > 1:
        raise MalformedError("is cut off")
    of = "its only tile is" if count == 1 else f"{missing} of its {count} tiles are"
    return replace(_decoded(data), damage=(f"{of} missing or damaged",))


def _decoded(data: bytes) -> Raster:
    """Decode the image, whether or not its tiles are all there."""
    stream = parse(data, data.find(SIGNATURE))
    space, head = _space(data), _head_boxes(data)
    if stream.is_subsampled:
        return _from_samples(subsampled(data, stream), space)
    _check(stream, space, head)
    first = stream.components[0]
    samples = imagecodecs.jpeg2k_decode(data)
    if b"pclr" in head:
        # The indices were replaced by colours.
        return _from_samples(stretched(samples, _bits(data, stream)), 0)
    if first.is_signed:
        samples = _unsigned(samples, first.bits)
    samples = stretched(samples, first.bits)
    if space == _LAB and samples.ndim == 3 and samples.shape[2] == 3:
        return _from_lab(samples, first.bits, data)
    return _from_samples(samples, 0 if space == _LUMA else space)


def _check(stream: Codestream, space: int, head: Mapping[bytes, bytes]) -> None:
    """Check that an image without subsampling can be decoded.

    Args:
        stream: Its codestream.
        space: Number of its colour space; 0 when none is stated.
        head: Boxes that describe it.

    Raises:
        MalformedError: The sizes in the container and in the codestream differ.
        UnsupportedError: It cannot.
    """
    if head.get(b"ihdr", b"")[:8] not in (b"", struct.pack(">II", stream.height, stream.width)):
        raise MalformedError("is damaged")
    if b"pclr" not in head and space not in _READ_SPACES:
        raise UnsupportedError("stores its colours in a way that is not supported")
    count = len(stream.components)
    if count > _MAX_CHANNELS:
        raise UnsupportedError(f"has {count} channels, which is not supported")
    kinds = {(part.bits, part.is_signed) for part in stream.components}
    if len(kinds) > 1 or stream.components[0].bits > 16:
        raise UnsupportedError("stores its samples in an unusual way")


def _unsigned(samples: Pixels, bits: int) -> Pixels:
    """Add half the range to signed samples, as OpenJPEG's programs and FFmpeg do."""
    kind = np.uint8 if bits <= 8 else np.uint16
    return (samples.astype(np.int32) + (1 << (bits - 1))).astype(kind)


def _from_lab(samples: Pixels, bits: int, data: bytes) -> Raster:
    """Convert CIELAB to sRGB; white becomes white, whichever the file names.

    Ranges and offsets are those of the file, or the ones of ISO/IEC 15444-2, M.11.7.4.1.
    """
    numbers = next(body[7:] for body in _colours(data) if body[0] == 1)
    half = 1 << (bits - 1)
    ranges = (100, 0, 170, half, 200, half // 2 + half // 4)
    if len(numbers) >= 24:
        ranges = struct.unpack_from(">6I", numbers)
    top = (1 << bits) - 1
    levels = samples / full_scale(samples.dtype)
    axes = [
        (levels[..., number] - ranges[2 * number + 1] / top) * ranges[2 * number]
        for number in range(3)
    ]
    return pillow.raster_of_lab(axes[0], np.dstack(axes[1:]))


def _from_samples(samples: Pixels, space: int) -> Raster:
    """Convert samples of a colour space to grey or RGB."""
    samples = samples.reshape(*samples.shape[:2], -1)
    if space == _CMYK and samples.shape[2] == 4:
        return pillow.raster_of_cmyk(samples, None)
    if space == _LUMA and samples.shape[2] >= 3:
        samples = np.dstack((rgb_of(samples[..., :3]), samples[..., 3:]))
    return Raster.of(samples)


def _bits(data: bytes, stream: Codestream) -> int:
    """Return the bits of a sample, or of a colour in the palette."""
    palette = _head_boxes(data).get(b"pclr", b"")
    if len(palette) > 3:
        return max((kind & 127) + 1 for kind in palette[3 : 3 + palette[2]])
    return max(part.bits for part in stream.components)


def _metadata(data: bytes) -> Metadata:
    """Return the profile, EXIF and XMP; a bare codestream has none."""
    if data.startswith(SIGNATURE):
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
    if data.startswith(SIGNATURE):
        return []
    head = dict(boxes(data)).get(b"jp2h", b"")
    return [body for kind, body in boxes(head) if kind == b"colr" and body]


def _head_boxes(data: bytes) -> dict[bytes, bytes]:
    """Return the boxes that describe the image; a bare codestream has none."""
    if data.startswith(SIGNATURE):
        return {}
    return dict(boxes(dict(boxes(data)).get(b"jp2h", b"")))


register(
    Codec(
        name="jpeg2000",
        label="JPEG 2000",
        suffixes=("jp2", "j2k", "jpx"),
        sniff=starts_with(b"\0\0\0\x0cjP  ", SIGNATURE),
        read_header=read_header,
        decode=decode,
        salvage=Salvage(decode=salvage),
    )
)
