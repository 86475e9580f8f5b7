"""The strips and tiles of a TIFF file, from their bytes to one array of samples."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.pictures.decoded import MalformedError
from upscale.pictures.picture import Pixels
from upscale.pictures.quiet import quiet
from upscale.pictures.tiff_tags import LONG, SHORT, Dialect, Tags, integers, packed

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _FILL_ORDER, _SAMPLES = 256, 257, 258, 259, 266, 277
_STRIPS, _STRIP_ROWS, _STRIP_SIZES, _PLANAR, _PREDICTOR = 273, 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_SIZES = 322, 323, 324, 325

_NONE, _LZW, _OLD_JPEG, _DEFLATE, _OLD_DEFLATE, _PACKBITS = 1, 5, 6, 8, 32946, 32773
_UNPACKABLE = (_NONE, _LZW, _DEFLATE, _OLD_DEFLATE, _PACKBITS)
_HORIZONTAL, _FLOATING = 2, 3

_Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the samples are cut up.

    Attributes:
        width: Pixels across the picture; `height`: down.
        across: Pixels across a segment (strip or tile); `down`: rows in it.
        planes: 1, or the samples a pixel where each kind of sample is stored apart.
        count: Samples a pixel in one plane.
        bits: Bits a sample.
        tiled: Segments at the right and at the bottom are whole, and reach over the edge.
    """

    width: int
    height: int
    across: int
    down: int
    planes: int
    count: int
    bits: int
    tiled: bool

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of a segment."""
        return (self.across * self.count * self.bits + 7) // 8

    def places(self) -> Iterator[tuple[int, int, int]]:
        """Plane, top and left of each segment, in the order of the file."""
        for plane in range(self.planes):
            for top in range(0, self.height, self.down):
                for left in range(0, self.width, self.across):
                    yield plane, top, left

    def rows(self, top: int) -> int:
        """Rows stored in a segment."""
        return self.down if self.tiled else min(self.down, self.height - top)


def check(tags: Tags, size: int) -> None:
    """Refuse a file whose strips or tiles are not all inside it.

    Raises:
        MalformedError: Damaged or cut off.
    """
    if tags.number(_COMPRESSION, _NONE) == _OLD_JPEG:
        return
    starts, sizes = _extents(tags)
    if len(starts) != len(sizes):
        raise MalformedError("is damaged")
    if any(start + length > size for start, length in zip(starts, sizes, strict=True)):
        raise MalformedError("is cut off")


def can_unpack(tags: Tags) -> bool:
    """Whether `unpack` knows the packing."""
    bits = set(tags.numbers(_BITS, (1,)))
    return (
        tags.number(_COMPRESSION, _NONE) in _UNPACKABLE
        and len(bits) == 1
        and bits <= {1, 2, 4, 8, 12, 16, 32, 64}
        and tags.number(_FILL_ORDER, 1) == 1
    )


def unpack(data: bytes, tags: Tags, *, floating: bool) -> Pixels:
    """All samples as stored: (H, W, C), uint8 or uint16, or floats.

    Raises:
        MalformedError: Damaged or cut off.
    """
    layout = _layout(tags)
    starts, sizes = _extents(tags)
    compression = tags.number(_COMPRESSION, _NONE)
    places = list(layout.places())
    if len(places) != len(starts):
        raise MalformedError("is damaged")
    kind = _sample_type(layout.bits, floating)
    shape = (layout.height, layout.width, layout.planes * layout.count)
    samples = np.empty(shape, kind)
    for (plane, top, left), start, size in zip(places, starts, sizes, strict=True):
        rows = layout.rows(top)
        plain = _inflated(data[start : start + size], compression, rows, layout)
        segment = _samples(plain, layout, tags, kind)
        first = plane * layout.count
        target = samples[top : top + rows, left : left + layout.across, first:][..., : layout.count]
        target[...] = segment[: target.shape[0], : target.shape[1]]
    return samples


def _extents(tags: Tags) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where the segments start, and their sizes."""
    if _TILES in tags.entries:
        return tags.numbers(_TILES), tags.numbers(_TILE_SIZES)
    return tags.numbers(_STRIPS), tags.numbers(_STRIP_SIZES)


