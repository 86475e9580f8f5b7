"""PNG: its pixels through imagecodecs; its header and what travels beside them is read here.

Pillow cuts 16 bits to 8 without a word and OpenCV drops grey with alpha, and imagecodecs carries no
metadata. Damage to the pixels raises in imagecodecs; only a missing end is for us to notice.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from typing import BinaryIO

import imagecodecs
import numpy as np

from upscale.images.codecs.base import Header, MalformedError, Raster, UnsupportedError
from upscale.images.codecs.formats import TRAITS
from upscale.images.image import Image, Metadata
from upscale.images.metadata import cicp as colour
from upscale.images.metadata import exif, iptc

# Without a handler, Python prints libpng's remarks about ancillary chunks to standard error.
logging.getLogger("imagecodecs").addHandler(logging.NullHandler())

_SIGNATURE_SIZE = 8
HEADER_END = 33
_STRUCTURE = (b"IHDR", b"acTL", b"IEND")
_TAIL_BYTES = 256 * 1024
_MAX_METADATA_BYTES = 64 * 1024 * 1024
_XMP_KEY, _COMMENT_KEY, _RAW_KEY = b"XML:com.adobe.xmp", b"Comment", b"Raw profile type "
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
    metadata, frames, plays = Metadata(), 1, 1
    for kind, body in chunks:
        if kind == b"IHDR" and len(body) == 13:
            size = size or struct.unpack_from(">II", body)
        elif kind == b"acTL" and len(body) >= 8:
            frames, plays = struct.unpack_from(">II", body)
        metadata = _with_chunk(metadata, kind, body)
    if size is None or 0 in size:
        raise MalformedError("is damaged")
    turned = exif.orientation_of(metadata.exif)
    return Header(*size, turned, max(1, frames), plays, metadata)


def decode(file: BinaryIO) -> Raster:
    """Decode the image; of an animation, its default image.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: A side is longer than libpng takes.
    """
    return decode_bytes(file.read())


def decode_bytes(data: bytes) -> Raster:
    """Decode an image whose file is in memory; see `decode`.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: A side is longer than libpng takes.
    """
    longest = TRAITS["png"].max_side
    if max(struct.unpack_from(">II", data, 16)) > longest:
        raise UnsupportedError(f"has a side of more than {longest} px")
    try:
        samples = imagecodecs.png_decode(data)
    except imagecodecs.PngError as error:
        if any(part in str(error) for part in _WHAT_IS_CUT):
            raise MalformedError("is cut off") from error
        checksum = " (a checksum does not match)" if "CRC" in str(error) else ""
        raise MalformedError(f"is damaged{checksum}") from error
    return Raster.of(samples)


def encode(image: Image, target: BinaryIO) -> None:
    """Encode uint8 or uint16 pixels, with their alpha and metadata."""
    plain = encode_plain(image)
    target.write(plain[:HEADER_END])
    target.write(metadata_chunks(image.metadata))
    target.write(plain[HEADER_END:])


def encode_plain(image: Image) -> memoryview:
    """Encode uint8 or uint16 pixels and their alpha as a file without metadata."""
    samples = image.samples()
    shape = samples.shape if samples.shape[2] > 1 else samples.shape[:2]
    # imagecodecs looks at strides even along sides of 1 px, where numpy leaves them to chance.
    samples = np.ascontiguousarray(samples).ravel().reshape(shape)
    # imagecodecs' own guess is too small for narrow images: a row has a byte more, a chunk 12.
    most = 2 * HEADER_END + (samples.nbytes + len(samples)) * 129 // 128 + 1024
    return memoryview(imagecodecs.png_encode(samples, level=_LEVEL, out=most))


def _chunks(file: BinaryIO, start: int = _SIGNATURE_SIZE) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content (where it is wanted) of each chunk; damaged ancillary ones are left out."""
    file.seek(start)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind not in _ADDERS and kind not in _STRUCTURE:
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
    add = _ADDERS.get(kind)
    try:
        return metadata if add is None else add(metadata, body)
    except (ValueError, IndexError, zlib.error, struct.error):
        return metadata


def _with_profile(metadata: Metadata, body: bytes) -> Metadata:
    return replace(metadata, icc=_inflate(body.partition(b"\0")[2][1:]))


