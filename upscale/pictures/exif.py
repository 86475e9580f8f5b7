"""The orientation in EXIF and XMP: found, applied and reset without touching any other byte."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from upscale.pictures.picture import Pixels

# Description, maker, model, software, date, artist, copyright: what says nothing about the layout.
DESCRIPTIVE = (270, 271, 272, 305, 306, 315, 33432)
SHOT, PLACE, INTEROPERABILITY = 34665, 34853, 40965
POINTERS = (SHOT, PLACE)

_PREFIX = b"Exif\0\0"
_ORIENTATION = 0x0112
_SHORT, _LONG = 3, 4
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8](?=\s*[\"'<])")


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


def entries(block: bytes) -> Iterator[Entry]:
    """The entries of the first directory.

    Raises:
        ValueError: It is no EXIF block; struct.error beyond the end of a damaged one.
    """
    order, start = header(block)
    (count,) = struct.unpack_from(order + "H", block, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, length, _ = struct.unpack_from(order + "HHII", block, at)
        yield Entry(tag, kind, length, at + 8)


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
