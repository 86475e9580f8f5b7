"""Pages of a TIFF that is damaged or cut off: the strips and tiles that can be decoded.

Strips of LZW, PackBits and fax are given to libtiff one by one, as files of their own, for the
reason in `tiff_samples`. Missing strips and tiles stay 0: black, or white where that is 0.
"""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from typing import BinaryIO

import imagecodecs
import numpy as np
from tifffile import TiffPage

from upscale.images.codecs.base import MalformedError, Raster
from upscale.images.codecs.tiff_samples import (
    JPEG,
    OLD_JPEG,
    THROUGH_LIBTIFF,
    YCBCR,
    check_kind,
    decode_page,
    photometric,
    raster_of,
)
from upscale.images.image import Pixels

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_OFFSETS, _SAMPLES, _ROWS, _SIZES, _PLANAR = 273, 277, 278, 279, 284
_FAX_OPTIONS, _PREDICTOR, _SAMPLE_FORMAT = (292, 293), 317, 339
_SHORT, _LONG = 3, 4
_BLACK_IS_ZERO, _FLOAT, _UNSIGNED = 1, 3, 1
_MAX_TILE_BYTES = 2**28


def salvage_page(file: BinaryIO, page: TiffPage, orientation: int) -> Raster:
    """Decode a page, or what can be decoded of it.

    Args:
        file: The TIFF file.
        page: The page.
        orientation: EXIF orientation 1..8 of the page.

    Raises:
        MalformedError: No strip or tile can be decoded.
        UnsupportedError: Its kind of samples or compression is not supported.
    """
    try:
        return decode_page(file, page, orientation)
    except Exception:
        check_kind(page)
        if page.compression == OLD_JPEG or photometric(page) == YCBCR:
            raise
    return _partial(file, page)


@np.errstate(all="ignore")
def _partial(file: BinaryIO, page: TiffPage) -> Raster:
    """Decode the strips or tiles of a page that are whole."""
    count = math.prod(page.chunked)
    size = file.seek(0, 2)
    if page.dtype is None or math.prod(page.chunks) * page.dtype.itemsize > _MAX_TILE_BYTES:
        raise MalformedError("is damaged")
    samples = np.zeros(page.shaped, page.dtype)
    decoded = 0
    places = zip(page.dataoffsets, page.databytecounts, strict=False)
    for index, (start, length) in enumerate(places):
        if index >= count or not length or start + length > size:
            continue
        file.seek(start)
        try:
            decoded += _decode_into(samples, page, index, file.read(length))
        except Exception:
            continue
    if not decoded:
        raise MalformedError("is damaged")
    noun = "tiles" if page.is_tiled else "strips"
    raster = raster_of(_with_samples_last(samples, page), page)
    return replace(raster, damage=(f"{count - decoded} of its {count} {noun} are missing",))


def _decode_into(samples: Pixels, page: TiffPage, index: int, data: bytes) -> bool:
    """Decode a strip or tile into its place; return whether it was there."""
    if page.compression in THROUGH_LIBTIFF:
        _, (plane, _, row, column, _), (_, rows, _, _) = page.decode(None, index)
        plain = _through_libtiff(page, data, rows)
        part = plain.reshape(1, plain.shape[0], plain.shape[1], -1)
    else:
        tables = {"jpegtables": page.jpegtables} if page.compression == JPEG else {}
        part, (plane, _, row, column, _), _ = page.decode(data, index, **tables)
    if part is None:
        return False
    target = samples[plane, 0, row : row + part.shape[1], column : column + part.shape[2]]
    target[...] = part[0, : target.shape[0], : target.shape[1]]
    return True


def _through_libtiff(page: TiffPage, data: bytes, rows: int) -> Pixels:
    """Decode one strip or tile as a TIFF file of one strip."""
    width = page.tilewidth if page.is_tiled else page.imagewidth
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    is_float = page.dtype is not None and page.dtype.kind == "f"
    values = {
        _WIDTH: width,
        _LENGTH: rows,
        _BITS: page.bitspersample,
        _COMPRESSION: int(page.compression),
        _PHOTOMETRIC: 0 if photometric(page) == 0 else _BLACK_IS_ZERO,
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


def _with_samples_last(samples: Pixels, page: TiffPage) -> Pixels:
    """Return samples of shape (H, W, C) from planes or from pixels."""
    planes, _, height, width, count = page.shaped
    del count
    if planes == 1:
        return samples.reshape(height, width, -1)
    return np.moveaxis(samples.reshape(planes, height, width), 0, -1)
