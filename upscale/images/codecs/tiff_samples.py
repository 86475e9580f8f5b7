"""Samples of TIFF pages: decoded by tifffile, some compressions by libtiff.

tifffile decodes LZW, PackBits and fax with imagecodecs' own code, whose LZW writes beyond its
buffer on damaged strips (measured: the process dies). The libtiff in imagecodecs rejects those.
"""

from __future__ import annotations

import io
import math
import struct
from dataclasses import replace
from typing import BinaryIO

import imagecodecs
import numpy as np
from PIL import JpegImagePlugin
from tifffile import TiffPage

from upscale.images.codecs import pillow, webp
from upscale.images.codecs.base import MalformedError, Raster, UnsupportedError
from upscale.images.codecs.tiff_strips import short_fax
from upscale.images.foreign_kinds import RAW
from upscale.images.image import Pixels
from upscale.images.pixels.alpha import unmultiply
from upscale.images.pixels.depth import full_scale, in_depth, scaled
from upscale.images.pixels.orientation import upright

ICC = 34675
RAW_PHOTOMETRICS = (32803, 34892)
"""Colours as a sensor measures them, in a mosaic or in lines."""

_PHOTOMETRIC = 262
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _INDEXED, _SEPARATED, YCBCR = 0, 1, 2, 3, 5, 6
_CIELAB, _ICCLAB = 8, 9
_INK_SET, _INK_COUNT, _CMYK_INKS = 332, 334, 1
OLD_JPEG, JPEG = 6, 7
_FAX, _GROUP_4 = (2, 3, 4), 4
# Fax, LZW, PackBits.
THROUGH_LIBTIFF = (*_FAX, 5, 32773)
_UNCOMPRESSED, _WEBP = 1, 50001
# Deflate, LZMA, Zstandard.
_OTHERS = (8, 32946, 34925, 50000)
_COMPRESSIONS = (_UNCOMPRESSED, *_OTHERS, OLD_JPEG, JPEG, _WEBP, *THROUGH_LIBTIFF)
_ASSOCIATED, _UNASSOCIATED = 1, 2
_SAMPLE_FORMAT, _DATA_TYPE = 339, 32996
# What each tag calls undefined samples and unsigned integers.
_UNDEFINED_AND_UNSIGNED = {_SAMPLE_FORMAT: (4, 1), _DATA_TYPE: (0, 2)}
_SHORT = 3
_THREE_BYTES = 24
_MAX_SAMPLES = 64
_MAX_TILES_BEYOND = 64


@np.errstate(all="ignore")
def decode_page(file: BinaryIO, page: TiffPage, orientation: int) -> Raster:
    """Decode a page, keeping 16-bit and float samples.

    Args:
        file: The TIFF file.
        page: The page.
        orientation: EXIF orientation 1..8 of the page.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Its kind of samples or compression is not supported.
    """
    check_kind(page)
    if page.compression == _UNCOMPRESSED and photometric(page) != YCBCR:
        _limit_segments(page)
    if page.compression != OLD_JPEG:
        _check_segments(page, file.seek(0, 2))
    if page.compression in (JPEG, _WEBP):
        _check_embedded(page, file)
    try:
        return raster_of(_samples(file, page, orientation), page)
    except imagecodecs.TiffError:
        # Where the other kinds of fax end, libtiff invents a row of 0s.
        is_white = page.compression in _FAX and photometric(page) == _WHITE_IS_ZERO
        if page.compression != _GROUP_4 and not is_white:
            raise
    samples = short_fax(file, page, photometric(page))
    return replace(raster_of(samples, page), notes=("its missing rows were filled with white",))


def raster_of(samples: Pixels, page: TiffPage) -> Raster:
    """Convert the stored samples of a page to grey or RGB, and split off its alpha.

    Args:
        samples: Array of shape (H, W, C), or any with as many values in this order.
        page: The page.

    Raises:
        MalformedError: There are too few samples.
    """
    samples = samples.reshape(page.imagelength, page.imagewidth, -1)
    colours = _colour_channels(page)
    if samples.shape[2] < colours:
        raise MalformedError("is damaged")
    alpha, extra = _alpha(samples, page, colours)
    colour = samples[..., :colours]
    if photometric(page) == _INDEXED:
        raster = Raster(_palette_colours(colour, page))
        alpha = None if alpha is None else in_depth(alpha, 8)
    elif photometric(page) == _SEPARATED:
        ink = in_depth(_full_range(colour, page.bitspersample), 16)
        alpha = None if alpha is None else in_depth(alpha, 16)
        if alpha is not None and extra == _ASSOCIATED:
            # Inks were multiplied by alpha, not the colours that they become.
            ink, extra = unmultiply(ink, alpha), _UNASSOCIATED
        raster = pillow.raster_of_cmyk(ink, bytes_of(page, ICC))
    else:
        raster = _without_ink(colour, page)
    if photometric(page) in (_CIELAB, _ICCLAB):
        raster = _lab_to_rgb(raster.pixels, photometric(page))
        if alpha is not None and alpha.dtype == np.uint8:
            alpha = alpha.astype(np.uint16) * np.uint16(257)
    if alpha is None:
        return raster
    pixels = unmultiply(raster.pixels, alpha) if extra == _ASSOCIATED else raster.pixels
    return replace(raster, pixels=pixels, alpha=alpha)


