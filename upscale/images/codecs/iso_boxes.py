"""Boxes of the ISO base media file format, which AVIF and JPEG XL files are made of."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from upscale.images.codecs.base import MalformedError


def box(kind: bytes, body: bytes) -> bytes:
    """A box as it stands in a file."""
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, body: bytes, version: int = 0) -> bytes:
    """A box that states a version, and no flags."""
    return box(kind, struct.pack(">I", version << 24) + body)


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each box; the last may be cut off.

    Raises:
        MalformedError: A box is shorter than its own head.
    """
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1 and at + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        length = length or len(data) - at
        if length < head:
            raise MalformedError("is damaged")
        yield kind, data[at + head : at + length]
        at += length


def properties(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of the properties of the primary item; none where there is no such item.

    Raises:
        MalformedError: Damaged; struct.error, IndexError where numbers are missing.
    """
    meta = dict(boxes(dict(boxes(data)).get(b"meta", b"")[4:]))
    inner = dict(boxes(meta.get(b"iprp", b"")))
    if b"pitm" not in meta or not {b"ipco", b"ipma"} <= inner.keys():
        return []
    found = list(boxes(inner[b"ipco"]))
    wide = meta[b"pitm"][0] > 0
    (primary,) = struct.unpack_from(">I" if wide else ">H", meta[b"pitm"], 4)
    return [found[place - 1] for place in _associated(inner[b"ipma"], primary) if place]


def _associated(body: bytes, wanted: int) -> list[int]:
    """The places, from 1, of an item's properties."""
    item, place = (">I", ">H") if body[0] > 0 else (">H", ">H")
    short = not body[3] & 1
    (count,) = struct.unpack_from(">I", body, 4)
    at = 8
    for _ in range(count):
        (number,) = struct.unpack_from(item, body, at)
        at += struct.calcsize(item)
        size = body[at] * (1 if short else 2)
        places = body[at + 1 : at + 1 + size]
        if number == wanted:
            if short:
                return [value & 0x7F for value in places]
            return [value & 0x7FFF for (value,) in struct.iter_unpack(place, places)]
        at += 1 + size
    return []