def _layout(tags: Tags) -> _Layout:
    """The layout that the tags describe."""
    width, height = tags.number(_WIDTH), tags.number(_HEIGHT)
    count = tags.number(_SAMPLES, 1)
    tiled = _TILES in tags.entries
    across = tags.number(_TILE_WIDTH) if tiled else width
    down = tags.number(_TILE_HEIGHT) if tiled else min(tags.number(_STRIP_ROWS, height), height)
    apart = tags.number(_PLANAR, 1) == 2 and count > 1
    bits = tags.number(_BITS, 1)
    # Tiles far beyond the picture would cost memory that its own size does not explain.
    if min(across, down, count) <= 0 or count > 64 or max(across // width, down // height) > 64:
        raise MalformedError("is damaged")
    planes, together = (count, 1) if apart else (1, count)
    return _Layout(width, height, across, down, planes, together, bits, tiled)


def _sample_type(bits: int, floating: bool) -> np.dtype[np.generic]:
    """The type that holds samples of so many bits."""
    if floating:
        if bits not in (16, 32, 64):
            raise MalformedError("is damaged")
        return np.dtype(f"f{bits // 8}")
    return np.dtype(np.uint8 if bits <= 8 else np.uint16)


def _inflated(packed_bytes: bytes, compression: int, rows: int, layout: _Layout) -> _Bytes:
    """The bytes of a segment, (rows, bytes a row)."""
    expected = rows * layout.row_bytes
    if compression in (_LZW, _PACKBITS):
        return _through_libtiff(packed_bytes, compression, rows, layout.row_bytes)
    plain = packed_bytes
    if compression in (_DEFLATE, _OLD_DEFLATE):
        try:
            plain = zlib.decompressobj().decompress(packed_bytes, expected)
        except zlib.error as error:
            raise MalformedError("is damaged") from error
    if len(plain) < expected:
        raise MalformedError("is cut off")
    return np.frombuffer(plain, np.uint8, expected).reshape(rows, layout.row_bytes)


def _through_libtiff(packed_bytes: bytes, compression: int, rows: int, across: int) -> _Bytes:
    """Let the TIFF library in OpenCV unpack a segment, as if its bytes were a grey picture.

    OpenCV overlooks damage in 8-bit strips and reports it in 16-bit ones, so that pairs of bytes
    are read as 16-bit samples; where a row is odd, pairs of rows, and a last odd row as 8-bit.
    """
    wide, odd = (across, rows % 2) if across % 2 else (across // 2, 0)
    plain = np.empty((rows, across), np.uint8)
    high = (rows - odd) * across // 2 // wide
    if high:
        words = _grey(packed_bytes, compression, 16, high, wide)
        plain[: rows - odd] = words.astype("<u2").view(np.uint8).reshape(-1, across)
    if odd:
        plain[-1] = _grey(packed_bytes, compression, 8, rows, across)[-1]
    return plain


def _grey(packed_bytes: bytes, compression: int, bits: int, rows: int, across: int) -> Pixels:
    """Read a packed strip as a grey picture of 8 or 16 bits."""
    dialect = Dialect("<")
    tags = {
        _WIDTH: (LONG, across),
        _HEIGHT: (LONG, rows),
        _BITS: (SHORT, bits),
        _COMPRESSION: (SHORT, compression),
        262: (SHORT, 1),
        _STRIPS: (LONG, 8),
        _SAMPLES: (SHORT, 1),
        _STRIP_ROWS: (LONG, rows),
        _STRIP_SIZES: (LONG, len(packed_bytes)),
    }
    entries = {tag: integers(dialect, kind, value) for tag, (kind, value) in tags.items()}
    padded = packed_bytes + b"\0" * (len(packed_bytes) % 2)
    place = 8 + len(padded)
    file = b"II*\0" + struct.pack("<I", place) + padded + packed(entries, place, dialect)
    with quiet():
        decoded = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    samples = np.asarray(decoded)
    if samples.dtype.itemsize * 8 != bits or samples.shape != (rows, across):
        raise MalformedError("is damaged")
    return samples


def _samples(plain: _Bytes, layout: _Layout, tags: Tags, kind: np.dtype[np.generic]) -> Pixels:
    """The samples of a segment, (rows, pixels across, samples a pixel)."""
    shape = (len(plain), layout.across, layout.count)
    predictor = tags.number(_PREDICTOR, 1)
    if layout.bits in (1, 2, 4, 12):
        return _unpacked_bits(plain, layout.bits, kind)[:, : shape[1] * shape[2]].reshape(shape)
    if kind.kind == "f" and predictor == _FLOATING:
        return _unpredicted_floats(plain, layout, kind).reshape(shape)
    stored = f"{tags.dialect.order}{kind.kind}{kind.itemsize}"
    samples = plain.reshape(len(plain), -1).view(stored).reshape(shape).astype(kind)
    if predictor == _HORIZONTAL and kind.kind == "u":
        np.cumsum(samples, axis=1, dtype=kind, out=samples)
    return samples


def _unpacked_bits(plain: _Bytes, bits: int, kind: np.dtype[np.generic]) -> Pixels:
    """Samples that are no whole bytes, most significant bit first."""
    flags = np.unpackbits(plain, axis=1)
    flags = flags[:, : flags.shape[1] // bits * bits].reshape(len(plain), -1, bits)
    weights: Pixels = (1 << np.arange(bits)[::-1]).astype(kind)
    return np.matmul(flags, weights)


def _unpredicted_floats(plain: _Bytes, layout: _Layout, kind: np.dtype[np.generic]) -> Pixels:
    """Undo the predictor of floats: bytes by significance, each a difference to its left."""
    rows = len(plain)
    bytes_of = plain.reshape(rows, -1, layout.count)
    summed = np.cumsum(bytes_of, axis=1, dtype=np.uint8).reshape(rows, kind.itemsize, -1)
    significant_first = np.ascontiguousarray(summed.transpose(0, 2, 1))
    return significant_first.view(f">{kind.kind}{kind.itemsize}")[..., 0].astype(kind)
