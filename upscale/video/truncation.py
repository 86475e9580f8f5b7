"""Whether a video's file has its end, as far as its container tells.

FFmpeg reads what there is, and takes the last byte for the end. But most containers say in some way
how long they are, or what stands last in them.
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
_SEGMENT = b"\x18\x53\x80\x67"
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_SIZE_AT = 40
_OGG_LAST = 4
_OGG_FLAGS_AT, _OGG_COUNT_AT, _OGG_HEADER = 5, 26, 27
_FLV_DURATION = b"\0\x08duration\0"
_FLV_TAGS, _FLV_HEADER = b"\x08\x09\x12", 11
_TS_PACKETS = (188, 192, 204)


class Ending(Enum):
    """What can be said of a file's end."""

    THERE = "there"
    MISSING = "missing"
    UNKNOWN = "unknown"


def ending(container: str, file: BinaryIO) -> Ending:
    """Look for the end of a file.

    Args:
        container: FFmpeg's name of the format.
        file: Open for reading; its place does not matter.
    """
    size = file.seek(0, os.SEEK_END)
    find = _FINDERS.get(container)
    return Ending.UNKNOWN if find is None else find(file, size)


def _verdict(there: bool) -> Ending:
    return Ending.THERE if there else Ending.MISSING


def _at(file: BinaryIO, place: int, length: int) -> bytes:
    file.seek(max(0, place))
    return file.read(length)


def _matroska(file: BinaryIO, size: int) -> Ending:
    """All lies in one element, whose length is known unless it was sent while it was made."""
    head = _at(file, 0, _HEAD_BYTES)
    place = head.find(_SEGMENT) + len(_SEGMENT)
    if place < len(_SEGMENT) or place >= len(head) or not head[place]:
        return Ending.UNKNOWN
    width = 9 - head[place].bit_length()
    mask = (1 << 7 * width) - 1
    length = int.from_bytes(head[place : place + width]) & mask
    return Ending.UNKNOWN if length == mask else _verdict(place + width + length <= size)


def _avi(file: BinaryIO, size: int) -> Ending:
    length = int.from_bytes(_at(file, 4, 4), "little")
    return _verdict(length + 8 <= size) if length else Ending.UNKNOWN


def _asf(file: BinaryIO, size: int) -> Ending:
    head = _at(file, 0, _HEAD_BYTES)
    place = head.find(_ASF_FILE) + _ASF_SIZE_AT
    length = int.from_bytes(head[place : place + 8], "little")
    return _verdict(length <= size) if place >= _ASF_SIZE_AT and length else Ending.UNKNOWN


def _flv(file: BinaryIO, size: int) -> Ending:
    """Behind each tag stands how long it is, and the first one may say how long they all are."""
    length = int.from_bytes(_at(file, size - 4, 4))
    tag = _at(file, size - 4 - length, 4)
    there = tag[:1] in _FLV_TAGS and int.from_bytes(tag[1:]) + _FLV_HEADER == length
    if not there:
        return Ending.MISSING
    head = _at(file, 0, _HEAD_BYTES)
    place = head.find(_FLV_DURATION) + len(_FLV_DURATION)
    said = place > len(_FLV_DURATION) and any(head[place : place + 8])
    return Ending.THERE if said else Ending.UNKNOWN


def _ogg(file: BinaryIO, size: int) -> Ending:
    """The last page says so of itself."""
    tail = _at(file, size - _TAIL_BYTES, _TAIL_BYTES)
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < _OGG_HEADER:
        return Ending.MISSING
    count = page[_OGG_COUNT_AT]
    length = _OGG_HEADER + count + sum(page[_OGG_HEADER : _OGG_HEADER + count])
    return _verdict(bool(page[_OGG_FLAGS_AT] & _OGG_LAST) and length <= len(page))


def _transport(file: BinaryIO, size: int) -> Ending:
    whole = any(size % length == 0 for length in _TS_PACKETS)
    return Ending.UNKNOWN if whole else Ending.MISSING


def _boxes(file: BinaryIO, size: int) -> Ending:
    """The outer boxes fill the file; those of a video in fragments may be followed by more."""
    place, last, fragments = 0, b"", False
    while place + 8 <= size:
        head = _at(file, place, 16)
        length, last = int.from_bytes(head[:4]), head[4:8]
        length = {0: size - place, 1: int.from_bytes(head[8:])}.get(length, length)
        fragments = fragments or last == b"moof"
        place += max(8, length)
    if place > size:
        return Ending.MISSING
    return Ending.UNKNOWN if fragments and last != b"mfra" else Ending.THERE


def _closed_by(mark: bytes, within: int = 0) -> Callable[[BinaryIO, int], Ending]:
    """Files that may end in a mark, with so many bytes behind it at most."""
    length = len(mark) + within

    def find(file: BinaryIO, size: int) -> Ending:
        closed = mark in _at(file, size - length, length)
        return Ending.THERE if closed else Ending.UNKNOWN

    return find


def _walked(read: Callable[[BinaryIO], Header]) -> Callable[[BinaryIO, int], Ending]:
    """Files of images that move, which are walked to their end."""

    def find(file: BinaryIO, _: int) -> Ending:
        file.seek(0)
        try:
            read(file)
        except (MalformedError, ValueError, IndexError, struct.error):
            return Ending.MISSING
        return Ending.THERE

    return find


_FINDERS: dict[str, Callable[[BinaryIO, int], Ending]] = {
    "matroska,webm": _matroska,
    "avi": _avi,
    "asf": _asf,
    "flv": _flv,
    "ogg": _ogg,
    "mov,mp4,m4a,3gp,3g2,mj2": _boxes,
    "mpegts": _transport,
    "mpeg": _closed_by(b"\x00\x00\x01\xb9"),
    "mpegvideo": _closed_by(b"\x00\x00\x01\xb7"),
    "mxf": _closed_by(bytes.fromhex("060e2b34020501010d01020101110100"), _HEAD_BYTES),
    "gif": _walked(gif.read_header),
    "apng": _walked(png.read_header),
}
