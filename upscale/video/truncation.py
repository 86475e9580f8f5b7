"""Check whether a video file is truncated, as far as its container allows.

FFmpeg reads what is there, and takes the last byte for the end. But most containers record their
length or end with a known structure.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from enum import Enum
from typing import BinaryIO

from upscale.images.codecs import gif, png
from upscale.images.codecs.base import Header, MalformedError

_TAIL_BYTES = 1 << 17
_HEAD_BYTES = 1 << 16
_MATROSKA_SEGMENT = b"\x18\x53\x80\x67"
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_SIZE_OFFSET = 40
_OGG_LAST_PAGE = 4
_OGG_FLAGS_OFFSET, _OGG_COUNT_OFFSET, _OGG_HEADER = 5, 26, 27
_FLV_DURATION = b"\0\x08duration\0"
_FLV_TAGS, _FLV_HEADER = b"\x08\x09\x12", 11
_TS_PACKET_SIZES = (188, 192, 204)


class Truncation(Enum):
    """Result of a truncation check."""

    COMPLETE = "complete"
    TRUNCATED = "truncated"
    UNKNOWN = "unknown"


def check_truncation(container: str, file: BinaryIO) -> Truncation:
    """Check whether a file is truncated.

    Args:
        container: FFmpeg's name of the format.
        file: File open for reading, at any position.
    """
    size = file.seek(0, os.SEEK_END)
    check = _CHECKS.get(container)
    return Truncation.UNKNOWN if check is None else check(file, size)


def _result(complete: bool) -> Truncation:
    return Truncation.COMPLETE if complete else Truncation.TRUNCATED


def _read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(max(0, offset))
    return file.read(length)


def _matroska(file: BinaryIO, size: int) -> Truncation:
    """Read the length of the Segment element, which is unknown in live streams."""
    head = _read_at(file, 0, _HEAD_BYTES)
    offset = head.find(_MATROSKA_SEGMENT) + len(_MATROSKA_SEGMENT)
    if offset < len(_MATROSKA_SEGMENT) or offset >= len(head) or not head[offset]:
        return Truncation.UNKNOWN
    width = 9 - head[offset].bit_length()
    mask = (1 << 7 * width) - 1
    length = int.from_bytes(head[offset : offset + width]) & mask
    return Truncation.UNKNOWN if length == mask else _result(offset + width + length <= size)


def _avi(file: BinaryIO, size: int) -> Truncation:
    length = int.from_bytes(_read_at(file, 4, 4), "little")
    return _result(length + 8 <= size) if length else Truncation.UNKNOWN


def _asf(file: BinaryIO, size: int) -> Truncation:
    head = _read_at(file, 0, _HEAD_BYTES)
    offset = head.find(_ASF_FILE) + _ASF_SIZE_OFFSET
    length = int.from_bytes(head[offset : offset + 8], "little")
    is_known = offset >= _ASF_SIZE_OFFSET and length
    return _result(length <= size) if is_known else Truncation.UNKNOWN


def _flv(file: BinaryIO, size: int) -> Truncation:
    """Check the length that follows the last tag; the header may also contain the duration."""
    length = int.from_bytes(_read_at(file, size - 4, 4))
    tag = _read_at(file, size - 4 - length, 4)
    if tag[:1] not in _FLV_TAGS or int.from_bytes(tag[1:]) + _FLV_HEADER != length:
        return Truncation.TRUNCATED
    head = _read_at(file, 0, _HEAD_BYTES)
    offset = head.find(_FLV_DURATION) + len(_FLV_DURATION)
    has_duration = offset > len(_FLV_DURATION) and any(head[offset : offset + 8])
    return Truncation.COMPLETE if has_duration else Truncation.UNKNOWN


def _ogg(file: BinaryIO, size: int) -> Truncation:
    """Check the flag of the last page."""
    tail = _read_at(file, size - _TAIL_BYTES, _TAIL_BYTES)
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < _OGG_HEADER:
        return Truncation.TRUNCATED
    count = page[_OGG_COUNT_OFFSET]
    length = _OGG_HEADER + count + sum(page[_OGG_HEADER : _OGG_HEADER + count])
    return _result(bool(page[_OGG_FLAGS_OFFSET] & _OGG_LAST_PAGE) and length <= len(page))


def _transport_stream(file: BinaryIO, size: int) -> Truncation:
    has_full_packets = any(size % length == 0 for length in _TS_PACKET_SIZES)
    return Truncation.UNKNOWN if has_full_packets else Truncation.TRUNCATED


def _mp4(file: BinaryIO, size: int) -> Truncation:
    """Walk the top-level boxes, which fill the file; a fragmented file may continue after them."""
    offset, last, is_fragmented = 0, b"", False
    while offset + 8 <= size:
        head = _read_at(file, offset, 16)
        length, last = int.from_bytes(head[:4]), head[4:8]
        length = {0: size - offset, 1: int.from_bytes(head[8:])}.get(length, length)
        is_fragmented = is_fragmented or last == b"moof"
        offset += max(8, length)
    if offset > size:
        return Truncation.TRUNCATED
    return Truncation.UNKNOWN if is_fragmented and last != b"mfra" else Truncation.COMPLETE


def _end_marker(marker: bytes, trailing: int = 0) -> Callable[[BinaryIO, int], Truncation]:
    """Check for an optional end marker, followed by at most `trailing` bytes."""
    length = len(marker) + trailing

    def check(file: BinaryIO, size: int) -> Truncation:
        has_marker = marker in _read_at(file, size - length, length)
        return Truncation.COMPLETE if has_marker else Truncation.UNKNOWN

    return check


def _animation(read: Callable[[BinaryIO], Header]) -> Callable[[BinaryIO, int], Truncation]:
    """Parse an animated image to its end."""

    def check(file: BinaryIO, _: int) -> Truncation:
        file.seek(0)
        try:
            read(file)
        except (MalformedError, ValueError, IndexError, struct.error):
            return Truncation.TRUNCATED
        return Truncation.COMPLETE

    return check


_CHECKS: dict[str, Callable[[BinaryIO, int], Truncation]] = {
    "matroska,webm": _matroska,
    "avi": _avi,
    "asf": _asf,
    "flv": _flv,
    "ogg": _ogg,
    "mov,mp4,m4a,3gp,3g2,mj2": _mp4,
    "mpegts": _transport_stream,
    "mpeg": _end_marker(b"\x00\x00\x01\xb9"),
    "mpegvideo": _end_marker(b"\x00\x00\x01\xb7"),
    "mxf": _end_marker(bytes.fromhex("060e2b34020501010d01020101110100"), _HEAD_BYTES),
    "gif": _animation(gif.read_header),
    "apng": _animation(png.read_header),
}