def bytes_of(page: TiffPage, tag: int) -> bytes | None:
    """Return the bytes of a tag; None when it is missing, empty or of another type."""
    value = page.tags.valueof(tag)
    return value if isinstance(value, bytes) and value else None


def check_kind(page: TiffPage) -> None:
    """Check that an intact page can be read.

    Raises:
        UnsupportedError: It cannot.
    """
    if photometric(page) in RAW_PHOTOMETRICS:
        raise UnsupportedError(RAW.problem, RAW.advice)
    if page.compression not in _COMPRESSIONS:
        raise UnsupportedError("is compressed in a way that is not supported")
    is_lab = photometric(page) in (_CIELAB, _ICCLAB)
    if not is_lab and photometric(page) not in (*range(_INDEXED + 1), _SEPARATED, YCBCR):
        raise UnsupportedError("stores its colours in a way that is not supported")
    if photometric(page) == _SEPARATED and not _is_cmyk(page):
        raise UnsupportedError("stores its colours as separate inks other than CMYK")
    kind, bits = page.dtype, page.bitspersample
    is_read = kind is not None and kind.kind in "bfu"
    if is_lab and (bits not in (8, 16) or page.compression == JPEG):
        is_read = False
    if (is_lab or photometric(page) == _INDEXED) and kind is not None and kind.kind == "f":
        is_read = False
    if photometric(page) == YCBCR and bits != 8:
        is_read = False
    is_packed = kind is not None and kind.kind == "u" and bits > 16 and bits not in (24, 32, 64)
    if is_packed or (bits == _THREE_BYTES and page.predictor != 1):
        is_read = False
    if not is_read or page.imagedepth != 1 or page.samplesperpixel > _MAX_SAMPLES:
        raise UnsupportedError("stores its samples as a type of numbers that is not supported")


def _is_cmyk(page: TiffPage) -> bool:
    """Return whether the inks of a page are cyan, magenta, yellow and black."""
    inks = page.samplesperpixel - len(page.extrasamples)
    is_stated = page.tags.valueof(_INK_SET, _CMYK_INKS) == _CMYK_INKS
    return inks >= 4 and (is_stated or page.tags.valueof(_INK_COUNT, 4) == 4)


def _limit_segments(page: TiffPage) -> None:
    """Lower stated sizes of uncompressed strips and tiles that are above what pixels need."""
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    width = page.tilewidth if page.is_tiled else page.imagewidth
    row = (width * samples * page.bitspersample + 7) // 8
    rows = page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)
    page.databytecounts = tuple(min(size, row * rows) for size in page.databytecounts)


