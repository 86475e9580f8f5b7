"""Chunks of PNG files and the metadata in them.

imagecodecs reads and writes no metadata; Pillow decodes EXIF and text only after the pixels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import BinaryIO

from upscale.images.codecs.base import MalformedError
from upscale.images.image import Metadata
from upscale.images.metadata import cicp, exif, iptc, photoshop
from upscale.images.metadata.calibration import profile_of, states
from upscale.images.metadata.density import ratio_of, whole_numbers
from upscale.images.metadata.fields import Calibration, Text

SIGNATURE = b"\x89PNG\r\n\x1a\n"

TEXT_KINDS = (b"tEXt", b"zTXt", b"iTXt")

_STRUCTURE = (b"IHDR", b"acTL", b"IEND")
_MAX_METADATA_BYTES = 64 * 1024 * 1024
_XMP_KEY, _COMMENT_KEY, _RAW_KEY = b"XML:com.adobe.xmp", b"Comment", b"Raw profile type "
_METRES_PER_INCH = 0.0254
_MAX_TEXTS, _MAX_TEXT_LENGTH, _MAX_KEY_BYTES = 1000, 16 * 1024 * 1024, 79


class TextsTooLargeError(Exception):
    """The texts of a file would fill the memory."""


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def chunks(file: BinaryIO, start: int = len(SIGNATURE)) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each chunk; content that is not used here is skipped.

    Damaged ancillary chunks are left out. A file may end behind the start of its pixels; the
    decoder finds out whether they are complete.

    Args:
        file: The PNG file.
        start: Position of the first chunk.

    Raises:
        MalformedError: Damaged or cut off.
    """
    file.seek(start)
    has_pixels = False
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        has_pixels = has_pixels or kind == b"IDAT"
        if kind not in _PARSERS and kind not in _STRUCTURE:
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
    if not has_pixels:
        raise MalformedError("is cut off")


