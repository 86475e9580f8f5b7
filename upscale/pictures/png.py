"""PNG: its pixels through imagecodecs; its header and what travels beside them is read here.

Pillow cuts 16 bits to 8 without a word and OpenCV drops grey with alpha, and imagecodecs carries no
metadata. Damage to the pixels raises in imagecodecs; only a missing end is for us to notice.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from typing import BinaryIO

import imagecodecs
import numpy as np

from upscale.pictures import exif
from upscale.pictures.decoded import Header, MalformedError, Raster, UnsupportedError
from upscale.pictures.formats import MAX_SIDE
from upscale.pictures.picture import Metadata, Picture

# Without a handler, Python prints libpng's remarks about ancillary chunks to standard error.
logging.getLogger("imagecodecs").addHandler(logging.NullHandler())

_SIGNATURE_SIZE = 8
_HEADER_END = 33
_WANTED = {b"IHDR", b"acTL", b"iCCP", b"eXIf", b"pHYs", b"tEXt", b"zTXt", b"iTXt", b"IEND"}
_TAIL_BYTES = 256 * 1024
_MAX_METADATA_BYTES = 64 * 1024 * 1024
_XMP_KEY = b"XML:com.adobe.xmp"
_METRES_PER_INCH = 0.0254
_LEVEL = 4
_WHAT_IS_CUT = ("Not enough image data", "too small")


def read_header(file: BinaryIO) -> Header:
    """Size, orientation, frames and metadata; pixels are skipped, not read.

    Raises:
        MalformedError: Damaged or cut off.
    """
    return _header(_chunks(file))


def read_shape(file: BinaryIO) -> Header:
    """Size and orientation, from what stands before the pixels and at the end of the file.

    To walk over the pixels would read half of the file, since their chunks are small.

    Raises:
        MalformedError: Damaged or cut off.
    """
    header = _header(takewhile(lambda chunk: chunk[0] != b"IDAT", _chunks(file)))
    if header.metadata.exif:
        return header
    start = max(_SIGNATURE_SIZE, file.seek(0, 2) - _TAIL_BYTES)
    file.seek(start)
    behind = file.read().rfind(b"eXIf")
    if behind < 4:
        return header
    with suppress(MalformedError):
        block = next((body for _, body in _chunks(file, start + behind - 4)), None)
        return replace(header, orientation=exif.orientation_of(exif.without_prefix(block)))
    return header


def _header(chunks: Iterable[tuple[bytes, bytes]]) -> Header:
    """What the chunks say."""
    size: tuple[int, int] | None = None
    metadata, frames = Metadata(), 1
    for kind, body in chunks:
        if kind == b"IHDR" and len(body) == 13:
            size = size or struct.unpack_from(">II", body)
        elif kind == b"acTL" and len(body) >= 8:
            frames = max(1, int.from_bytes(body[:4], "big"))
        metadata = _with_chunk(metadata, kind, body)
    if size is None or 0 in size:
        raise MalformedError("is damaged")
    return Header(*size, exif.orientation_of(metadata.exif), frames, metadata)


def decode(data: bytes) -> Raster:
    """Decode the picture; of an animation, its default picture.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: A side is longer than libpng takes.
    """
    if max(struct.unpack_from(">II", data, 16)) > MAX_SIDE["png"]:
        raise UnsupportedError(f"has a side of more than {MAX_SIDE['png']} px")
    try:
        samples = imagecodecs.png_decode(data)
    except imagecodecs.PngError as error:
        if any(part in str(error) for part in _WHAT_IS_CUT):
            raise MalformedError("is cut off") from error
        checksum = " (a checksum does not match)" if "CRC" in str(error) else ""
        raise MalformedError(f"is damaged{checksum}") from error
    return Raster.of(samples)


def encode(picture: Picture) -> bytes:
    """Encode uint8 or uint16 pixels, with their alpha and metadata."""
    samples = picture.samples()
    shape = samples.shape if samples.shape[2] > 1 else samples.shape[:2]
    # imagecodecs looks at strides even along sides of 1 px, where numpy leaves them to chance.
    samples = np.ascontiguousarray(samples).ravel().reshape(shape)
    # imagecodecs' own guess is too small for narrow pictures: a row has a byte more, a chunk 12.
    most = 2 * _HEADER_END + (samples.nbytes + len(samples)) * 129 // 128 + 1024
    plain = bytes(imagecodecs.png_encode(samples, level=_LEVEL, out=most))
    return plain[:_HEADER_END] + _metadata_chunks(picture.metadata) + plain[_HEADER_END:]


def _chunks(file: BinaryIO, start: int = _SIGNATURE_SIZE) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content (where it is wanted) of each chunk; damaged ancillary ones are left out."""
    file.seek(start)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind not in _WANTED:
            yield kind, b""
            file.seek(length + 4, 1)
            continue
        body, checksum = file.read(length), file.read(4)
        if len(checksum) < 4:
            break
        if zlib.crc32(kind + body) == int.from_bytes(checksum, "big"):
            yield kind, body
        elif kind[:1].isupper():
            raise MalformedError("is damaged (a checksum does not match)")
        if kind == b"IEND":
            return
    raise MalformedError("is cut off")


