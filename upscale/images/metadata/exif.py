"""EXIF blocks kept consistent with the image: orientation, size, thumbnail; other bytes stay.

Blocks are patched in place and grow only at their end, so that all offsets stay valid, including
those of maker notes. Pillow's `Exif.tobytes` rewrites a block: it loses maker notes whose offsets
are absolute, and the thumbnail.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

from upscale.images.metadata.placement import Placement

# Processing software, name, description, maker, model, page and position on it, software, date,
# artist, computer, rating twice, copyright, and Windows' title, comment, author, keywords and
# subject.
DESCRIPTIVE = (
    11, 269, 270, 271, 272, 285, 286, 287, 305, 306, 315, 316, 18246, 18249, 33432,
    *range(40091, 40096),
)  # fmt: skip
EXIF_IFD, GPS_IFD, INTEROPERABILITY = 34665, 34853, 40965
POINTERS = (EXIF_IFD, GPS_IFD)

_PREFIX = b"Exif\0\0"
_ORIENTATION = 0x0112
_WIDTH, _HEIGHT, _SHOT_WIDTH, _SHOT_HEIGHT = 0x0100, 0x0101, 0xA002, 0xA003
_THUMBNAIL, _THUMBNAIL_BYTES = 0x0201, 0x0202
_ACROSS, _DOWN, _UNIT = 0x011A, 0x011B, 0x0128
_SUBJECT_AREA, _SUBJECT_LOCATION = 0x9214, 0xA214
_FOCAL_PLANE = (0xA20E, 0xA20F)
_SHORT, _LONG, _RATIONAL = 3, 4, 5
_SUBJECT_NUMBERS = range(2, 5)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a directory: tag, type and count, and the position of its value or offset."""

    tag: int
    kind: int
    count: int
    position: int


def without_prefix(block: bytes | None) -> bytes | None:
    """Return an EXIF block from its TIFF header on; None when it is empty."""
    if block is None:
        return None
    return block.removeprefix(_PREFIX) or None


def orientation_of(block: bytes | None) -> int:
    """Return the orientation 1..8 in an EXIF block; 1 without a valid one."""
    location = _find_orientation(block)
    if block is None or location is None:
        return 1
    value = struct.unpack_from(location[1], block, location[0])[0]
    return value if 1 <= value <= 8 else 1


def resolution_of(block: bytes | None) -> tuple[float, float] | None:
    """Return horizontal and vertical pixels per inch in an EXIF block; None without them."""
    block = block or b""
    try:
        order, _ = header(block)
        tags = {entry.tag: entry for entry in entries(block)}
        across, down = (_fraction(block, order, tags[tag]) for tag in (_ACROSS, _DOWN))
        unit = tags.get(_UNIT)
        kind = 2 if unit is None else struct.unpack_from(order + "H", block, unit.position)[0]
        inch = {2: 1.0, 3: 2.54}[kind]
        return (across * inch, down * inch) if min(across, down) > 0 else None
    except (ValueError, KeyError, ZeroDivisionError, struct.error):
        return None


def reset_orientation(block: bytes | None) -> bytes | None:
    """Return an EXIF block whose orientation is upright."""
    location = _find_orientation(block)
    if block is None or location is None:
        return block
    changed = bytearray(block)
    struct.pack_into(location[1], changed, location[0], 1)
    return bytes(changed)


def resized(block: bytes, width: int, height: int) -> bytes:
    """Return an EXIF block with another size wherever it has one.

    Args:
        block: The EXIF block.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
    """
    changed = bytearray(block)
    sizes = {_WIDTH: width, _HEIGHT: height, _SHOT_WIDTH: width, _SHOT_HEIGHT: height}
    try:
        order, start = header(block)
        for entry in entries(block):
            if entry.tag in (_WIDTH, _HEIGHT):
                _set_number(changed, order, entry, sizes[entry.tag])
            elif entry.tag == EXIF_IFD:
                (start,) = struct.unpack_from(order + "I", block, entry.position)
                for inner in entries(block, start):
                    if inner.tag in (_SHOT_WIDTH, _SHOT_HEIGHT):
                        _set_number(changed, order, inner, sizes[inner.tag])
    except (ValueError, struct.error):
        # A damaged block has no valid size.
        pass
    return bytes(changed)


def placed(block: bytes | None, placement: Placement) -> bytes | None:
    """Return an EXIF block whose subject area and density of the sensor follow the image.

    Args:
        block: The EXIF block.
        placement: How the image was turned and resized.
    """
    if block is None:
        return None
    changed = bytearray(block)
    with suppress(ValueError, struct.error):
        order, tags = photo_tags(block)
        for tag in (_SUBJECT_AREA, _SUBJECT_LOCATION):
            if tag in tags:
                _place_subject(changed, order, tags[tag], placement)
        if all(tag in tags for tag in _FOCAL_PLANE):
            _place_focal_plane(changed, order, [tags[tag] for tag in _FOCAL_PLANE], placement)
    return bytes(changed)


def has_thumbnail(block: bytes | None) -> bool:
    """Return whether an EXIF block has a second directory, that of the thumbnail."""
    try:
        return block is not None and _thumbnail_directory(block) != 0
    except (ValueError, struct.error):
        return False


