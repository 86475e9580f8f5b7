"""Codestream of a JPEG 2000: sizes of its components, and whether its tiles are all there.

OpenJPEG leaves missing tiles black without an error. Source: ISO/IEC 15444-1, annex A.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from upscale.images.codecs.base import MalformedError

SIGNATURE = b"\xff\x4f\xff\x51"

_SIZE_BYTES = 42
_START_OF_TILE, _END = 0xFF90, 0xFFD9
_WITHOUT_LENGTH = range(0xFF30, 0xFF40)
_TILE_HEAD_BYTES = 12
_MAX_TILES = 65535
_SIGNED = 0x80


@dataclass(frozen=True, slots=True)
class Component:
    """Samples of one kind, such as red.

    Attributes:
        bits: Bits of a sample.
        is_signed: Whether samples are signed.
        across: Columns of the image from one sample to the next.
        down: Rows of the image from one sample to the next.
    """

    bits: int
    is_signed: bool
    across: int
    down: int


@dataclass(frozen=True, slots=True)
class Codestream:
    """The main header of a codestream.

    Attributes:
        left: First column of the image on the reference grid.
        top: First row of the image on the reference grid.
        width: Width in pixels.
        height: Height in pixels.
        components: The components.
        tiles: Numbers of the tiles that have samples.
    """

    left: int
    top: int
    width: int
    height: int
    components: tuple[Component, ...]
    tiles: frozenset[int]

    @property
    def is_subsampled(self) -> bool:
        """Whether a component has fewer samples than the image has pixels."""
        return any(part.across > 1 or part.down > 1 for part in self.components)


def parse(data: bytes, start: int) -> Codestream:
    """Read the sizes at the start of a codestream.

    Args:
        data: Content of the file.
        start: Position of the codestream.

    Raises:
        MalformedError: Damaged or cut off.
    """
    if start < 0 or start + _SIZE_BYTES > len(data):
        raise MalformedError("is cut off")
    numbers = struct.unpack_from(">8IH", data, start + 8)
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, count = numbers
    parts = data[start + _SIZE_BYTES : start + _SIZE_BYTES + 3 * count]
    if right <= left or bottom <= top or not parts or 0 in (tile_width, tile_height):
        raise MalformedError("is damaged")
    if len(parts) < 3 * count:
        raise MalformedError("is cut off")
    components = tuple(
        Component((kind & ~_SIGNED) + 1, bool(kind & _SIGNED), across, down)
        for kind, across, down in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    )
    if any(0 in (part.across, part.down) for part in components):
        raise MalformedError("is damaged")
    columns = _spans(left, right, tile_left, tile_width)
    rows = _spans(top, bottom, tile_top, tile_height)
    if not 0 < len(columns) * len(rows) <= _MAX_TILES:
        raise MalformedError("is damaged")
    tiles = frozenset(
        down * len(columns) + across
        for down, row in enumerate(rows)
        for across, column in enumerate(columns)
        if any(
            _has_samples(column, part.across) and _has_samples(row, part.down)
            for part in components
        )
    )
    return Codestream(left, top, right - left, bottom - top, components, tiles)


def _spans(start: int, end: int, first: int, step: int) -> list[tuple[int, int]]:
    """Return first and last + 1 position of each tile along one axis, within the image."""
    count = -(-(end - first) // step)
    if not 0 < count <= _MAX_TILES:
        return []
    edges = range(first, first + count * step, step)
    return [(max(edge, start), min(edge + step, end)) for edge in edges]


def _has_samples(span: tuple[int, int], step: int) -> bool:
    return -(-span[1] // step) > -(-span[0] // step)


def missing_tiles(data: bytes, start: int, tiles: frozenset[int]) -> int:
    """Return the number of tiles that are not in the file, or not wholly.

    Args:
        data: Content of the file.
        start: Position of the codestream.
        tiles: Numbers of the tiles of the image.
    """
    complete, broken = set[int](), set[int]()
    position = _first_tile(data, start)
    while position + _TILE_HEAD_BYTES <= len(data):
        marker, _, tile, length, _, _ = struct.unpack_from(">HHHIBB", data, position)
        if marker != _START_OF_TILE:
            break
        # A length of 0 means up to the end.
        end = position + length if length else len(data)
        (complete if end <= len(data) else broken).add(tile)
        if end <= position:
            break
        position = end
    return len(tiles - (complete - broken))


def _first_tile(data: bytes, start: int) -> int:
    """Return the position of the first tile, after the segments of the main header."""
    position = start + 2
    while position + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, position)
        if marker == _START_OF_TILE:
            return position
        if marker == _END:
            break
        # Some markers have no segment.
        position += 2 if marker in _WITHOUT_LENGTH else 2 + max(2, length)
    return len(data)