def _with_exif(metadata: Metadata, body: bytes) -> Metadata:
    return replace(metadata, exif=exif.without_prefix(body))


def _with_resolution(metadata: Metadata, body: bytes) -> Metadata:
    return replace(metadata, dpi=_dpi(body)) if body[8:9] == b"\1" else metadata


def _with_numbered_colour(metadata: Metadata, body: bytes) -> Metadata:
    return replace(metadata, cicp=colour.named(body[0], body[1]))


def _dpi(body: bytes) -> tuple[float, float] | None:
    """Pixels per inch from a pHYs chunk in metres."""
    across, down = struct.unpack(">II", body[:8])
    return (across * _METRES_PER_INCH, down * _METRES_PER_INCH) if across and down else None


def _with_international_text(metadata: Metadata, body: bytes) -> Metadata:
    """Add the XMP packet or the comment that an iTXt chunk may be."""
    key, _, rest = body.partition(b"\0")
    if key not in (_XMP_KEY, _COMMENT_KEY) or len(rest) < 2:
        return metadata
    text = rest[2:].split(b"\0", 2)[2]
    text = _inflate(text) if rest[0] else text
    if key == _XMP_KEY:
        return replace(metadata, xmp=text)
    return replace(metadata, comment=text.decode("utf-8", "replace") or None)


def _with_packed_text(metadata: Metadata, body: bytes) -> Metadata:
    key, _, text = body.partition(b"\0")
    if key != _COMMENT_KEY and not key.startswith(_RAW_KEY):
        return metadata
    return _with_text(metadata, key + b"\0" + _inflate(text[1:]))


def _with_text(metadata: Metadata, body: bytes) -> Metadata:
    """Add a comment, or EXIF, XMP or IPTC that ImageMagick wrote as hexadecimal text."""
    key, _, text = body.partition(b"\0")
    if key == _COMMENT_KEY:
        return replace(metadata, comment=text.decode("latin-1") or None)
    if not key.startswith(_RAW_KEY):
        return metadata
    _, length, *lines = text.split()
    # Some writers leave rubbish behind the digits.
    block = bytes.fromhex(b"".join(lines)[: 2 * int(length)].decode("ascii"))
    name = key.rpartition(b" ")[2]
    if name == b"xmp":
        return replace(metadata, xmp=metadata.xmp or block)
    if name == b"iptc":
        return replace(metadata, iptc=metadata.iptc or iptc.without_resource(block))
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


def metadata_chunks(metadata: Metadata) -> bytes:
    """The chunks that carry the metadata, to stand right after IHDR."""
    parts: list[bytes] = []
    if metadata.icc:
        parts.append(chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.cicp:
        parts.append(chunk(b"cICP", bytes((*metadata.cicp, 0, 1))))
    if metadata.exif:
        parts.append(chunk(b"eXIf", metadata.exif))
    if metadata.xmp:
        parts.append(chunk(b"iTXt", _XMP_KEY + b"\0\0\0\0\0" + metadata.xmp))
    if metadata.iptc:
        parts.append(chunk(b"zTXt", _raw_profile(b"iptc", iptc.as_resource(metadata.iptc))))
    if metadata.comment:
        text = metadata.comment.encode()
        parts.append(chunk(b"iTXt", _COMMENT_KEY + b"\0\0\0\0\0" + text))
    if metadata.dpi:
        across, down = (min(round(value / _METRES_PER_INCH), 2**31 - 1) for value in metadata.dpi)
        parts.append(chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))
    return b"".join(parts)


def _raw_profile(name: bytes, block: bytes) -> bytes:
    """A block as ImageMagick and ExifTool write and read it: lines of hexadecimal text, packed."""
    digits = block.hex().encode()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    text = b"\n%s\n%8d\n%s\n" % (name, len(block), b"\n".join(lines))
    return _RAW_KEY + name + b"\0\0" + zlib.compress(text)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk as it stands in a file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


_ADDERS: Mapping[bytes, Callable[[Metadata, bytes], Metadata]] = {
    b"iCCP": _with_profile,
    b"eXIf": _with_exif,
    b"pHYs": _with_resolution,
    b"cICP": _with_numbered_colour,
    b"tEXt": _with_text,
    b"zTXt": _with_packed_text,
    b"iTXt": _with_international_text,
}
