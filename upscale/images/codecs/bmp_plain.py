"""BMP with headers that Pillow does not know, rewritten as those that it knows, and cut-off files.

Pillow refuses the short header of OS/2 2 and palettes of more colours than pixels can refer to,
and invents rows that are missing.

Sources: "Bitmap Header Types" in Microsoft's documentation of Windows GDI, and "OS/2 Bitmap File
Format" in the Encyclopedia of Graphics File Formats.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO

from upscale.images.codecs.base import MalformedError

_HEAD_BYTES, _CORE_BYTES, _INFO_BYTES = 14, 12, 40
_SHORTEST_OS2_BYTES, _OS2_BYTES = 16, 64
_KNOWN_BYTES = (_CORE_BYTES, _INFO_BYTES, 52, 56, _OS2_BYTES, 108, 124)
_PLAIN, _RLE8, _RLE4, _BIT_FIELDS = 0, 1, 2, 3
_COLOURS = 32
_END_OF_ROW, _END, _MOVE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Where and how pixels are stored."""

    width: int
    height: int
    bits: int
    compression: int
    start: int

    @property
    def row_bytes(self) -> int:
        return (self.width * self.bits + 7) // 8

    @property
    def stride(self) -> int:
        return (self.row_bytes + 3) // 4 * 4


def plain_file(file: BinaryIO) -> BinaryIO:
    """Return a file that Pillow reads; the same one where its header is known.

    Args:
        file: The file at its start.
    """
    data = file.read(_HEAD_BYTES + _INFO_BYTES)
    file.seek(0)
    if len(data) < _HEAD_BYTES + _SHORTEST_OS2_BYTES:
        return file
    start, size = struct.unpack_from("<II", data, 10)
    head = bytearray(
        data[_HEAD_BYTES : _HEAD_BYTES + min(size, _INFO_BYTES)].ljust(_INFO_BYTES, b"\0")
    )
    bits, compression = struct.unpack_from("<HI", head, 14)
    (colours,) = struct.unpack_from("<I", head, _COLOURS)
    is_unknown = size not in _KNOWN_BYTES and _SHORTEST_OS2_BYTES <= size < _OS2_BYTES
    is_unknown = is_unknown and compression in (_PLAIN, _RLE8, _RLE4)
    has_unused_colours = size != _CORE_BYTES and bits <= 8 and colours > 1 << bits
    if not is_unknown and not has_unused_colours:
        return file
    if has_unused_colours:
        struct.pack_into("<I", head, _COLOURS, 1 << bits)
    content = file.read()
    file.seek(0)
    if not is_unknown:
        return io.BytesIO(content[:_HEAD_BYTES] + head + content[_HEAD_BYTES + _INFO_BYTES :])
    struct.pack_into("<I", head, 0, _INFO_BYTES)
    longer = bytearray(content[:_HEAD_BYTES])
    struct.pack_into("<I", longer, 10, start + _INFO_BYTES - size)
    return io.BytesIO(longer + head + content[_HEAD_BYTES + size :])


def whole_file(file: BinaryIO) -> BinaryIO:
    """Return a file with all its pixels; bytes that only fill up the last row are added.

    Args:
        file: A file that `plain_file` returned.

    Raises:
        MalformedError: Pixels are missing.
    """
    return padded_file(file, allowed=0)[0]


def padded_file(file: BinaryIO, allowed: int | None = None) -> tuple[BinaryIO, int]:
    """Return a file with 0s in place of what is missing, and the number of rows that lack pixels.

    Args:
        file: A file that `plain_file` returned.
        allowed: Number of rows that may be missing; None allows all but one.

    Raises:
        MalformedError: More rows are missing.
    """
    pixels = _pixels(file)
    size = file.seek(0, 2)
    file.seek(0)
    if pixels is None:
        return file, 0
    if pixels.compression in (_RLE8, _RLE4):
        content = file.read()
        file.seek(0)
        end, missing = _packed_end(content[pixels.start :], pixels)
        _check_missing(missing, pixels.height, allowed)
        # Pillow fills rows only where it is told to move on.
        moves = b"\0\2\0\xff" * (pixels.height // 255 + 1)
        return io.BytesIO(content[: pixels.start + end] + moves), missing
    needed = pixels.start + pixels.stride * pixels.height
    if size >= needed:
        return file, 0
    whole = max(0, size - pixels.start + pixels.stride - pixels.row_bytes) // pixels.stride
    missing = pixels.height - whole
    _check_missing(missing, pixels.height, allowed)
    return io.BytesIO(file.read().ljust(needed, b"\0")), missing


def _check_missing(missing: int, height: int, allowed: int | None) -> None:
    if missing > (height - 1 if allowed is None else allowed):
        raise MalformedError("is cut off")


def _pixels(file: BinaryIO) -> _Pixels | None:
    """Return where pixels are; None where Pillow decides, such as for unknown headers."""
    data = file.read(_HEAD_BYTES + _INFO_BYTES)
    file.seek(0)
    if len(data) < _HEAD_BYTES + _CORE_BYTES:
        return None
    start, size = struct.unpack_from("<II", data, 10)
    if size == _CORE_BYTES:
        width, height, _, bits = struct.unpack_from("<4H", data, 18)
        compression, colours, colour_bytes = _PLAIN, 0, 3
    elif size >= _INFO_BYTES and len(data) == _HEAD_BYTES + _INFO_BYTES:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
        (colours,) = struct.unpack_from("<I", data, 14 + _COLOURS)
        colour_bytes = 4
    else:
        return None
    if start == _HEAD_BYTES + size and bits <= 8:
        # The start leaves out the palette.
        start += colour_bytes * (colours or 1 << bits)
    is_known = compression in (_PLAIN, _RLE8, _RLE4, _BIT_FIELDS)
    if not is_known or start < _HEAD_BYTES + size or width <= 0 or height == 0:
        return None
    return _Pixels(width, abs(height), bits, compression, start)


def _packed_end(data: bytes, pixels: _Pixels) -> tuple[int, int]:
    """Return where packed pixels end, and how many rows they lack.

    Rows after a mark of the end are not missing: they are left out on purpose.
    """
    position, end, column, row = 0, 0, 0, 0
    while row < pixels.height and position + 2 <= len(data):
        count, value = data[position], data[position + 1]
        position += 2
        if count:
            column += count
        elif value == _END:
            return end, 0
        elif value == _END_OF_ROW:
            column, row = 0, row + 1
        elif value == _MOVE:
            if position + 2 > len(data):
                break
            column, row = column + data[position], row + data[position + 1]
            position += 2
        else:
            length = value if pixels.compression == _RLE8 else (value + 1) // 2
            if position + length > len(data):
                break
            column, position = column + value, position + length + length % 2
        end = position
    has_last = column >= pixels.width
    return end, max(0, pixels.height - row - has_last)