def with_thumbnail(block: bytes, thumbnail: bytes | None) -> bytes:
    """Return an EXIF block with another JPEG as its thumbnail; None removes it."""
    changed = bytearray(block)
    try:
        order, start = header(block)
        tags = {entry.tag: entry for entry in entries(block, _thumbnail_directory(block))}
        offset, size = tags.get(_THUMBNAIL), tags.get(_THUMBNAIL_BYTES)
        if offset is not None and size is not None:
            _erase_thumbnail(changed, order, offset, size)
        if thumbnail is None or offset is None or size is None:
            struct.pack_into(order + "I", changed, _after_entries(block, start), 0)
            return bytes(changed)
        _set_number(changed, order, offset, len(changed))
        _set_number(changed, order, size, len(thumbnail))
        if _ORIENTATION in tags:
            _set_number(changed, order, tags[_ORIENTATION], 1)
        return bytes(changed) + thumbnail
    except (ValueError, struct.error):
        return block


def header(block: bytes) -> tuple[str, int]:
    """Return the byte order of an EXIF block, and the position of its first directory.

    Raises:
        ValueError: It is not an EXIF block.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        raise ValueError("is not an EXIF block")
    return order, struct.unpack_from(order + "I", block, 4)[0]


def entries(block: bytes, start: int | None = None) -> Iterator[Entry]:
    """Yield the entries of a directory.

    Args:
        block: The EXIF block.
        start: Position of the directory; by default the first.

    Raises:
        ValueError: It is not an EXIF block.
        struct.error: It is damaged.
    """
    order, first = header(block)
    start = first if start is None else start
    (count,) = struct.unpack_from(order + "H", block, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, length, _ = struct.unpack_from(order + "HHII", block, at)
        yield Entry(tag, kind, length, at + 8)


def photo_tags(block: bytes) -> tuple[str, dict[int, Entry]]:
    """Return the byte order, and the entries about the photo by tag.

    Raises:
        ValueError: It is not an EXIF block.
        struct.error: It is damaged.
    """
    order, _ = header(block)
    for entry in entries(block):
        if entry.tag == EXIF_IFD:
            (start,) = struct.unpack_from(order + "I", block, entry.position)
            return order, {inner.tag: inner for inner in entries(block, start)}
    return order, {}


def _place_subject(block: bytearray, order: str, entry: Entry, placement: Placement) -> None:
    """Move the numbers of an entry; numbers that no longer fit are stored at the end."""
    if entry.kind != _SHORT or entry.count not in _SUBJECT_NUMBERS:
        return
    position = entry.position
    if entry.count > 2:
        (position,) = struct.unpack_from(order + "I", block, position)
    layout = f"{order}{entry.count}H"
    values = placement.subject(struct.unpack_from(layout, block, position))
    if max(values) < 2**16:
        struct.pack_into(layout, block, position, *values)
        return
    struct.pack_into(order + "H", block, entry.position - 6, _LONG)
    struct.pack_into(order + "I", block, entry.position, len(block))
    block += struct.pack(f"{order}{entry.count}I", *values)


def _place_focal_plane(
    block: bytearray, order: str, tags: list[Entry], placement: Placement
) -> None:
    """Turn and resize two fractions."""
    if any(entry.kind != _RATIONAL or entry.count != 1 for entry in tags):
        return
    positions = [struct.unpack_from(order + "I", block, entry.position)[0] for entry in tags]
    numbers = [struct.unpack_from(order + "II", block, position) for position in positions]
    if any(denominator == 0 for _, denominator in numbers):
        return
    across, down = (Fraction(*pair) for pair in numbers)
    values = placement.density((across, down))
    if positions[0] == positions[1] and values[0] != values[1]:
        return
    for position, value in zip(positions, values, strict=True):
        struct.pack_into(order + "II", block, position, value.numerator, value.denominator)


def _after_entries(block: bytes, start: int) -> int:
    """Return the position of a directory's pointer to the next one."""
    order, _ = header(block)
    (count,) = struct.unpack_from(order + "H", block, start)
    return start + 2 + 12 * count


def _thumbnail_directory(block: bytes) -> int:
    """Return the position of the second directory; 0 when there is none."""
    order, start = header(block)
    return struct.unpack_from(order + "I", block, _after_entries(block, start))[0]


def _fraction(block: bytes, order: str, entry: Entry) -> float:
    """Return the value of an entry with one fraction."""
    if entry.kind != _RATIONAL or entry.count != 1:
        raise ValueError("is not a fraction")
    (position,) = struct.unpack_from(order + "I", block, entry.position)
    numerator, denominator = struct.unpack_from(order + "II", block, position)
    return numerator / denominator


def _set_number(block: bytearray, order: str, entry: Entry, value: int) -> None:
    """Set the value of an entry with one number; a value that is too large makes it longer."""
    if entry.count != 1 or entry.kind not in (_SHORT, _LONG):
        return
    if entry.kind == _SHORT and value < 2**16:
        struct.pack_into(order + "HH", block, entry.position, value, 0)
    else:
        struct.pack_into(order + "H", block, entry.position - 6, _LONG)
        struct.pack_into(order + "I", block, entry.position, value)


def _erase_thumbnail(block: bytearray, order: str, offset: Entry, size: Entry) -> None:
    """Remove or blank an old thumbnail, which might show what was cropped since."""
    (start,) = struct.unpack_from(order + "I", block, offset.position)
    (length,) = struct.unpack_from(order + "I", block, size.position)
    if not offset.position < start <= start + length <= len(block):
        return
    if start + length >= len(block) - 1:
        del block[start:]
    else:
        block[start : start + length] = bytes(length)


def _find_orientation(block: bytes | None) -> tuple[int, str] | None:
    """Return position and struct format of the orientation in the first directory."""
    try:
        order, _ = header(block or b"")
        for entry in entries(block or b""):
            if entry.tag == _ORIENTATION and entry.kind in (_SHORT, _LONG) and entry.count == 1:
                return entry.position, order + ("H" if entry.kind == _SHORT else "I")
    except (ValueError, struct.error):
        pass
    return None
