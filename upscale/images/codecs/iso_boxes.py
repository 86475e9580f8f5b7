"""Boxes of the ISO base media file format (ISO/IEC 14496-12), as in AVIF and JPEG XL files.

Pillow and imagecodecs return only some of the properties: no colour space by numbers (`nclx`), no
depth, no plays, and EXIF that was rewritten.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from fractions import Fraction

from upscale.images.codecs.base import MalformedError

_AVIF_BRANDS = {b"avif", b"avis"}
_TONE_MAP = b"tmap"
_DEPTH = (b"urn:mpeg:hevc:2015:auxid:2", b"urn:mpeg:avc:2015:auxid:2")
_VIDEO_BOXES = (b"mpvd", b"sefd")
_CONTENT_BOXES = (b"ftyp", b"meta", b"mdat", b"moov", b"idat")
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def is_avif(start: bytes) -> bool:
    """Detect an AVIF file by its brands."""
    return _is_image(start) and bool(_brands(start) & _AVIF_BRANDS)


def is_heic(start: bytes) -> bool:
    """Detect a HEIC file by its brands; files with general brands may also be AVIF."""
    return _is_image(start) and not _brands(start) & _AVIF_BRANDS


def box(kind: bytes, body: bytes) -> bytes:
    """Return a box with its length."""
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, body: bytes, version: int = 0) -> bytes:
    """Return a box with a version and without flags."""
    return box(kind, struct.pack(">I", version << 24) + body)


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each box; the last may be cut off.

    Raises:
        MalformedError: A box is shorter than its own head.
    """
    position = 0
    for kind, length, head in _box_heads(data):
        yield kind, data[position + head : position + length]
        position += length


def _box_heads(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, length and length of the head of each box."""
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if length == 1 and position + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, position + 8)
            head = 16
        length = length or len(data) - position
        if length < head:
            raise MalformedError("is damaged")
        yield kind, length, head
        position += length


def missing_bytes(data: bytes) -> int:
    """Return how many bytes the last box lacks; 0 for boxes that are not part of the image.

    Args:
        data: The file.

    Raises:
        MalformedError: A box is shorter than its own head.

    Example:
        >>> missing_bytes(box(b"mdat", bytes(20))[:-3])
        3
    """
    heads = list(_box_heads(data))
    end = sum(length for _, length, _ in heads)
    return max(0, end - len(data)) if heads and heads[-1][0] in _CONTENT_BOXES else 0


def properties(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return kind and content of the properties of the primary item; empty without such an item.

    Raises:
        MalformedError: Damaged.
        struct.error: A number is missing.
        IndexError: A property is missing.
    """
    meta = dict(boxes(dict(boxes(data)).get(b"meta", b"")[4:]))
    inner = dict(boxes(meta.get(b"iprp", b"")))
    if b"pitm" not in meta or not {b"ipco", b"ipma"} <= inner.keys():
        return []
    items = list(boxes(inner[b"ipco"]))
    is_wide = meta[b"pitm"][0] > 0
    (primary,) = struct.unpack_from(">I" if is_wide else ">H", meta[b"pitm"], 4)
    return [items[number - 1] for number in _associated(inner[b"ipma"], primary) if number]


def crop_of(data: bytes, width: int, height: int) -> tuple[slice, slice] | None:
    """Return the rows and columns that the primary item shows; None for all of them.

    Args:
        data: The file.
        width: Width in pixels as stored.
        height: Height in pixels as stored.

    Raises:
        MalformedError: The crop is damaged, or reaches beyond the image.
    """
    body = next((body for kind, body in properties(data) if kind == b"clap"), None)
    if body is None:
        return None
    numbers = struct.unpack_from(">4I", body) + struct.unpack_from(">iIiI", body, 16)
    if 0 in numbers[1::2]:
        raise MalformedError("is damaged")
    across, down, right, below = map(Fraction, numbers[::2], numbers[1::2])
    # The last two are the distance of the centres.
    left, top = ((width - across) / 2 + right, (height - down) / 2 + below)
    columns = slice(math.floor(left), math.floor(left) + math.floor(across))
    rows = slice(math.floor(top), math.floor(top) + math.floor(down))
    for part, length in ((columns, width), (rows, height)):
        if not 0 <= part.start < part.stop <= length:
            raise MalformedError("is damaged")
    return rows, columns


def left_out(data: bytes) -> list[str]:
    """Return clauses on what a file has beside its image: a gain map, depth, mattes, a video.

    Args:
        data: The file.
    """
    top = list(boxes(data))
    meta = dict(boxes(dict(top).get(b"meta", b"")[4:]))
    items = dict(boxes(meta.get(b"iprp", b""))).get(b"ipco", b"")
    kinds = [body[4:].partition(b"\0")[0] for kind, body in boxes(items) if kind == b"auxC"]
    names = meta.get(b"iinf", b"")
    clauses: list[str] = []
    if any(kind.endswith(b"hdrgainmap") for kind in kinds) or _TONE_MAP in names:
        clauses.append("its gain map was left out")
    if any(kind in _DEPTH or b"depth" in kind or b"disparity" in kind for kind in kinds):
        clauses.append("its depth map was left out")
    if any(kind.endswith(b"matte") for kind in kinds):
        clauses.append("its mattes were left out")
    if any(kind in _VIDEO_BOXES for kind, _ in top):
        clauses.append("its video was left out")
    return clauses


def _is_image(start: bytes) -> bool:
    return start[4:8] == b"ftyp" and start[8:12] in _AVIF_BRANDS | _HEIC_BRANDS


def _brands(start: bytes) -> set[bytes]:
    length = min(int.from_bytes(start[:4], "big"), len(start))
    return {start[at : at + 4] for at in (8, *range(16, length, 4))}


def _associated(body: bytes, item: int) -> list[int]:
    """Return the property numbers, from 1, that an `ipma` box associates with an item."""
    item_format, number_format = (">I", ">H") if body[0] > 0 else (">H", ">H")
    is_short = not body[3] & 1
    (count,) = struct.unpack_from(">I", body, 4)
    position = 8
    for _ in range(count):
        (current,) = struct.unpack_from(item_format, body, position)
        position += struct.calcsize(item_format)
        size = body[position] * (1 if is_short else 2)
        numbers = body[position + 1 : position + 1 + size]
        if current == item:
            if is_short:
                return [value & 0x7F for value in numbers]
            return [value & 0x7FFF for (value,) in struct.iter_unpack(number_format, numbers)]
        position += 1 + size
    return []
