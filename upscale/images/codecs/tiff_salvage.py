"""Pages of a TIFF that is damaged or cut off: the strips and tiles that can be decoded.

Strips of LZW, PackBits and fax are given to libtiff one by one, as files of their own, for the
reason in `tiff_samples`. Missing strips and tiles stay 0: black, or white where that is 0.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import BinaryIO

import numpy as np
from tifffile import TiffPage

from upscale.files.system_errors import raise_system_error
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
from upscale.images.codecs.tiff_strips import through_libtiff
from upscale.images.image import Pixels

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
    except Exception as error:
        raise_system_error(error)
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
        except Exception as error:
            raise_system_error(error)
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
        plain = through_libtiff(page, data, rows, photometric(page))
        part = plain.reshape(1, plain.shape[0], plain.shape[1], -1)
    else:
        tables = {"jpegtables": page.jpegtables} if page.compression == JPEG else {}
        part, (plane, _, row, column, _), _ = page.decode(data, index, **tables)
    if part is None:
        return False
    target = samples[plane, 0, row : row + part.shape[1], column : column + part.shape[2]]
    target[...] = part[0, : target.shape[0], : target.shape[1]]
    return True


def _with_samples_last(samples: Pixels, page: TiffPage) -> Pixels:
    """Return samples of shape (H, W, C) from planes or from pixels."""
    planes, _, height, width, count = page.shaped
    del count
    if planes == 1:
        return samples.reshape(height, width, -1)
    return np.moveaxis(samples.reshape(planes, height, width), 0, -1)
