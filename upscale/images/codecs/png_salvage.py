"""Pixels of a PNG that is damaged or cut off: the rows before the damage.

The rows that can be decompressed are stored anew, with empty rows for the others, so that libpng
decodes them in every colour type and depth.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from upscale.images.codecs.base import MalformedError, rows_missing
from upscale.images.codecs.png_chunks import SIGNATURE, chunk

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column and row of each pass of an interlaced image, and the steps between its pixels.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
           (0, 1, 1, 2))  # fmt: skip
_MAX_FILTER = 4
_PIECE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Repaired:
    """A whole PNG file with the rows that could be read.

    Attributes:
        data: The file.
        damage: Clause that says what is missing.
    """

    data: bytes
    damage: str


def repaired(data: bytes) -> Repaired:
    """Return a whole file with the rows that can be decompressed.

    Args:
        data: A PNG file without its signature being checked, damaged or cut off.

    Raises:
        MalformedError: No row can be decompressed.
    """
    header, others, compressed = b"", b"", b""
    for kind, body in _chunks(data):
        if kind == b"IHDR" and not header:
            header = body
        elif kind in (b"PLTE", b"tRNS"):
            others += chunk(kind, body)
        elif kind == b"IDAT":
            compressed += body
    if len(header) != 13 or header[9] not in _SAMPLES:
        raise MalformedError("is damaged")
    lengths = list(_row_lengths(header))
    plain = _inflated(compressed, sum(lengths))
    kept, position = 0, 0
    for length in lengths:
        if position + length > len(plain) or plain[position] > _MAX_FILTER:
            break
        kept, position = kept + 1, position + length
    if not kept:
        raise MalformedError("is damaged")
    missing = "some details are missing" if header[12] else rows_missing(kept, len(lengths))
    if kept == len(lengths):
        missing = "a part of its pixels may be wrong"
    pixels = zlib.compress(plain[:position] + bytes(sum(lengths) - position), 1)
    whole = SIGNATURE + chunk(b"IHDR", header) + others + chunk(b"IDAT", pixels)
    return Repaired(whole + chunk(b"IEND", b""), missing)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each chunk, that of the last as far as it is there."""
    position = len(SIGNATURE)
    while position + 8 < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if not kind.isalpha():
            return
        yield kind, data[position + 8 : position + 8 + length]
        position += length + 12


def _row_lengths(header: bytes) -> Iterator[int]:
    """Yield the bytes of each stored row, with the byte of its filter."""
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    pixel_bits = bits * _SAMPLES[colour]
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns = (width - left + across - 1) // across
        rows = (height - top + down - 1) // down
        if columns > 0 and rows > 0:
            yield from [1 + (columns * pixel_bits + 7) // 8] * rows


def _inflated(compressed: bytes, limit: int) -> bytes:
    """Decompress what can be; on damaged data, up to the last byte before it."""
    inflater = zlib.decompressobj()
    plain = bytearray()
    for start in range(0, len(compressed), _PIECE_BYTES):
        piece, before = compressed[start : start + _PIECE_BYTES], inflater.copy()
        try:
            plain += inflater.decompress(piece, max(1, limit - len(plain)))
        except zlib.error:
            plain += _inflated_bytewise(before, piece)
            break
        if len(plain) >= limit or inflater.eof:
            break
    return bytes(plain[:limit])


def _inflated_bytewise(inflater: zlib._Decompress, piece: bytes) -> bytes:  # pyright: ignore[reportPrivateUsage]
    plain = bytearray()
    try:
        for number in piece:
            plain += inflater.decompress(bytes((number,)))
    except zlib.error:
        pass
    return bytes(plain)
