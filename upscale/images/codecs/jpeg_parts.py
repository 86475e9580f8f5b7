"""What follows the image in a JPEG file: a gain map, other images, a video."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from upscale.images.metadata.claims import announces_video
from upscale.images.metadata.fields import GainMap
from upscale.images.metadata.xmp_packet import XmpPacket

ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
MULTI_PICTURE = b"MPF\0"

_XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"
_GAIN_MAP_MARKS = (b"http://ns.adobe.com/hdr-gain-map/1.0/", b":aux:hdrgainmap")
_START, _SCAN, _END = b"\xff\xd8\xff", 0xDA, 0xD9
# Within a scan, FF is followed by 0, and between parts of it by a restart marker.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_ENTRY = "IIIHH"
_ENTRIES_TAG, _ENTRY_BYTES = 0xB002, 16
_PREVIEWS = (0x010001, 0x010002, 0x010003, 0x010004, 0x010005)
_KIND_MASK = 0xFFFFFF
_MAX_IMAGES = 64
_MIN_TRAILER_BYTES = 16
_REPRESENTATIVE = 0x20030000
_FOUND_VIDEO = (b"ftyp", b"MotionPhoto_Data")


@dataclass(frozen=True, slots=True)
class Parts:
    """What follows the image.

    Attributes:
        gain_map: Gain map of the image.
        notes: Clauses that say what was left out.
    """

    gain_map: GainMap | None
    notes: tuple[str, ...]


def parts_of(data: bytes) -> Parts:
    """Find what follows the image in a JPEG file.

    Args:
        data: The file.
    """
    head = list(segments(data))
    end = _end(data, 0)
    if end is None or not data[end:].strip(b"\0\xff\xd9"):
        return Parts(None, _video_note(head, b""))
    kinds = _announced(data, head)
    images = _images(data, end, [position for position, _ in kinds])
    gain_maps = [image for _, image in images if _is_gain_map(image)]
    last = max((position + len(image) for position, image in images), default=end)
    by_position = dict(kinds)
    others = [by_position.get(position, 0) for position, image in images if not _is_gain_map(image)]
    notes: list[str] = []
    if any(kind in _PREVIEWS for kind in others):
        notes.append("its preview images were left out")
    if any(kind not in _PREVIEWS for kind in others) or len(gain_maps) > 1:
        notes.append("other images in it were left out")
    announcement = next((body for _, body in head if body.startswith(ISO_GAIN_MAP)), b"")
    gain_map = GainMap(gain_maps[0], announcement) if gain_maps else None
    return Parts(gain_map, (*notes, *_trailer_note(head, data[last:])))


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of each segment before the first scan; damaged ones end them."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        if data[position + 1] == 0xFF:
            position += 1
            continue
        marker, length = struct.unpack_from(">xBH", data, position)
        if marker in (_SCAN, _END) or length < 2:
            return
        yield marker, data[position + 4 : position + 2 + length]
        position += 2 + length


def multi_picture_index(before: int, image_bytes: int, following: int) -> bytes:
    """Return the content of the segment that lists an image and one that follows it.

    Args:
        before: Position of the content in the file.
        image_bytes: Length of the first image with this segment.
        following: Length of the second.
    """
    head = struct.pack(">4sIH", b"MM\0*", 8, 3)
    head += struct.pack(">HHI4s", 0xB000, 7, 4, b"0100")
    head += struct.pack(">HHII", 0xB001, 4, 1, 2)
    head += struct.pack(">HHII", _ENTRIES_TAG, 7, 2 * _ENTRY_BYTES, len(head) + 12 + 4)
    offset = image_bytes - before - len(MULTI_PICTURE)
    entries = struct.pack(">" + _ENTRY, _REPRESENTATIVE, image_bytes, 0, 0, 0)
    entries += struct.pack(">" + _ENTRY, 0, following, offset, 0, 0)
    return MULTI_PICTURE + head + bytes(4) + entries


MULTI_PICTURE_BYTES = len(multi_picture_index(0, 1000, 0))
"""Length of the content of such a segment."""


def _end(data: bytes, start: int) -> int | None:
    """Return the position after an image's end marker; None without one."""
    position = start + 2
    while found := _MARKER.search(data, position):
        marker, position = found[1][0], found.end()
        if marker == _END:
            return position
        if marker not in (0x01, 0xD8):
            if position + 2 > len(data):
                return None
            position += struct.unpack_from(">H", data, position)[0]
    return None


def _announced(data: bytes, head: list[tuple[int, bytes]]) -> list[tuple[int, int]]:
    """Return position and kind of the other images in the index, where it is right."""
    index = next((body for _, body in head if body.startswith(MULTI_PICTURE)), None)
    if index is None:
        return []
    base = data.index(index) + len(MULTI_PICTURE)
    block = index[len(MULTI_PICTURE) :]
    found: list[tuple[int, int]] = []
    try:
        order = {b"II*\0": "<", b"MM\0*": ">"}[block[:4]]
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, _, length, position = struct.unpack_from(order + "HHII", block, at)
            if tag != _ENTRIES_TAG:
                continue
            for entry in range(position, position + min(length, 1024), _ENTRY_BYTES):
                kind, _, offset, _, _ = struct.unpack_from(order + _ENTRY, block, entry)
                if offset and data.startswith(_START, base + offset):
                    found.append((base + offset, kind & _KIND_MASK))
    except (KeyError, struct.error):
        return []
    return found


def _images(data: bytes, end: int, announced: list[int]) -> list[tuple[int, bytes]]:
    """Return position and content of the images at announced positions, and of those in a row."""
    images: list[tuple[int, bytes]] = []
    positions = sorted(announced)
    while len(images) < _MAX_IMAGES:
        position = positions.pop(0) if positions else _skip_padding(data, end)
        if position < end:
            continue
        stop = _end(data, position) if data.startswith(_START, position) else None
        if stop is None:
            break
        images.append((position, data[position:stop]))
        end = stop
    return images


def _skip_padding(data: bytes, position: int) -> int:
    """Return the position of the next byte that is not zero."""
    rest = data[position : position + 2**16]
    return position + len(rest) - len(rest.lstrip(b"\0"))


def _is_gain_map(image: bytes) -> bool:
    """Return whether the metadata of a JPEG say that it is a gain map."""
    return any(
        body.startswith(ISO_GAIN_MAP)
        or (body.startswith(_XMP_NAME) and any(mark in body for mark in _GAIN_MAP_MARKS))
        for _, body in segments(image)
    )


def _trailer_note(head: list[tuple[int, bytes]], trailer: bytes) -> tuple[str, ...]:
    """Return a note on what is behind all images."""
    if note := _video_note(head, trailer):
        return note
    is_padding = len(trailer.strip(b"\0\xff\xd9\r\n ")) < _MIN_TRAILER_BYTES
    return () if is_padding else ("data behind the image were left out",)


def _video_note(head: list[tuple[int, bytes]], trailer: bytes) -> tuple[str, ...]:
    """Return a note on the video of a motion photo."""
    if any(mark in trailer for mark in _FOUND_VIDEO):
        return ("its video was left out",)
    packet = next((body for _, body in head if body.startswith(_XMP_NAME)), b"")
    try:
        is_announced = bool(trailer) and announces_video(XmpPacket(packet[len(_XMP_NAME) :]))
    except ValueError:
        return ()
    return ("its video was left out",) if is_announced else ()
