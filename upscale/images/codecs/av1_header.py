"""Frame sizes in the AV1 data of AVIF files.

The container says how large an image is, and so does the AV1 data, which the decoder follows.
Pillow and imagecodecs return only the former.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from upscale.images.codecs.iso_boxes import boxes

_SEQUENCE_HEADER = 1
_HEAD_BYTES = 256
"""A sequence header and what may stand before it."""

_INSIDE = frozenset({b"trak", b"mdia", b"minf", b"stbl"})


def coded_pixels(data: bytes) -> int:
    """Return the largest width times height that the AV1 data of a file says; 0 if it says none.

    Args:
        data: An AVIF file.

    Raises:
        MalformedError: A box is damaged.
        struct.error, IndexError: Damaged, too.
    """
    top = dict(boxes(data))
    starts = [*_item_starts(top.get(b"meta", b"")[4:]), *_sample_starts(top.get(b"moov", b""))]
    return max((_sequence_pixels(data[at : at + _HEAD_BYTES]) for at in starts), default=0)


def _item_starts(meta: bytes) -> Iterator[int]:
    """Yield the position of the first extent of each AV1 item that lies in the file."""
    inner = dict(boxes(meta))
    body, items = inner.get(b"iloc", b""), _av1_items(inner.get(b"iinf", b""))
    if not body:
        return
    version, sizes = body[0], int.from_bytes(body[4:6], "big")
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    wide = 4 if version == 2 else 2
    count, at = int.from_bytes(body[6 : 6 + wide], "big"), 6 + wide
    for _ in range(count):
        item, method = int.from_bytes(body[at : at + wide], "big"), 0
        at += wide
        if version:
            method, at = body[at + 1] & 15, at + 2
        at += 2
        base = int.from_bytes(body[at : at + base_size], "big")
        at += base_size
        (extents,) = struct.unpack_from(">H", body, at)
        at += 2
        if extents and method == 0 and item in items:
            first = at + index_size
            yield base + int.from_bytes(body[first : first + offset_size], "big")
        at += extents * (index_size + offset_size + length_size)


def _av1_items(iinf: bytes) -> set[int]:
    """Return the numbers of the items that are AV1 images."""
    if not iinf:
        return set()
    items: set[int] = set()
    for _, body in boxes(iinf[8 if iinf[0] else 6 :]):
        wide = 4 if body[0] == 3 else 2
        if body[6 + wide : 10 + wide] == b"av01":
            items.add(int.from_bytes(body[4 : 4 + wide], "big"))
    return items


def _sample_starts(moov: bytes) -> Iterator[int]:
    """Yield the position of the first sample of each track."""
    for kind, body in boxes(moov):
        if kind in _INSIDE:
            yield from _sample_starts(body)
        elif kind in (b"stco", b"co64") and len(body) > 12:
            (start,) = struct.unpack_from(">I" if kind == b"stco" else ">Q", body, 8)
            yield start


def _sequence_pixels(data: bytes) -> int:
    """Return width times height of the first sequence header in AV1 data, 0 without one."""
    at = 0
    while at < len(data):
        head = data[at]
        at += 2 if head & 4 else 1
        if not head & 2:  # without a length, it reaches to the end
            size = len(data) - at
        else:
            size, at = _leb128(data, at)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            return _frame_pixels(_Bits(data[at : at + size]))
        at += size
    return 0


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length, and the position behind it."""
    value = 0
    for index in range(8):
        byte = data[at + index]
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, at + index + 1
    raise IndexError


class _Bits:
    """Reads numbers of any count of bits."""

    def __init__(self, data: bytes) -> None:
        self._left = 8 * len(data)
        self._value = int.from_bytes(data, "big")

    def read(self, count: int) -> int:
        """Return the next `count` bits as a number."""
        self._left -= count
        if self._left < 0:
            raise IndexError
        return self._value >> self._left & (1 << count) - 1


def _frame_pixels(bits: _Bits) -> int:
    """Read a sequence header up to its largest frame size (AV1 specification, 5.5.1)."""
    bits.read(4)  # profile, still picture
    if bits.read(1):
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    return (bits.read(width_bits) + 1) * (bits.read(height_bits) + 1)


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.read(1):  # timing
        bits.read(64)
        if bits.read(1):
            _skip_uvlc(bits)
        if bits.read(1):  # decoder model
            delay_bits = bits.read(5) + 1
            bits.read(42)
    has_display_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay_bits and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if has_display_delay and bits.read(1):
            bits.read(4)


def _skip_uvlc(bits: _Bits) -> None:
    zeros = 0
    while not bits.read(1):
        zeros += 1
    bits.read(zeros if zeros < 32 else 0)
