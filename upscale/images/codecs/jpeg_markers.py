"""Markers of a JPEG: the kind of its coding, and whether all scans are there.

Pillow reports only that a file is damaged where it cannot decode its kind, and rejects a file
whose pixels are complete but whose end marker is missing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from upscale.images.codecs.base import UnsupportedError

END = b"\xff\xd9"
"""Marker at the end of a file."""

_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xDA))
# Not in this range: DHT, JPG and DAC.
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
_HIERARCHICAL = (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF)
_JPEG_LS = 0xF7
_COEFFICIENTS = 64
# Least content of the segments JFIF (APP0) and Adobe (APP14), up to their version.
_APPLICATION_BYTES = {0xE0: (b"JFIF", 7), 0xEE: (b"Adobe", 7)}


def check_kind(file: BinaryIO) -> None:
    """Check that the kind of coding can be decoded; only the start of the file is read.

    Args:
        file: The JPEG file at its start; its position is kept.

    Raises:
        UnsupportedError: It cannot.
    """
    marker, bits = _frame(file)
    file.seek(0)
    kind = None
    if marker == _JPEG_LS:
        kind = "a JPEG-LS image"
    elif marker in _HIERARCHICAL:
        kind = "a hierarchical JPEG"
    elif marker in _LOSSLESS and bits != 8:
        kind = f"a lossless JPEG of {bits} bits per sample"
    elif marker in _FRAMES and bits != 8:
        kind = f"a {bits}-bit JPEG"
    if kind is not None:
        raise UnsupportedError(
            f"is {kind}, which is not supported", "convert it to PNG or TIFF first"
        )


def _frame(file: BinaryIO) -> tuple[int, int]:
    """Return the marker of the frame header and its bits per sample; zeros without one."""
    file.seek(2)
    while len(head := file.read(2)) == 2:
        if head[0] != 0xFF:
            return 0, 0
        if head[1] == 0xFF:
            file.seek(-1, 1)
        elif head[1] not in _WITHOUT_LENGTH:
            length = int.from_bytes(file.read(2), "big")
            if head[1] in (*_FRAMES, _JPEG_LS):
                return head[1], int.from_bytes(file.read(1), "big")
            if head[1] == _START_OF_SCAN:
                return 0, 0
            file.seek(max(0, length - 2), 1)
    return 0, 0


def has_all_scans(data: bytes) -> bool:
    """Return whether the scans of a file contain every coefficient of every component.

    The data of the last scan may still be cut off.

    Args:
        data: Content of the file, with or without its end marker.
    """
    components: dict[int, set[int]] = {}
    is_progressive = False
    for marker, body in _segments(data):
        if marker in _FRAMES and len(body) >= 6:
            is_progressive = marker in _PROGRESSIVE
            components = {number: set() for number in body[6::3][: body[5]]}
        elif marker == _START_OF_SCAN and body:
            count = body[0]
            first, last, precision = body[1 + 2 * count : 4 + 2 * count]
            coefficients = range(first, last + 1) if is_progressive else range(_COEFFICIENTS)
            # Later scans of a progressive file add bits, down to bit 0.
            if not is_progressive or precision & 15 == 0:
                for number in body[1 : 1 + 2 * count : 2]:
                    components.get(number, set()).update(coefficients)
    return bool(components) and all(
        len(coefficients) == _COEFFICIENTS for coefficients in components.values()
    )


def without_short_segments(data: bytes) -> bytes:
    """Return a file without JFIF and Adobe segments that lack their content.

    Args:
        data: Content of the file.
    """
    kept, position = data[:2], 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = (
            data[position + 1],
            int.from_bytes(data[position + 2 : position + 4], "big"),
        )
        if marker in (_START_OF_SCAN, 0xFF, *_WITHOUT_LENGTH):
            break
        end = position + 2 + length
        name, least = _APPLICATION_BYTES.get(marker, (b"", 0))
        if length - 2 >= least or data[position + 4 : position + 4 + len(name)] != name:
            kept += data[position:end]
        position = end
    return kept + data[position:]


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of the segments of the main image; scans are skipped."""
    position = 2
    while True:
        position = _next_marker(data, position)
        if position < 0 or data[position + 1] == _END_OF_IMAGE:
            return
        marker = data[position + 1]
        position += 2
        if marker in _WITHOUT_LENGTH:
            continue
        if position + 2 > len(data):
            return
        (length,) = struct.unpack_from(">H", data, position)
        yield marker, data[position + 2 : position + length]
        position += max(2, length)


def _next_marker(data: bytes, position: int) -> int:
    """Return the position of the next marker, after data of a scan; -1 at the end."""
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 1 >= len(data):
            return -1
        if data[position + 1] not in (0, 0xFF):
            return position
        position += 1
