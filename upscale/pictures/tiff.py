"""Read TIFF: tags and samples through tifffile and imagecodecs, rare YCbCr through libtiff.

What is left to us: to refuse what tifffile would fill with zeros or what would fill the memory, and
to turn stored samples into colour and alpha.
"""

from __future__ import annotations

import io
import logging
import math
import threading
import warnings
from typing import BinaryIO

import imagecodecs
import numpy as np
from PIL import Image, JpegImagePlugin
from tifffile import TiffFile, TiffPage

from upscale.pictures import alpha as transparency
from upscale.pictures import exif, flat
from upscale.pictures.decoded import Header, MalformedError, Raster, UnsupportedError
from upscale.pictures.picture import Metadata, Pixels

# Without a handler, Python prints what tifffile thinks of odd tags to standard error.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_ORIENTATION, _ACROSS, _DOWN, _UNIT, _XMP, _ICC = 274, 282, 283, 296, 700, 34675
_WHITE_IS_ZERO, _RGB, _INDEXED, _SEPARATED, _YCBCR = 0, 2, 3, 5, 6
_OLD_JPEG, _JPEG = 6, 7
# None, fax, LZW, deflate, packed bits, LZMA, Zstandard: these unpack no more than they are told.
_BOUNDED = (1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000)
_ASSOCIATED, _UNASSOCIATED = 1, 2
_MAX_PAGES = 1000
_MAX_SAMPLES = 64
_MAX_TILES_BEYOND = 64
_warnings_lock = threading.Lock()


def read_header(file: BinaryIO) -> Header:
    """Size, pages, orientation and metadata.

    Raises:
        Exception: Whatever tifffile raises on damaged content.
    """
    with TiffFile(file) as tiff:
        page = tiff.pages.first
        if page.imagewidth <= 0 or page.imagelength <= 0:
            raise MalformedError("is damaged")
        turned = page.tags.valueof(_ORIENTATION, 1)
        frames = _frames(tiff)
        profile, packet, dpi = _content(page, _ICC), _content(page, _XMP), _dpi(page)
    metadata = Metadata(profile, _exif_block(file), packet, dpi)
    turned = turned if turned in range(1, 9) else 1
    return Header(page.imagewidth, page.imagelength, int(turned), frames, metadata)


def decode(data: bytes) -> Raster:
    """Decode the first page, keeping 16-bit and float samples.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Of a kind that is not read.
        Exception: Whatever tifffile and imagecodecs raise on damaged content.
    """
    with TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages.first
        if page.compression == _OLD_JPEG:
            return _through_libtiff(data, page)
        _check_kind(page)
        _check_segments(page, data)
        if page.photometric == _YCBCR and page.compression != _JPEG:
            return _through_libtiff(data, page)
        samples = page.asarray(maxworkers=1)
    if page.axes == "SYX":
        samples = np.moveaxis(samples, 0, -1)
    samples = samples.reshape(page.imagelength, page.imagewidth, -1)
    if page.photometric == _INDEXED:
        return Raster(_looked_up(samples, page))
    if samples.dtype.kind == "f":
        return _with_alpha(samples.astype(np.float32), page)
    samples = _full_range(samples, 8 if page.photometric == _YCBCR else page.bitspersample)
    if page.photometric == _SEPARATED and samples.shape[2] >= 4:
        return flat.raster_of_inks(samples[..., :4], _content(page, _ICC))
    return _with_alpha(samples, page)


def _frames(tiff: TiffFile) -> int:
    """Pages that are no reduced copies, up to a limit; damage in a later page ends the count."""
    frames = 1
    for index in range(1, _MAX_PAGES):
        try:
            frames += not tiff.pages.get(index).aspage().is_reduced
        except Exception:
            break
    return frames


def _content(page: TiffPage, tag: int) -> bytes | None:
    """The bytes of a tag; None when it is missing, empty or of another type."""
    value = page.tags.valueof(tag)
    return value if isinstance(value, bytes) and value else None


def _dpi(page: TiffPage) -> tuple[float, float] | None:
    """Pixels per inch, when the tags state a real unit."""
    inch = {2: 1.0, 3: 2.54}.get(page.tags.valueof(_UNIT, 2))
    match page.tags.valueof(_ACROSS), page.tags.valueof(_DOWN):
        case (int(a), int(b)), (int(c), int(d)) if inch and min(a, b, c, d) > 0:
            return a / b * inch, c / d * inch
        case _:
            return None