def chunk_positions(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, position and length of each chunk's content, up to the last chunk."""
    position, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        head = content_at(file, position, 8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        yield kind, position + 8, length
        position += length + 12


def content_at(file: BinaryIO, position: int, length: int) -> bytes:
    """Read bytes at a position; fewer at the end of the file."""
    file.seek(position)
    return file.read(length)


def verified_content(file: BinaryIO, position: int, length: int) -> bytes:
    """Read the content of a chunk and verify its checksum.

    Args:
        file: The PNG file.
        position: Position of the content.
        length: Length of the content in bytes.

    Raises:
        MalformedError: Damaged or cut off.
    """
    content = content_at(file, position - 4, length + 8)
    if len(content) < length + 8:
        raise MalformedError("is cut off")
    if zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "big"):
        raise MalformedError("is damaged (a checksum does not match)")
    return content[4:-4]


def add_metadata(metadata: Metadata, kind: bytes, body: bytes) -> Metadata:
    """Return metadata with what a chunk adds; damaged chunks add nothing.

    Args:
        metadata: Metadata of the chunks before.
        kind: Kind of the chunk.
        body: Content of the chunk.

    Raises:
        TextsTooLargeError: The texts would fill the memory.
    """
    parse = _PARSERS.get(kind)
    try:
        return metadata if parse is None else parse(metadata, body)
    except (ValueError, IndexError, zlib.error, struct.error):
        return metadata


def metadata_chunks(metadata: Metadata) -> bytes:
    """Return the chunks that carry metadata; they follow IHDR."""
    parts: list[bytes] = []
    parts += _calibration_chunks(metadata)
    if metadata.icc and not states(metadata.calibration, metadata.icc):
        parts.append(chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.cicp:
        parts.append(chunk(b"cICP", bytes((*metadata.cicp, 0, 1))))
    if metadata.exif:
        parts.append(chunk(b"eXIf", metadata.exif))
    if metadata.xmp:
        parts.append(chunk(b"iTXt", _XMP_KEY + b"\0\0\0\0\0" + metadata.xmp))
    resources = iptc.as_resource(metadata.iptc) if metadata.iptc else b""
    resources += photoshop.block_of(metadata.photoshop)
    if resources:
        parts.append(chunk(b"zTXt", _raw_profile(b"iptc", resources)))
    if metadata.comment:
        text = metadata.comment.encode()
        parts.append(chunk(b"iTXt", _COMMENT_KEY + b"\0\0\0\0\0" + text))
    parts += (_text_chunk(text) for text in metadata.texts)
    if metadata.modified:
        parts.append(chunk(b"tIME", _time(metadata.modified)))
    if metadata.density_ratio and not metadata.dpi:
        ratio = whole_numbers(metadata.density_ratio, 2**31 - 1)
        parts.append(chunk(b"pHYs", struct.pack(">IIB", *ratio, 0)))
    if metadata.dpi:
        across, down = (min(round(value / _METRES_PER_INCH), 2**31 - 1) for value in metadata.dpi)
        parts.append(chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))
    return b"".join(parts)


def _add_profile(metadata: Metadata, body: bytes) -> Metadata:
    return replace(metadata, icc=_inflate(body.partition(b"\0")[2][1:]))


def _add_exif(metadata: Metadata, body: bytes) -> Metadata:
    return replace(metadata, exif=exif.without_prefix(body))


def _add_resolution(metadata: Metadata, body: bytes) -> Metadata:
    across, down = struct.unpack(">II", body[:8])
    if body[8:9] == b"\0":
        return replace(metadata, density_ratio=ratio_of(across, down))
    if body[8:9] != b"\1" or not across or not down:
        return metadata
    return replace(metadata, dpi=(across * _METRES_PER_INCH, down * _METRES_PER_INCH))


def _add_cicp(metadata: Metadata, body: bytes) -> Metadata:
    numbers = cicp.named(body[0], body[1])
    if numbers is None:
        # sRGB by numbers outranks gamma and primaries, as the chunk for sRGB does.
        return replace(metadata, calibration=replace(_calibration(metadata), intent=0))
    return replace(metadata, cicp=numbers)


def with_calibrated_profile(metadata: Metadata, *, is_grey: bool) -> Metadata:
    """Return metadata with a profile from gamma and primaries, where nothing outranks them.

    Args:
        metadata: Metadata of all chunks.
        is_grey: Whether the image is grey.
    """
    calibration = metadata.calibration
    if calibration is None or metadata.icc or metadata.cicp:
        return metadata
    return replace(metadata, icc=profile_of(calibration, is_grey=is_grey))


def _calibration(metadata: Metadata) -> Calibration:
    return metadata.calibration or Calibration()


def _add_gamma(metadata: Metadata, body: bytes) -> Metadata:
    (gamma,) = struct.unpack(">I", body)
    return replace(metadata, calibration=replace(_calibration(metadata), gamma=gamma))


def _add_chromaticities(metadata: Metadata, body: bytes) -> Metadata:
    points = struct.unpack(">8I", body)
    return replace(metadata, calibration=replace(_calibration(metadata), chromaticities=points))


def _add_srgb(metadata: Metadata, body: bytes) -> Metadata:
    return replace(metadata, calibration=replace(_calibration(metadata), intent=body[0] % 4))


def _add_mastering_display(metadata: Metadata, body: bytes) -> Metadata:
    return replace(metadata, calibration=replace(_calibration(metadata), mastering_display=body))


def _add_light_level(metadata: Metadata, body: bytes) -> Metadata:
    return replace(metadata, calibration=replace(_calibration(metadata), light_level=body))


def _calibration_chunks(metadata: Metadata) -> Iterator[bytes]:
    """Yield the chunks of a calibration."""
    calibration = _calibration(metadata)
    if calibration.gamma is not None:
        yield chunk(b"gAMA", struct.pack(">I", calibration.gamma))
    if calibration.chromaticities is not None:
        yield chunk(b"cHRM", struct.pack(">8I", *calibration.chromaticities))
    if calibration.intent is not None and not metadata.icc:
        yield chunk(b"sRGB", bytes((calibration.intent,)))
    if calibration.mastering_display is not None:
        yield chunk(b"mDCV", calibration.mastering_display)
    if calibration.light_level is not None:
        yield chunk(b"cLLI", calibration.light_level)


def _add_time(metadata: Metadata, body: bytes) -> Metadata:
    year, month, day, hour, minute, second = struct.unpack(">H5B", body)
    # A leap second has the number 60.
    return replace(metadata, modified=datetime(year, month, day, hour, minute, min(second, 59)))


def _time(modified: datetime) -> bytes:
    return struct.pack(">H5B", *modified.timetuple()[:6])


def _add_international_text(metadata: Metadata, body: bytes) -> Metadata:
    """Add the XMP packet, comment or text of an iTXt chunk."""
    key, _, rest = body.partition(b"\0")
    language, translated, text = rest[2:].split(b"\0", 2)
    text = _inflate(text) if rest[0] else text
    if key == _XMP_KEY:
        return replace(metadata, xmp=text)
    plain = (part.decode("utf-8", "replace") for part in (text, language, translated))
    return _with_text(metadata, Text(key.decode("latin-1"), *plain))


def _add_compressed_text(metadata: Metadata, body: bytes) -> Metadata:
    key, _, text = body.partition(b"\0")
    return _add_text(metadata, key + b"\0" + _inflate(text[1:]))


def _with_text(metadata: Metadata, text: Text) -> Metadata:
    """Add a text, the first comment as such.

    Raises:
        TextsTooLargeError: There are too many texts.
    """
    if not text.keyword or not text.text:
        return metadata
    if text.keyword == _COMMENT_KEY.decode() and metadata.comment is None and not text.language:
        return replace(metadata, comment=text.text)
    known = sum(len(other.text) for other in metadata.texts)
    if known + len(text.text) > _MAX_TEXT_LENGTH or len(metadata.texts) >= _MAX_TEXTS:
        raise TextsTooLargeError
    return replace(metadata, texts=(*metadata.texts, text))


def _text_chunk(text: Text) -> bytes:
    """Return a text as tEXt, which all programs read, where that can hold it."""
    key = text.keyword.encode("latin-1", "replace")[:_MAX_KEY_BYTES]
    with suppress(UnicodeEncodeError):
        if not text.language and not text.translated:
            return chunk(b"tEXt", key + b"\0" + text.text.encode("latin-1"))
    parts = (part.encode() for part in (text.language, text.translated, text.text))
    return chunk(b"iTXt", key + b"\0\0\0" + b"\0".join(parts))


def _add_text(metadata: Metadata, body: bytes) -> Metadata:
    """Add a text, or EXIF, XMP or IPTC that ImageMagick wrote as hexadecimal text."""
    key, _, text = body.partition(b"\0")
    if not key.startswith(_RAW_KEY):
        return _with_text(metadata, Text(key.decode("latin-1"), text.decode("latin-1")))
    _, length, *lines = text.split()
    # Some writers leave garbage after the digits.
    block = bytes.fromhex(b"".join(lines)[: 2 * int(length)].decode("ascii"))
    name = key.rpartition(b" ")[2]
    if name == b"xmp":
        return replace(metadata, xmp=metadata.xmp or block)
    if name == b"iptc":
        resources = photoshop.kept(photoshop.resources_of(block))
        return replace(
            metadata,
            iptc=metadata.iptc or iptc.without_resource(block),
            photoshop=metadata.photoshop or resources,
        )
    if name == b"exif" or (name == b"APP1" and block.startswith(b"Exif")):
        return replace(metadata, exif=metadata.exif or exif.without_prefix(block))
    return metadata


def _inflate(compressed: bytes) -> bytes:
    """Decompress metadata.

    Raises:
        TextsTooLargeError: It would fill the memory.
        ValueError: It is cut off.
    """
    inflater = zlib.decompressobj()
    plain = inflater.decompress(compressed, _MAX_METADATA_BYTES)
    if inflater.unconsumed_tail:
        raise TextsTooLargeError
    if not inflater.eof:
        raise ValueError("is cut off")
    return plain


def _raw_profile(name: bytes, block: bytes) -> bytes:
    """Return a text chunk in the form of ImageMagick and ExifTool: compressed hexadecimal lines."""
    digits = block.hex().encode()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    text = b"\n%s\n%8d\n%s\n" % (name, len(block), b"\n".join(lines))
    return _RAW_KEY + name + b"\0\0" + zlib.compress(text)


_PARSERS: Mapping[bytes, Callable[[Metadata, bytes], Metadata]] = {
    b"iCCP": _add_profile,
    b"eXIf": _add_exif,
    b"pHYs": _add_resolution,
    b"cICP": _add_cicp,
    b"gAMA": _add_gamma,
    b"cHRM": _add_chromaticities,
    b"sRGB": _add_srgb,
    b"mDCV": _add_mastering_display,
    b"cLLI": _add_light_level,
    b"tEXt": _add_text,
    b"zTXt": _add_compressed_text,
    b"iTXt": _add_international_text,
    b"tIME": _add_time,
}
