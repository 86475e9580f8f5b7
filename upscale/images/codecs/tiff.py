"""Read TIFF: tags and samples through tifffile, some kinds of samples through libtiff.

tifffile unpacks LZW, packed bits and fax with imagecodecs' own code, whose LZW writes beyond its
buffer on damaged strips (measured: the process dies). The libtiff in imagecodecs refuses those.
"""

from __future__ import annotations

import io
import logging
import math
import struct
import threading
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import BinaryIO

import imagecodecs
import numpy as np
from PIL import Image, JpegImagePlugin
from tifffile import TiffFile, TiffPage

from upscale.images.codecs import pillow
from upscale.images.codecs.base import Header, MalformedError, Raster, Still, UnsupportedError
from upscale.images.image import Metadata, Pixels
from upscale.images.metadata import exif
from upscale.images.pixels import alpha as transparency

# Without a handler, Python prints what tifffile thinks of odd tags to standard error.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_PHOTOMETRIC, _ORIENTATION, _ACROSS, _DOWN, _UNIT = 262, 274, 282, 283, 296
_XMP, _IPTC, _ICC = 700, 33723, 34675
_WHITE_IS_ZERO, _RGB, _INDEXED, _SEPARATED, _YCBCR = 0, 2, 3, 5, 6
_CIELAB, _ICCLAB = 8, 9
_OLD_JPEG, _JPEG = 6, 7
# Fax, LZW, packed bits.
_THROUGH_LIBTIFF = (2, 3, 4, 5, 32773)
# None, deflate, LZMA, Zstandard.
_COMPRESSIONS = (1, 8, 32946, 34925, 50000, _OLD_JPEG, _JPEG, *_THROUGH_LIBTIFF)
_ASSOCIATED, _UNASSOCIATED = 1, 2
_INNER_PAGES, _DNG_VERSION = 330, 50706
_MAX_PAGES = 10_000
_MAX_SAMPLES = 64
_MAX_TILES_BEYOND = 64
_warnings_lock = threading.Lock()


def read_header(file: BinaryIO) -> Header:
    """Size, pages, orientation and metadata.

    Raises:
        Exception: Whatever tifffile raises on damaged content.
    """
    with _opened(file) as tiff:
        pages = _pages(file, tiff)
        header = replace(_header(pages[0]), frames=len(pages))
    return replace(header, metadata=replace(header.metadata, exif=_exif_block(file)))


def read_shape(file: BinaryIO) -> Header:
    """Size and orientation, from the tags of the first page alone.

    Raises:
        Exception: Whatever tifffile raises on damaged content.
    """
    with _opened(file) as tiff:
        return _shape(_first(file, tiff))


def decode(file: BinaryIO) -> Raster:
    """Decode the first page, keeping 16-bit and float samples.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Of a kind that is not read.
        Exception: Whatever tifffile and imagecodecs raise on damaged content.
    """
    with _opened(file) as tiff:
        return _raster(file, _first(file, tiff))


def decode_pages(file: BinaryIO) -> Iterator[Still]:
    """Decode one page after another; reduced copies are passed over.

    Raises:
        Exception: See `decode`.
    """
    block = _exif_block(file)
    with _opened(file) as tiff:
        for page in _pages(file, tiff):
            header = _header(page)
            metadata = replace(header.metadata, exif=block)
            yield Still(replace(header, metadata=metadata), partial(_raster, file, page))
            block = None


def _raster(file: BinaryIO, page: TiffPage) -> Raster:
    """Decode a page."""
    _check_kind(page)
    if page.compression != _OLD_JPEG:
        _check_segments(page, file.seek(0, 2))
    if page.compression == _JPEG:
        _check_jpeg(page, file)
    samples = _samples(file, page)
    samples = samples.reshape(page.imagelength, page.imagewidth, -1)
    if page.photometric == _INDEXED:
        return Raster(_looked_up(samples, page))
    if samples.dtype.kind == "f":
        return _with_alpha(samples.astype(np.float32), page)
    samples = _full_range(samples, 8 if page.photometric == _YCBCR else page.bitspersample)
    if page.photometric == _SEPARATED and samples.shape[2] >= 4:
        return pillow.raster_of_inks(samples[..., :4], _content(page, _ICC))
    raster = _with_alpha(samples, page)
    return _of_lab(raster, page.photometric) if page.photometric in (_CIELAB, _ICCLAB) else raster