def _check_segments(page: TiffPage, size: int) -> None:
    """Raise MalformedError where strips or tiles are not all in the file, or are far too large."""
    starts, sizes = page.dataoffsets, page.databytecounts
    if not len(starts) == len(sizes) == math.prod(page.chunked) or 0 in sizes:
        raise MalformedError("is damaged")
    if any(start + length > size for start, length in zip(starts, sizes, strict=True)):
        raise MalformedError("is cut off")
    beyond = max(page.tilewidth // page.imagewidth, page.tilelength // page.imagelength)
    if beyond > _MAX_TILES_BEYOND:
        raise MalformedError("is damaged")


def _samples(file: BinaryIO, page: TiffPage, orientation: int) -> Pixels:
    """Return stored samples of shape (H, W, C); YCbCr is converted to RGB of 8 bits."""
    if page.compression == OLD_JPEG or (photometric(page) == YCBCR and page.compression != JPEG):
        samples = imagecodecs.tiff_decode(_content(file), index=page.index, asrgb=True)[..., :3]
        # libtiff applies the flips of the orientation, but does not swap the axes. A second flip
        # undoes the first.
        return upright(samples, (orientation - 1) % 4 + 1)
    through_libtiff = page.compression in THROUGH_LIBTIFF
    if through_libtiff:
        data = _as_plain_samples(_content(file), page)
        samples = imagecodecs.tiff_decode(data, index=page.index, asrgb=False)
    else:
        samples = page.asarray(maxworkers=1)
    if page.bitspersample == _THREE_BYTES:
        samples = _in_byte_order(samples, page, through_libtiff=through_libtiff)
    return np.moveaxis(samples, 0, -1) if page.axes == "SYX" else samples


def _in_byte_order(samples: Pixels, page: TiffPage, *, through_libtiff: bool) -> Pixels:
    """Return samples of 24 bits, whose bytes tifffile and imagecodecs confuse.

    Both take them for big-endian. Before that, libtiff has made them little-endian; after it,
    tifffile swaps those of big-endian files as if they had 32 bits.
    """
    if page.parent.byteorder == ">" and not through_libtiff:
        return samples.byteswap()
    return samples.byteswap() >> 8


def _content(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _as_plain_samples(data: bytes, page: TiffPage) -> bytes:
    """Return the file with a page declared as libtiff gives its samples unchanged.

    CMYK becomes grey, since libtiff would convert it to RGB. Samples of no stated type become
    unsigned integers, as tifffile and most readers take them.
    """
    order, changes = page.parent.byteorder, dict[int, int]()
    if photometric(page) == _SEPARATED:
        changes[page.tags[_PHOTOMETRIC].valueoffset] = _BLACK_IS_ZERO
    for code, (undefined, unsigned) in _UNDEFINED_AND_UNSIGNED.items():
        tag = page.tags.get(code)
        for number in range(tag.count if tag is not None and tag.dtype == _SHORT else 0):
            position = page.tags[code].valueoffset + 2 * number
            if struct.unpack_from(order + "H", data, position) == (undefined,):
                changes[position] = unsigned
    if not changes:
        return data
    plain = bytearray(data)
    for position, value in changes.items():
        struct.pack_into(order + "H", plain, position, value)
    return bytes(plain)


def _check_embedded(page: TiffPage, file: BinaryIO) -> None:
    """Raise MalformedError where a JPEG or WebP is far larger than its strip or tile."""
    allowed = 2 * math.prod(page.chunks)
    for start, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(start)
        embedded = io.BytesIO(file.read(size))
        if page.compression == _WEBP:
            header = webp.read_header(embedded)
            pixels = header.width * header.height
        else:
            pixels = math.prod(JpegImagePlugin.JpegImageFile(embedded).size)
        if pixels > allowed:
            raise MalformedError("is damaged")


def _full_range(samples: Pixels, bits: int) -> Pixels:
    """Scale samples of an unusual number of bits to the whole range of their type."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    if samples.dtype.kind == "b":
        return samples.astype(np.uint8) * np.uint8(255)
    if bits > 16:
        return (samples >> (bits - 16)).astype(np.uint16)
    if bits == 8 * samples.dtype.itemsize:
        return samples
    return scaled(samples, 2**bits - 1, samples.dtype)


def _palette_colours(samples: Pixels, page: TiffPage) -> Pixels:
    """Return the colours of palette indices."""
    if page.colormap is None or samples.max() >= page.colormap.shape[1]:
        raise MalformedError("is damaged")
    table = page.colormap.T
    if table.max() > 255:
        table = table >> 8
    return table.astype(np.uint8)[samples[..., 0].astype(np.uint16)]


def photometric(page: TiffPage) -> int:
    """Return the meaning of the colours of a page; where it is not stated, that of libtiff."""
    if _PHOTOMETRIC in page.tags:
        return int(page.photometric or 0)
    if page.samplesperpixel >= 3:
        return _RGB
    if page.colormap is not None:
        return _INDEXED
    return _WHITE_IS_ZERO if page.compression in _FAX else _BLACK_IS_ZERO


def _colour_channels(page: TiffPage) -> int:
    """Return the number of channels before alpha and other extra samples."""
    if photometric(page) == _SEPARATED:
        return 4
    return 3 if photometric(page) in (_RGB, YCBCR, _CIELAB, _ICCLAB) else 1


def _alpha(samples: Pixels, page: TiffPage, colours: int) -> tuple[Pixels | None, int]:
    """Return alpha and its kind; a single sample that nothing describes is alpha, too.

    OpenCV and others write such files, and other programs show them with transparency.
    """
    count = samples.shape[2] - colours
    kinds = [int(kind) for kind in page.extrasamples[:count]]
    if count == 1 and not kinds and page.compression != JPEG and photometric(page) != _SEPARATED:
        kinds = [_UNASSOCIATED]
    for number, kind in enumerate(kinds):
        if kind in (_ASSOCIATED, _UNASSOCIATED):
            alpha = _full_range(samples[..., colours + number], page.bitspersample)
            return np.ascontiguousarray(alpha), kind
    return None, 0


def _without_ink(samples: Pixels, page: TiffPage) -> Raster:
    """Scale grey, RGB or CIELAB to the whole range of its type; where 0 is white, invert it."""
    colour = np.ascontiguousarray(
        _full_range(samples, 8 if photometric(page) == YCBCR else page.bitspersample)
    )
    if photometric(page) == _WHITE_IS_ZERO:
        colour = colour.dtype.type(full_scale(colour.dtype)) - colour
    return Raster(colour)


def _lab_to_rgb(lab: Pixels, kind: int) -> Raster:
    """Convert CIELAB, with a* and b* signed (TIFF) or with an offset (ICC), to RGB of 16 bits."""
    is_deep = lab.dtype == np.uint16
    lightness, opponents = lab[..., 0], lab[..., 1:]
    if kind == _CIELAB:
        full = 65535 if is_deep else 255
        signed = opponents.view(np.int16 if is_deep else np.int8).astype(np.float32)
    else:
        full = 0xFF00 if is_deep else 255
        signed = opponents.astype(np.float32) - (0x8000 if is_deep else 0x80)
    levels = np.float32(256 if is_deep else 1)
    return pillow.raster_of_lab(lightness * np.float32(100 / full), signed / levels)
