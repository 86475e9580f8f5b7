"""EXIF and XMP kept true to the image: orientation, dimensions and thumbnail, and no other byte.

Blocks are patched where they stand and grow only at their end, so that all offsets in them, those
of maker notes included, stay right.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from upscale.images.image import Pixels

# Description, maker, model, software, date, artist, copyright: what says nothing about the layout.
DESCRIPTIVE = (270, 271, 272, 305, 306, 315, 33432)
SHOT, PLACE, INTEROPERABILITY = 34665, 34853, 40965
POINTERS = (SHOT, PLACE)

_PREFIX = b"Exif\0\0"
_ORIENTATION = 0x0112
_WIDTH, _HEIGHT, _SHOT_WIDTH, _SHOT_HEIGHT = 0x0100, 0x0101, 0xA002, 0xA003
_THUMBNAIL, _THUMBNAIL_BYTES = 0x0201, 0x0202
_ACROSS, _DOWN, _UNIT = 0x011A, 0x011B, 0x0128
_SHORT, _LONG, _RATIONAL = 3, 4, 5
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8](?=\s*[\"'<])")
_XMP_WIDTH = re.compile(
    rb"((?:tiff:ImageWidth|exif:PixelXDimension)\s*(?:=\s*[\"']|>)\s*)\d+(?=\s*[\"'<])"
)
_XMP_HEIGHT = re.compile(
    rb"((?:tiff:ImageLength|exif:PixelYDimension)\s*(?:=\s*[\"']|>)\s*)\d+(?=\s*[\"'<])"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag of a directory: its number, type and count, and where its value or offset is."""

    tag: int
    kind: int
    count: int
    place: int


def without_prefix(block: bytes | None) -> bytes | None:
    """An EXIF block from its TIFF header on; None when there is none."""
    if block is None:
        return None
    return block.removeprefix(_PREFIX) or None


def with_prefix(block: bytes) -> bytes:
    """An EXIF block as a JPEG segment wants it."""
    return _PREFIX + block


def orientation_of(block: bytes | None) -> int:
    """The orientation 1..8 that an EXIF block states; 1 when it states none that makes sense."""
    place = _find(block)
    if block is None or place is None:
        return 1
    value = struct.unpack_from(place[1], block, place[0])[0]
    return value if 1 <= value <= 8 else 1


def resolution_of(block: bytes | None) -> tuple[float, float] | None:
    """Pixels per inch across and down, when an EXIF block states them."""
    try:
        order, _ = header(block or b"")
        found = {entry.tag: entry for entry in entries(block or b"")}
        across, down = (_fraction(block or b"", order, found[tag]) for tag in (_ACROSS, _DOWN))
        unit = found.get(_UNIT)
        kind = 2 if unit is None else struct.unpack_from(order + "H", block or b"", unit.place)[0]
        inch = {2: 1.0, 3: 2.54}[kind]
        return (across * inch, down * inch) if min(across, down) > 0 else None
    except (ValueError, KeyError, ZeroDivisionError, struct.error):
        return None


def reset_orientation(block: bytes | None) -> bytes | None:
    """The same EXIF block stating that the pixels are upright."""
    place = _find(block)
    if block is None or place is None:
        return block
    changed = bytearray(block)
    struct.pack_into(place[1], changed, place[0], 1)
    return bytes(changed)


def reset_xmp_orientation(packet: bytes | None) -> bytes | None:
    """The same XMP packet, its copy of the EXIF orientation set to upright."""
    return packet and _XMP_ORIENTATION.sub(rb"\g<1>1", packet)


def resized(block: bytes, width: int, height: int) -> bytes:
    """The same EXIF block stating another size wherever it states one."""
    changed = bytearray(block)
    sizes = {_WIDTH: width, _HEIGHT: height, _SHOT_WIDTH: width, _SHOT_HEIGHT: height}
    try:
        order, start = header(block)
        for entry in entries(block):
            if entry.tag in (_WIDTH, _HEIGHT):
                _set_number(changed, order, entry, sizes[entry.tag])
            elif entry.tag == SHOT:
                (start,) = struct.unpack_from(order + "I", block, entry.place)
                for inner in entries(block, start):
                    if inner.tag in (_SHOT_WIDTH, _SHOT_HEIGHT):
                        _set_number(changed, order, inner, sizes[inner.tag])
    except (ValueError, struct.error):
        # What is damaged states nothing.
        pass
    return bytes(changed)


def has_thumbnail(block: bytes | None) -> bool:
    """Whether an EXIF block has a second directory, which is that of a thumbnail."""
    try:
        return block is not None and _thumbnail_directory(block) != 0
    except (ValueError, struct.error):
        return False