@contextmanager
def _opened(file: BinaryIO) -> Generator[TiffFile]:
    """A file opened by tifffile, without numpy's warnings about numbers that overflow."""
    file.seek(0)
    with np.errstate(all="ignore"), TiffFile(file) as tiff:
        yield tiff


def _shape(page: TiffPage) -> Header:
    """Size and orientation."""
    if page.imagewidth <= 0 or page.imagelength <= 0:
        raise MalformedError("is damaged")
    turned = page.tags.valueof(_ORIENTATION, 1)
    return Header(page.imagewidth, page.imagelength, turned if turned in range(1, 9) else 1)


def _header(page: TiffPage) -> Header:
    """Size, orientation and metadata of one page, without EXIF."""
    metadata = Metadata(
        icc=_content(page, _ICC),
        xmp=_content(page, _XMP),
        iptc=_captions(page),
        dpi=_dpi(page),
    )
    return replace(_shape(page), metadata=metadata)


def _captions(page: TiffPage) -> bytes | None:
    """The IPTC block, which many programs declare as numbers of four bytes."""
    match page.tags.valueof(_IPTC):
        case bytes(block) if block:
            return block
        case (int(), *_) as words:
            return np.array(words, page.parent.byteorder + "u4").tobytes()
        case _:
            return None


def _first(file: BinaryIO, tiff: TiffFile) -> TiffPage:
    """The first of `_pages`, which rarely takes a look at the others."""
    first = tiff.pages.first
    return _pages(file, tiff)[0] if first.is_reduced or _DNG_VERSION in first.tags else first


def _pages(file: BinaryIO, tiff: TiffFile) -> list[TiffPage]:
    """Pages that are neither reduced copies nor masks of others.

    Raises:
        UnsupportedError: They are reduced copies of what only a raw converter reads.
        MalformedError: See `_count`.
    """
    pages = [tiff.pages.get(index).aspage() for index in range(_count(file, tiff))]
    found = [page for page in pages if not (page.is_reduced or page.is_mask)]
    tags = pages[0].tags
    # Cameras put the shot into an inner directory of its thumbnail's.
    if _DNG_VERSION in tags or (_INNER_PAGES in tags and not found):
        raise UnsupportedError("is a camera raw file, which must be developed")
    return found or pages[:1]


def _count(file: BinaryIO, tiff: TiffFile) -> int:
    """How many pages, masks and copies there are.

    tifffile ends at a page that it cannot find, and goes on for ever in a ring.

    Raises:
        MalformedError: A page is beyond the end of the file, or leads back to an earlier one.
        UnsupportedError: There are too many.
    """
    layout, seen = tiff.tiff, set[int]()
    place = 8 if layout.is_bigtiff else 4
    while start := _number(file, place, layout.offsetformat) or 0:
        tags = _number(file, start, layout.tagnoformat)
        if tags is None:
            raise MalformedError("is cut off")
        if start in seen:
            raise MalformedError("is damaged")
        seen.add(start)
        if len(seen) > _MAX_PAGES:
            raise UnsupportedError(f"has more than {_MAX_PAGES} pages, which is not supported")
        place = start + layout.tagnosize + tags * layout.tagsize
    return len(seen)