def _exif_block(file: BinaryIO) -> bytes | None:
    """An EXIF block of its own, with what the file says about the shot; None when nothing."""
    stored, kept = Image.Exif(), Image.Exif()
    # Pillow warns about damaged tags, which are simply left out.
    with _warnings_lock, warnings.catch_warnings(action="ignore"):
        try:
            file.seek(0)
            stored.load_from_fp(file)
            kept.update({tag: stored[tag] for tag in exif.DESCRIPTIVE if tag in stored})
            for tag in (exif.SHOT, exif.PLACE):
                inner = stored.get_ifd(tag)
                inner.pop(exif.INTEROPERABILITY, None)
                if inner:
                    kept.get_ifd(tag).update(inner)
                    kept[tag] = 0
            return exif.without_prefix(kept.tobytes()) if kept else None
        except Exception:
            return None


def _check_kind(page: TiffPage) -> None:
    """Refuse what is whole but not read."""
    if page.compression not in (*_BOUNDED, _JPEG):
        raise UnsupportedError("is compressed in a way that is not supported")
    if page.photometric not in (*range(_INDEXED + 1), _SEPARATED, _YCBCR):
        raise UnsupportedError("stores its colours in a way that is not supported")
    kind = page.dtype
    known = kind is not None and (kind.kind in "bf" or (kind.kind == "u" and kind.itemsize <= 2))
    if not known or page.imagedepth != 1:
        raise UnsupportedError("stores its samples as numbers of a kind that is not supported")


def _check_segments(page: TiffPage, data: bytes) -> None:
    """Refuse a file whose strips or tiles are not all inside it, or are far too large."""
    starts, sizes = page.dataoffsets, page.databytecounts
    if not len(starts) == len(sizes) == math.prod(page.chunked) or 0 in sizes:
        raise MalformedError("is damaged")
    if any(start + size > len(data) for start, size in zip(starts, sizes, strict=True)):
        raise MalformedError("is cut off")
    beyond = max(page.tilewidth // page.imagewidth, page.tilelength // page.imagelength)
    if page.samplesperpixel > _MAX_SAMPLES or beyond > _MAX_TILES_BEYOND:
        raise MalformedError("is damaged")
    if page.compression == _JPEG:
        width, height = page.chunks[-2:] if page.axes in ("YX", "SYX") else page.chunks[-3:-1]
        for start, size in zip(starts, sizes, strict=True):
            inside = JpegImagePlugin.JpegImageFile(io.BytesIO(data[start : start + size]))
            if math.prod(inside.size) > 2 * width * height:
                raise MalformedError("is damaged")


def _full_range(samples: Pixels, bits: int) -> Pixels:
    """Stretch samples of an odd number of bits over all values of their type."""
    if samples.dtype.kind == "b":
        return samples.astype(np.uint8) * np.uint8(255)
    full, top = int(np.iinfo(samples.dtype).max), 2**bits - 1
    if top == full:
        return samples
    return ((samples.astype(np.uint32) * full + top // 2) // top).astype(samples.dtype)


def _looked_up(samples: Pixels, page: TiffPage) -> Pixels:
    """Colours of palette indices."""
    if page.colormap is None or samples.shape[2] != 1 or samples.max() >= page.colormap.shape[1]:
        raise MalformedError("is damaged")
    table = page.colormap.T
    if table.max() > 255:
        table = table >> 8
    return table.astype(np.uint8)[samples[..., 0].astype(np.uint16)]


def _with_alpha(samples: Pixels, page: TiffPage) -> Raster:
    """Split stored samples into colour and alpha; further samples are no part of the picture."""
    colours = 3 if page.photometric in (_RGB, _YCBCR) else 1
    if samples.shape[2] < colours:
        raise MalformedError("is damaged")
    colour = np.ascontiguousarray(samples[..., :colours])
    if page.photometric == _WHITE_IS_ZERO and colour.dtype.kind == "u":
        colour = np.iinfo(colour.dtype).max - colour
    extra = page.extrasamples[0] if page.extrasamples else 0
    if samples.shape[2] == colours or extra not in (_ASSOCIATED, _UNASSOCIATED):
        return Raster(colour)
    alpha = np.ascontiguousarray(samples[..., colours])
    return Raster(transparency.unmultiply(colour, alpha) if extra == _ASSOCIATED else colour, alpha)


def _through_libtiff(data: bytes, page: TiffPage) -> Raster:
    """Decode old JPEG and YCbCr that is not JPEG, at 8 bits."""
    samples = imagecodecs.tiff_decode(data, index=0, asrgb=True)[..., :3]
    turned = page.tags.valueof(_ORIENTATION, 1)
    # libtiff flips as the orientation says, but does not swap the axes; a flip undoes itself.
    flip = (turned - 1) % 4 + 1 if turned in range(1, 9) else 1
    return Raster(exif.upright(samples, flip))
