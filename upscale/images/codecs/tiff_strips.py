"""Strips and tiles of a TIFF one by one, and fax pages with fewer rows than stated."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import BinaryIO

import imagecodecs
import numpy as np
from tifffile import TiffPage

from upscale.images.codecs.base import MalformedError
from upscale.images.image import Pixels

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_OFFSETS, _SAMPLES, _ROWS, _SIZES, _PLANAR = 273, 277, 278, 279, 284
_FAX_OPTIONS, _PREDICTOR, _SAMPLE_FORMAT = (292, 293), 317, 339
_SHORT, _LONG = 3, 4
_BLACK_IS_ZERO, _FLOAT, _UNSIGNED = 1, 3, 1
# Six ends of lines of 13 bits mark the end of a fax, and a byte may be padding.
_END_BYTES = 11


def through_libtiff(page: TiffPage, data: bytes, rows: int, meaning: int) -> Pixels:
    """Decode one strip or tile as a TIFF file of one strip.

    Args:
        page: The page.
        data: The strip or tile.
        rows: Number of its rows.
        meaning: Meaning of the colours of the page.

    Raises:
        imagecodecs.TiffError: It is damaged, or holds fewer rows.
    """
    width = page.tilewidth if page.is_tiled else page.imagewidth
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    is_float = page.dtype is not None and page.dtype.kind == "f"
    values = {
        _WIDTH: width,
        _LENGTH: rows,
        _BITS: page.bitspersample,
        _COMPRESSION: int(page.compression),
        _PHOTOMETRIC: 0 if meaning == 0 else _BLACK_IS_ZERO,
        _FILL_ORDER: int(page.fillorder),
        _OFFSETS: 0,
        _SAMPLES: samples,
        _ROWS: rows,
        _SIZES: len(data),
        _PLANAR: 1,
        **{tag: page.tags.valueof(tag) for tag in _FAX_OPTIONS if tag in page.tags},
        _PREDICTOR: int(page.predictor),
        _SAMPLE_FORMAT: _FLOAT if is_float else _UNSIGNED,
    }
    order = page.parent.byteorder
    bits = struct.pack(f"{order}{samples}H", *[page.bitspersample] * samples)
    formats = struct.pack(f"{order}{samples}H", *[values[_SAMPLE_FORMAT]] * samples)
    directory = 8
    after = directory + 2 + 12 * len(values) + 4
    lists = {_BITS: (bits, after), _SAMPLE_FORMAT: (formats, after + len(bits))}
    values[_OFFSETS] = after + len(bits) + len(formats)
    entries = b""
    for tag, value in sorted(values.items()):
        kind, count, number = _LONG, 1, value
        if tag in lists:
            kind, count = _SHORT, samples
            content, number = lists[tag]
            if samples <= 2:
                entries += struct.pack(order + "HHI", tag, kind, count) + content.ljust(4, b"\0")
                continue
        entries += struct.pack(order + "HHII", tag, kind, count, number)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", directory)
    head += struct.pack(order + "H", len(values)) + entries + bytes(4)
    return imagecodecs.tiff_decode(head + bits + formats + data, index=0, asrgb=False)


def short_fax(file: BinaryIO, page: TiffPage, meaning: int) -> Pixels:
    """Decode a fax page whose strips end before all their rows; missing rows are white.

    Args:
        file: The TIFF file.
        page: The page.
        meaning: Meaning of the colours of the page.

    Returns:
        Samples of shape (H, W).

    Raises:
        MalformedError: A strip is damaged before its end.
    """
    if page.is_tiled or page.samplesperpixel != 1:
        raise MalformedError("is damaged")
    height = page.imagelength
    samples = np.full((height, page.imagewidth), meaning == _BLACK_IS_ZERO)
    segments = zip(page.dataoffsets, page.databytecounts, strict=True)
    for first, (start, size) in zip(range(0, height, page.rowsperstrip), segments, strict=True):
        file.seek(start)
        stated = min(page.rowsperstrip, height - first)
        rows = _rows(page, file.read(size), stated, meaning)
        samples[first : first + len(rows)] = rows.reshape(len(rows), -1)
    return samples


def _rows(page: TiffPage, data: bytes, stated: int, meaning: int) -> Pixels:
    """Return the rows of a fax strip, which may be fewer than stated.

    Raises:
        MalformedError: There is no row, or data follow the last one that can be decoded.
    """
    count = _largest(stated, lambda rows: _decodes(page, data, rows, meaning))
    if count == 0:
        raise MalformedError("is damaged")
    unused = _largest(
        len(data), lambda end: _decodes(page, data[: len(data) - end], count, meaning)
    )
    rest = data[len(data) - unused :]
    if count < stated and len(rest.rstrip(b"\0")) > _END_BYTES:
        raise MalformedError("is damaged")
    return through_libtiff(page, data, count, meaning)


def _decodes(page: TiffPage, data: bytes, rows: int, meaning: int) -> bool:
    """Return whether a number of rows can be decoded from a strip."""
    try:
        through_libtiff(page, data, rows, meaning)
    except imagecodecs.TiffError:
        return False
    return True


def _largest(limit: int, is_possible: Callable[[int], bool]) -> int:
    """Return the largest number up to a limit that is possible, as are all below it; or 0."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if is_possible(middle):
            low = middle
        else:
            high = middle - 1
    return low