def _number(file: BinaryIO, place: int, format: str) -> int | None:
    """A number at a place; None beyond the end."""
    file.seek(place)
    data = file.read(struct.calcsize(format))
    return struct.unpack(format, data)[0] if len(data) == struct.calcsize(format) else None


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
    if page.compression not in _COMPRESSIONS:
        raise UnsupportedError("is compressed in a way that is not supported")
    lab = page.photometric in (_CIELAB, _ICCLAB)
    if not lab and page.photometric not in (*range(_INDEXED + 1), _SEPARATED, _YCBCR):
        raise UnsupportedError("stores its colours in a way that is not supported")
    kind = page.dtype
    known = kind is not None and (kind.kind in "bf" or (kind.kind == "u" and kind.itemsize <= 2))
    if lab and (page.bitspersample not in (8, 16) or page.compression == _JPEG):
        known = False
    if not known or page.imagedepth != 1 or page.samplesperpixel > _MAX_SAMPLES:
        raise UnsupportedError("stores its samples as numbers of a kind that is not supported")


def _check_segments(page: TiffPage, size: int) -> None:
    """Refuse a file whose strips or tiles are not all inside it, or are far too large."""
    starts, sizes = page.dataoffsets, page.databytecounts
    if not len(starts) == len(sizes) == math.prod(page.chunked) or 0 in sizes:
        raise MalformedError("is damaged")
    if any(start + length > size for start, length in zip(starts, sizes, strict=True)):
        raise MalformedError("is cut off")
    beyond = max(page.tilewidth // page.imagewidth, page.tilelength // page.imagelength)
    if beyond > _MAX_TILES_BEYOND:
        raise MalformedError("is damaged")


def _samples(file: BinaryIO, page: TiffPage) -> Pixels:
    """Samples as stored, (H, W, samples a pixel); of YCbCr, RGB at 8 bits."""
    if page.compression == _OLD_JPEG or (page.photometric == _YCBCR and page.compression != _JPEG):
        samples = imagecodecs.tiff_decode(_content_of(file), index=page.index, asrgb=True)[..., :3]
        # libtiff flips as the orientation says, but does not swap the axes; a flip undoes itself.
        return exif.upright(samples, (_shape(page).orientation - 1) % 4 + 1)
    if page.compression in _THROUGH_LIBTIFF:
        data = _without_inks(_content_of(file), page)
        samples = imagecodecs.tiff_decode(data, index=page.index, asrgb=False)
    else:
        samples = page.asarray(maxworkers=1)
    return np.moveaxis(samples, 0, -1) if page.axes == "SYX" else samples


def _content_of(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _without_inks(data: bytes, page: TiffPage) -> bytes:
    """The same file with its inks declared as grey, lest libtiff turns CMYK into RGB by itself."""
    if page.photometric != _SEPARATED:
        return data
    plain, order = bytearray(data), page.parent.byteorder
    struct.pack_into(order + "H", plain, page.tags[_PHOTOMETRIC].valueoffset, 1)
    return bytes(plain)


def _check_jpeg(page: TiffPage, file: BinaryIO) -> None:
    """Refuse a JPEG inside that is far larger than its strip or tile."""
    allowed = 2 * math.prod(page.chunks)
    for start, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(start)
        inside = JpegImagePlugin.JpegImageFile(io.BytesIO(file.read(size)))
        if math.prod(inside.size) > allowed:
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
    """Split stored samples into colour and alpha; further samples are no part of the image."""
    colours = 3 if page.photometric in (_RGB, _YCBCR, _CIELAB, _ICCLAB) else 1
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


def _of_lab(raster: Raster, photometric: int) -> Raster:
    """CIELAB as TIFF stores it, a* and b* signed, or as ICC profiles do, to RGB of 16 bits."""
    deep = raster.pixels.dtype == np.uint16
    lightness, opponents = raster.pixels[..., 0], raster.pixels[..., 1:]
    alpha = raster.alpha
    if alpha is not None and not deep:
        alpha = alpha.astype(np.uint16) * np.uint16(257)
    if photometric == _CIELAB:
        full = 65535 if deep else 255
        signed = opponents.view(np.int16 if deep else np.int8).astype(np.float32)
    else:
        full = 0xFF00 if deep else 255
        signed = opponents.astype(np.float32) - (0x8000 if deep else 0x80)
    levels = np.float32(256 if deep else 1)
    converted = pillow.raster_of_lab(lightness * np.float32(100 / full), signed / levels)
    return replace(converted, alpha=alpha)
