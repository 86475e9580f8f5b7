"""Adding tags to EXIF blocks, whose other bytes stay where they are."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from upscale.images.metadata import exif

ASCII, BYTE, LONG, UNDEFINED = 2, 1, 4, 7

_EMPTY = b"MM\0*\0\0\0\x08" + bytes(6)
_INLINE_BYTES = 4
_VERSION = 0x9000


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag whose values are bytes.

    Attributes:
        number: Number of the tag.
        kind: Type of its values: `ASCII`, `BYTE` or `UNDEFINED`.
        data: The values.
    """

    number: int
    kind: int
    data: bytes


def numbers(block: bytes | None) -> set[int]:
    """Return the numbers of the tags of the image and of the photo; empty for a damaged block."""
    found: set[int] = set()
    try:
        for entry in exif.entries(block or b""):
            found.add(entry.tag)
            if entry.tag == exif.EXIF_IFD:
                order, _ = exif.header(block or b"")
                (start,) = struct.unpack_from(order + "I", block or b"", entry.position)
                found |= {inner.tag for inner in exif.entries(block or b"", start)}
    except (ValueError, struct.error):
        pass
    return found


def added(block: bytes | None, image: Sequence[Tag], photo: Sequence[Tag]) -> bytes:
    """Return an EXIF block with more tags.

    The directories that grow are written anew at the end.

    Args:
        block: The EXIF block; None for a new one.
        image: Tags for the first directory, which must not be in it already.
        photo: Tags for the directory about the photo, the same.

    Raises:
        ValueError: The block is damaged.
    """
    result = bytearray(block or _EMPTY)
    try:
        order, start = exif.header(bytes(result))
        entries, following = _directory(bytes(result), start)
        if photo:
            pointer = entries.get(exif.EXIF_IFD)
            inner, after = {}, b"\0\0\0\0"
            if pointer is None:
                photo = [Tag(_VERSION, UNDEFINED, b"0232"), *photo]
            else:
                (position,) = struct.unpack_from(order + "I", pointer, 8)
                inner, after = _directory(bytes(result), position)
            position = _append(result, order, inner, photo, after)
            head = struct.pack(order + "HHII", exif.EXIF_IFD, LONG, 1, position)
            entries[exif.EXIF_IFD] = head
        position = _append(result, order, entries, image, following)
        struct.pack_into(order + "I", result, 4, position)
    except struct.error as error:
        raise ValueError("is damaged") from error
    return bytes(result)


def _directory(block: bytes, start: int) -> tuple[dict[int, bytes], bytes]:
    """Return the entries of a directory, and its pointer to the next one."""
    order, _ = exif.header(block)
    (count,) = struct.unpack_from(order + "H", block, start)
    end = start + 2 + 12 * count
    if end + 4 > len(block):
        raise ValueError("is damaged")
    raw = [block[at : at + 12] for at in range(start + 2, end, 12)]
    return {struct.unpack_from(order + "H", entry)[0]: entry for entry in raw}, block[end : end + 4]


def _append(
    block: bytearray, order: str, entries: dict[int, bytes], tags: Sequence[Tag], following: bytes
) -> int:
    """Append a directory with more tags to a block, and return its position."""
    entries = dict(entries)
    for tag in tags:
        value = tag.data.ljust(_INLINE_BYTES, b"\0")
        if len(value) > _INLINE_BYTES:
            block += bytes(len(block) % 2)
            value = struct.pack(order + "I", len(block))
            block += tag.data
        entries[tag.number] = (
            struct.pack(order + "HHI", tag.number, tag.kind, len(tag.data)) + value
        )
    block += bytes(len(block) % 2)
    position = len(block)
    block += struct.pack(order + "H", len(entries))
    block += b"".join(entry for _, entry in sorted(entries.items())) + following
    return position
