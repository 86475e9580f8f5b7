"""What a TIFF file says about the shot, to and from an EXIF block."""

from __future__ import annotations

import struct

from upscale.pictures.decoded import MalformedError
from upscale.pictures.tiff_tags import LONG, Dialect, Directory, Entry, Tags, directory, start

from upscale.pictures.tiff_tags import integers, packed  # isort: skip

# Description, maker, model, software, date, artist, copyright: what says nothing about the layout.
_DESCRIPTIVE = (270, 271, 272, 305, 306, 315, 33432)
_EXIF, _GPS, _INTEROPERABILITY = 34665, 34853, 40965
_MAX_BYTES = 64 * 1024 * 1024


def block_of(data: bytes, tags: Tags) -> bytes | None:
    """An EXIF block of its own, from the first directory of a file; None when it says nothing."""
    dialect = Dialect(tags.dialect.order)
    top = {tag: entry for tag in _DESCRIPTIVE if (entry := tags.entries.get(tag)) and entry.count}
    inner = {tag: found for tag in (_EXIF, _GPS) if (found := _inner(data, tags, tag))}
    size = sum(len(entry.body) for part in (top, *inner.values()) for entry in part.values())
    if (not top and not inner) or size > _MAX_BYTES:
        return None
    block = b""
    for tag, entries in inner.items():
        top[tag] = integers(dialect, LONG, 8 + len(block))
        block += packed(entries, 8 + len(block), dialect)
    mark = b"II*\0" if dialect.order == "<" else b"MM\0*"
    header = mark + struct.pack(dialect.order + "I", 8 + len(block))
    return header + block + packed(top, 8 + len(block), dialect)


def entries_of(block: bytes) -> tuple[Dialect, Directory]:
    """What to list in the first directory of a file that starts with this EXIF block.

    The offsets in the entries stay right because the block stays at the start.
    """
    dialect, place = start(block)
    if dialect.big:
        raise MalformedError("is no EXIF block")
    entries, _ = directory(block, place, dialect)
    return dialect, {
        tag: entry
        for tag, entry in entries.items()
        if entry.count and tag in (*_DESCRIPTIVE, _EXIF, _GPS)
    }


def _inner(data: bytes, tags: Tags, tag: int) -> dict[int, Entry]:
    """The directory that a tag points to; empty when there is none that can be read."""
    if tag not in tags.entries:
        return {}
    try:
        entries, _ = directory(data, tags.number(tag), tags.dialect)
    except MalformedError:
        return {}
    classic = {at: entry for at, entry in entries.items() if 0 < entry.kind <= 13}
    classic.pop(_INTEROPERABILITY, None)
    return classic