def with_thumbnail(block: bytes, thumbnail: bytes | None) -> bytes:
    """The same EXIF block with another JPEG in place of its thumbnail; None takes it away."""
    changed = bytearray(block)
    try:
        order, start = header(block)
        found = {entry.tag: entry for entry in entries(block, _thumbnail_directory(block))}
        place, size = found.get(_THUMBNAIL), found.get(_THUMBNAIL_BYTES)
        if place is not None and size is not None:
            _take_away(changed, order, place, size)
        if thumbnail is None or place is None or size is None:
            struct.pack_into(order + "I", changed, _after_entries(block, start), 0)
            return bytes(changed)
        _set_number(changed, order, place, len(changed))
        _set_number(changed, order, size, len(thumbnail))
        if _ORIENTATION in found:
            _set_number(changed, order, found[_ORIENTATION], 1)
        return bytes(changed) + thumbnail
    except (ValueError, struct.error):
        return block


def resized_xmp(packet: bytes, width: int, height: int) -> bytes:
    """The same XMP packet stating another size wherever it repeats that of EXIF."""
    packet = _XMP_WIDTH.sub(rb"\g<1>%d" % width, packet)
    return _XMP_HEIGHT.sub(rb"\g<1>%d" % height, packet)


def upright(plane: Pixels, orientation: int) -> Pixels:
    """Turn a stored plane (H, W) or (H, W, C) as an EXIF orientation 1..8 says."""
    if orientation >= 5:
        plane = plane.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        plane = plane[::-1]
    if orientation in (2, 3, 6, 7):
        plane = plane[:, ::-1]
    return np.ascontiguousarray(plane)


def header(block: bytes) -> tuple[str, int]:
    """The byte order of an EXIF block, and where its first directory is.

    Raises:
        ValueError: It is no EXIF block.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        raise ValueError("is no EXIF block")
    return order, struct.unpack_from(order + "I", block, 4)[0]


def entries(block: bytes, start: int | None = None) -> Iterator[Entry]:
    """The entries of the directory at `start`, or of the first.

    Raises:
        ValueError: It is no EXIF block; struct.error beyond the end of a damaged one.
    """
    order, first = header(block)
    start = first if start is None else start
    (count,) = struct.unpack_from(order + "H", block, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, length, _ = struct.unpack_from(order + "HHII", block, at)
        yield Entry(tag, kind, length, at + 8)


def _after_entries(block: bytes, start: int) -> int:
    """Where a directory states the place of the next one."""
    order, _ = header(block)
    (count,) = struct.unpack_from(order + "H", block, start)
    return start + 2 + 12 * count


def _thumbnail_directory(block: bytes) -> int:
    """Where the second directory is; 0 when there is none."""
    order, start = header(block)
    return struct.unpack_from(order + "I", block, _after_entries(block, start))[0]


def _fraction(block: bytes, order: str, entry: Entry) -> float:
    """The value of an entry that holds one fraction."""
    if entry.kind != _RATIONAL or entry.count != 1:
        raise ValueError("is no fraction")
    (place,) = struct.unpack_from(order + "I", block, entry.place)
    above, below = struct.unpack_from(order + "II", block, place)
    return above / below


def _set_number(block: bytearray, order: str, entry: Entry, value: int) -> None:
    """Give an entry of one number another value; one too large for its type becomes longer."""
    if entry.count != 1 or entry.kind not in (_SHORT, _LONG):
        return
    if entry.kind == _SHORT and value < 2**16:
        struct.pack_into(order + "HH", block, entry.place, value, 0)
    else:
        struct.pack_into(order + "H", block, entry.place - 6, _LONG)
        struct.pack_into(order + "I", block, entry.place, value)


def _take_away(block: bytearray, order: str, place: Entry, size: Entry) -> None:
    """Remove an old thumbnail, or blank it: it might show what has been cut away since."""
    (start,) = struct.unpack_from(order + "I", block, place.place)
    (length,) = struct.unpack_from(order + "I", block, size.place)
    if not place.place < start <= start + length <= len(block):
        return
    if start + length >= len(block) - 1:
        del block[start:]
    else:
        block[start : start + length] = bytes(length)


def _find(block: bytes | None) -> tuple[int, str] | None:
    """Offset and struct format of the orientation value in the first directory."""
    try:
        order, _ = header(block or b"")
        for entry in entries(block or b""):
            if entry.tag == _ORIENTATION and entry.kind in (_SHORT, _LONG) and entry.count == 1:
                return entry.place, order + ("H" if entry.kind == _SHORT else "I")
    except (ValueError, struct.error):
        pass
    return None
