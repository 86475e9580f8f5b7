"""Check the index of an MP4 or MOV file before FFmpeg allocates memory for it.

An index can say in a few bytes that a track has milliards of samples of the same length. FFmpeg
makes an entry of 24 bytes for each of them when it opens the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

MAX_SAMPLES = 10_000_000
"""Two days of video with 60 frames per second."""

_CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"})
_ONE = b"\0\0\0\1"
_MAX_DEPTH = 8
_LARGEST_HEAD = 16

Box = tuple[bytes, int, int]
"""Kind, start of the content, and end."""


def too_many_samples(file: BinaryIO) -> int | None:
    r"""Return the number of samples of an index that is a bomb, None for all other files.

    A track has at most as many samples as the file has bytes. Uncompressed sound may have more in a
    file that was cut; FFmpeg needs no entry for each of its samples.

    Args:
        file: A file of any format, open for reading.

    Raises:
        OSError: The file cannot be read.

    Example:
        >>> import io
        >>> size = bytes(7) + b"\1" + (10**9).to_bytes(4, "big")
        >>> box = (8 + len(size)).to_bytes(4, "big") + b"stsz" + size
        >>> too_many_samples(io.BytesIO((8 + len(box)).to_bytes(4, "big") + b"moov" + box))
        1000000000
    """
    size = file.seek(0, os.SEEK_END)
    limit, fragments, is_sound, is_plain = min(size, MAX_SAMPLES), 0, False, False
    for kind, start, end in boxes(file):
        if kind == b"trak":
            is_sound = is_plain = False
        elif kind == b"hdlr":
            is_sound = _read(file, start, end, 12)[8:] == b"soun"
        elif kind == b"stts":
            content = _read(file, start, end, 16)
            is_plain = content[4:8] == content[12:16] == _ONE
        elif kind == b"stsz":
            content = _read(file, start, end, 12)
            count = int.from_bytes(content[8:12], "big") if content[4:8] != bytes(4) else 0
            if count > limit and not (is_sound and is_plain):
                return count
        elif kind == b"trun":
            fragments += int.from_bytes(_read(file, start, end, 8)[4:], "big")
            if fragments > limit:
                return fragments
    return None


def boxes(file: BinaryIO) -> Iterator[Box]:
    """Yield all boxes of a file, and those in containers after each container.

    Args:
        file: An MP4 or MOV file, open for reading.
    """
    yield from _boxes(file, 0, file.seek(0, os.SEEK_END), _MAX_DEPTH)


def _boxes(file: BinaryIO, start: int, end: int, depth: int) -> Iterator[Box]:
    """Yield all boxes in a part of a file, and those in containers after each container."""
    while start + 8 <= end:
        head = _read(file, start, end, _LARGEST_HEAD)
        length, kind, size = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1:
            length, size = int.from_bytes(head[8:16], "big"), 16
        length = length or end - start
        if length < size:
            return
        stop = min(start + length, end)
        yield kind, start + size, stop
        if kind in _CONTAINERS and depth:
            yield from _boxes(file, start + size, stop, depth - 1)
        start += length


def _read(file: BinaryIO, start: int, end: int, count: int) -> bytes:
    file.seek(start)
    return file.read(max(0, min(count, end - start)))