def _with_chunk(metadata: Metadata, kind: bytes, body: bytes) -> Metadata:
    """Add what one chunk says; a chunk that cannot be read says nothing."""
    try:
        if kind == b"iCCP":
            return replace(metadata, icc=_inflate(body.partition(b"\0")[2][1:]))
        if kind == b"eXIf":
            return replace(metadata, exif=exif.without_prefix(body))
        if kind == b"pHYs" and body[8:9] == b"\1":
            return replace(metadata, dpi=_dpi(body))
        if kind in (b"tEXt", b"zTXt"):
            return _with_raw_profile(metadata, kind, body)
        return _with_xmp(metadata, body) if kind == b"iTXt" else metadata
    except (ValueError, IndexError, zlib.error):
        return metadata


def _dpi(body: bytes) -> tuple[float, float] | None:
    """Pixels per inch from a pHYs chunk in metres."""
    across, down = struct.unpack(">II", body[:8])
    return (across * _METRES_PER_INCH, down * _METRES_PER_INCH) if across and down else None


def _with_xmp(metadata: Metadata, body: bytes) -> Metadata:
    """Add the XMP packet that an iTXt chunk may be."""
    key, _, rest = body.partition(b"\0")
    if key != _XMP_KEY or len(rest) < 2:
        return metadata
    text = rest[2:].split(b"\0", 2)[2]
    return replace(metadata, xmp=_inflate(text) if rest[0] else text)


def _with_raw_profile(metadata: Metadata, kind: bytes, body: bytes) -> Metadata:
    """Add EXIF or XMP that ImageMagick wrote as hexadecimal text."""
    key, _, text = body.partition(b"\0")
    if not key.startswith(b"Raw profile type "):
        return metadata
    text = _inflate(text[1:]) if kind == b"zTXt" else text
    _, length, *lines = text.split()
    # Some writers leave rubbish behind the digits.
    block = bytes.fromhex(b"".join(lines)[: 2 * int(length)].decode("ascii"))
    name = key.rpartition(b" ")[2]
    if name == b"xmp":
        return replace(metadata, xmp=metadata.xmp or block)
    if name == b"exif" or (name == b"APP1" and block.startswith(b"Exif")):
        return replace(metadata, exif=metadata.exif or exif.without_prefix(block))
    return metadata


def _inflate(packed: bytes) -> bytes:
    """Inflate metadata, refusing what would fill the memory."""
    inflater = zlib.decompressobj()
    plain = inflater.decompress(packed, _MAX_METADATA_BYTES)
    if inflater.unconsumed_tail or not inflater.eof:
        raise ValueError("too large or cut off")
    return plain


def _metadata_chunks(metadata: Metadata) -> bytes:
    """The chunks that carry the metadata, to stand right after IHDR."""
    parts: list[bytes] = []
    if metadata.icc:
        parts.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.exif:
        parts.append(_chunk(b"eXIf", metadata.exif))
    if metadata.xmp:
        parts.append(_chunk(b"iTXt", _XMP_KEY + b"\0\0\0\0\0" + metadata.xmp))
    if metadata.dpi:
        across, down = (min(round(value / _METRES_PER_INCH), 2**31 - 1) for value in metadata.dpi)
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))
    return b"".join(parts)


def _chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk as it stands in a file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
