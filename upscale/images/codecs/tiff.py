"""TIFF: tags and pages through tifffile; its samples are decoded by `tiff_samples`.

tifffile writes no EXIF. An EXIF block is a TIFF file without pixels: the image is appended
to the block, whose offsets stay valid including those of maker notes, and the header is pointed at
the image's directory.
"""

from __future__ import annotations

import logging
import struct
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from PIL import Image as PILImage
from tifffile import TiffFile, TiffPage, TiffWriter

from upscale.files.system_errors import raise_system_error
from upscale.images.codecs.base import (
    Header,
    MalformedError,
    Raster,
    StoredFrame,
    UnsupportedError,
)
from upscale.images.codecs.registry import Codec, Salvage, Traits, register, starts_with
from upscale.images.codecs.tiff_directories import read_directories
from upscale.images.codecs.tiff_salvage import salvage_page
from upscale.images.codecs.tiff_samples import ICC, RAW_PHOTOMETRICS, bytes_of, decode_page
from upscale.images.encoding import Encoding, ResolvedEncoding
from upscale.images.foreign_kinds import RAW
from upscale.images.image import Image, ImageSequence, Metadata
from upscale.images.metadata import exif, photoshop
from upscale.images.metadata.density import ratio_of

# Without a handler, Python prints tifffile's remarks about unusual tags to standard error.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_ORIENTATION, _ACROSS, _DOWN, _UNIT = 274, 282, 283, 296
_XMP, _IPTC, _PHOTOSHOP = 700, 33723, 34377
_MAKE, _SUB_IFDS, _DNG_VERSION = 271, 330, 50706
_CR2_POSITION, _CR2 = 8, b"CR"
_NO_UNIT = 1
_LEVEL = 5
_CLASSIC_MAX_BYTES = 4_000_000_000
_ASCII, _BYTE, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 2, 1, 3, 4, 5, 7
_Tag = tuple[int | str, int | str, int | None, Any, bool]
_warnings_lock = threading.Lock()


def read_header(file: BinaryIO) -> Header:
    """Read size, pages, orientation and metadata."""
    with _opened(file) as tiff:
        pages, notes = _pages(file, tiff)
        header = replace(_header(pages[0]), frames=len(pages), notes=notes)
    return replace(header, metadata=replace(header.metadata, exif=_exif_block(file)))


def read_shape(file: BinaryIO) -> Header:
    """Read size and orientation from the tags of the first page."""
    with _opened(file) as tiff:
        return _shape(_first(file, tiff))


def decode(file: BinaryIO) -> Raster:
    """Decode the first page, keeping 16-bit and float samples.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Its kind of samples or compression is not supported.
    """
    with _opened(file) as tiff:
        page = _first(file, tiff)
        return decode_page(file, page, _shape(page).orientation)


def decode_frames(file: BinaryIO) -> Iterator[StoredFrame]:
    """Yield the pages, without reduced copies.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Its kind of samples or compression is not supported.
    """
    return _stored_frames(file, decode_page)


def _stored_frames(
    file: BinaryIO,
    decode: Callable[[BinaryIO, TiffPage, int], Raster],
    *,
    is_partial: bool = False,
) -> Iterator[StoredFrame]:
    block = _exif_block(file)
    with _opened(file) as tiff:
        pages, notes = _pages(file, tiff, is_partial=is_partial)
        for page in pages:
            header = _header(page)
            header = replace(header, metadata=replace(header.metadata, exif=block), notes=notes)
            yield StoredFrame(header, partial(decode, file, page, header.orientation))
            block, notes = None, ()


def salvage(file: BinaryIO) -> Raster:
    """Decode what can be decoded of the first page.

    Raises:
        MalformedError: No strip or tile can be decoded.
        UnsupportedError: Its kind of samples or compression is not supported.
    """
    with _opened(file) as tiff:
        page = _pages(file, tiff, is_partial=True)[0][0]
        return salvage_page(file, page, _shape(page).orientation)


def salvage_header(file: BinaryIO) -> Header:
    """Read the header of a file of which pages are missing."""
    with _opened(file) as tiff:
        pages, _ = _pages(file, tiff, is_partial=True)
        header = replace(_header(pages[0]), frames=len(pages))
    clause = f"everything after page {len(pages)} is missing"
    block = _exif_block(file)
    return replace(header, metadata=replace(header.metadata, exif=block), damage=(clause,))


def salvage_frames(file: BinaryIO) -> Iterator[StoredFrame]:
    """Yield the pages that there are; each may be decoded in part.

    Raises:
        MalformedError: There is no page.
        UnsupportedError: Its kind of samples or compression is not supported.
    """
    return _stored_frames(file, salvage_page, is_partial=True)


def encode(image: Image, target: BinaryIO, encoding: ResolvedEncoding) -> None:
    """Encode one page losslessly in the depth of its pixels."""
    del encoding
    _encode([image], target, 1)


def encode_pages(pages: ImageSequence, target: BinaryIO, encoding: Encoding) -> None:
    """Encode pages losslessly in the depth of their pixels; only the first page's EXIF is kept."""
    del encoding
    _encode((page.image for page in pages.frames()), target, pages.count)


@contextmanager
def _opened(file: BinaryIO) -> Generator[TiffFile]:
    """Open a file with tifffile, without numpy's warnings about overflows.

    They are off only while it is opened: a generator that is closed in another thread could not
    turn them on again. Functions that read tags or samples turn them off themselves.
    """
    file.seek(0)
    with np.errstate(all="ignore"):
        tiff = TiffFile(file)
    with tiff:
        yield tiff


@np.errstate(all="ignore")
def _shape(page: TiffPage) -> Header:
    """Return size and orientation of a page."""
    if page.imagewidth <= 0 or page.imagelength <= 0:
        raise MalformedError("is damaged")
    value = page.tags.valueof(_ORIENTATION, 1)
    return Header(page.imagewidth, page.imagelength, value if value in range(1, 9) else 1)


@np.errstate(all="ignore")
def _header(page: TiffPage) -> Header:
    """Return size, orientation and metadata of a page, without EXIF."""
    metadata = Metadata(
        icc=bytes_of(page, ICC),
        xmp=bytes_of(page, _XMP),
        iptc=_iptc_block(page),
        dpi=_dpi(page),
        density_ratio=_density_ratio(page),
        photoshop=photoshop.kept(photoshop.resources_of(bytes_of(page, _PHOTOSHOP) or b"")),
    )
    return replace(_shape(page), metadata=metadata)


def _iptc_block(page: TiffPage) -> bytes | None:
    """Return the IPTC block, which many programs declare as numbers of four bytes."""
    match page.tags.valueof(_IPTC):
        case bytes(block) if block:
            return block
        case (int(), *_) as words:
            return np.array(words, page.parent.byteorder + "u4").tobytes()
        case _:
            return None


@np.errstate(all="ignore")
def _first(file: BinaryIO, tiff: TiffFile) -> TiffPage:
    """Return the first of `_pages`, mostly without reading the others."""
    first = tiff.pages.first
    is_plain = not first.is_reduced and not {_DNG_VERSION, _SUB_IFDS, _MAKE} & set(
        first.tags.keys()
    )
    return first if is_plain else _pages(file, tiff)[0][0]


@np.errstate(all="ignore")
def _pages(
    file: BinaryIO, tiff: TiffFile, *, is_partial: bool = False
) -> tuple[list[TiffPage], tuple[str, ...]]:
    """Return the pages that are neither reduced copies nor masks; if asked, those before a damage.

    Clauses on what is wrong with the list of pages are returned, too.

    Raises:
        UnsupportedError: It is a camera raw file.
        MalformedError: Damaged or cut off.
    """
    pages, notes = read_directories(file, tiff, is_partial=is_partial)
    full = [page for page in pages if not (page.is_reduced or page.is_mask)]
    if _is_raw(file, pages, full):
        raise UnsupportedError(RAW.problem, RAW.advice)
    return full or pages[:1], notes


def _is_raw(file: BinaryIO, pages: list[TiffPage], full: list[TiffPage]) -> bool:
    """Return whether the pages are previews of a raw file."""
    tags = pages[0].tags
    # Cameras store the photo in a subdirectory of its thumbnail's.
    if _DNG_VERSION in tags or (_SUB_IFDS in tags and not full):
        return True
    file.seek(_CR2_POSITION)
    if file.read(len(_CR2)) == _CR2 or any(_is_sensor_data(page) for page in pages):
        return True
    return any(_is_sensor_data(inner) for page in pages for inner in _inner_pages(page))


def _inner_pages(page: TiffPage) -> list[TiffPage]:
    """Return the pages in subdirectories of a page; none where they are damaged."""
    try:
        if _SUB_IFDS in page.tags and page.pages is not None:
            return [inner.aspage() for inner in page.pages]
    except Exception as error:
        raise_system_error(error)
    return []


def _is_sensor_data(page: TiffPage) -> bool:
    return int(page.photometric or 0) in RAW_PHOTOMETRICS


def _dpi(page: TiffPage) -> tuple[float, float] | None:
    """Return pixels per inch; None where the unit is not a length."""
    inch = {2: 1.0, 3: 2.54}.get(page.tags.valueof(_UNIT, 2))
    densities = _densities(page)
    return (densities[0] * inch, densities[1] * inch) if inch and densities else None


def _density_ratio(page: TiffPage) -> tuple[float, float] | None:
    """Return the ratio of densities across and down, where no unit is stated."""
    densities = _densities(page)
    has_unit = page.tags.valueof(_UNIT, 2) != _NO_UNIT
    return None if has_unit or densities is None else ratio_of(*densities)


def _densities(page: TiffPage) -> tuple[float, float] | None:
    """Return pixels per unit across and down; None where they are no positive numbers."""
    match page.tags.valueof(_ACROSS), page.tags.valueof(_DOWN):
        case (int(a), int(b)), (int(c), int(d)) if min(a, b, c, d) > 0:
            return a / b, c / d
        case _:
            return None


def _exif_block(file: BinaryIO) -> bytes | None:
    """Build an EXIF block from the tags about the photo; None without any."""
    stored, kept = PILImage.Exif(), PILImage.Exif()
    # Pillow warns about damaged tags, which are left out.
    with _warnings_lock, warnings.catch_warnings(action="ignore"):
        try:
            file.seek(0)
            stored.load_from_fp(file)
            kept.update({tag: stored[tag] for tag in exif.DESCRIPTIVE if tag in stored})
            for tag in exif.POINTERS:
                inner = stored.get_ifd(tag)
                inner.pop(exif.INTEROPERABILITY, None)
                if inner:
                    kept.get_ifd(tag).update(inner)
                    kept[tag] = 0
            return exif.without_prefix(kept.tobytes()) if kept else None
        except Exception as error:
            raise_system_error(error)
            return None


def _encode(pages: Iterable[Image], target: BinaryIO, count: int) -> None:
    """Encode pages into an empty file.

    Offsets have 64 bits where `count` pages of the size of the first may exceed 4 GB.
    """
    remaining = iter(pages)
    first = next(remaining)
    block = first.metadata.exif
    big = count * first.pixels.nbytes * 4 // 3 > _CLASSIC_MAX_BYTES
    base = None if big or block is None else _base(block)
    if base is not None:
        target.write(base.block)
        target.seek(0)
    with TiffWriter(target, bigtiff=big, append="force" if base else False) as writer:
        _write(writer, first, base.tags if base else [])
        for page in remaining:
            _write(writer, page, [])
    if base is not None:
        target.seek(base.next_pointer)
        first_directory = target.read(4)
        target.seek(4)
        target.write(first_directory)
        target.seek(0, 2)


@dataclass(frozen=True, slots=True)
class _Base:
    """An EXIF block that pages are appended to.

    Attributes:
        block: The block.
        tags: Tags for the directory of the first page.
        next_pointer: Position of the pointer to that directory.
    """

    block: bytes
    tags: list[_Tag]
    next_pointer: int


def _base(block: bytes) -> _Base | None:
    """Prepare an EXIF block for appending; None when it is damaged or has no tags to keep."""
    try:
        # TIFF files have no place for a thumbnail.
        block = exif.with_thumbnail(block, None)
        order, start = exif.header(block)
        entries = list(exif.entries(block))
        pointers = (entry for entry in entries if entry.tag in exif.POINTERS)
        tags = [_pointer_tag(block, order, entry) for entry in pointers]
        texts = (entry for entry in entries if entry.tag in exif.DESCRIPTIVE)
        described = (_descriptive_tag(block, order, entry) for entry in texts)
        tags += [tag for tag in described if tag is not None]
        next_pointer = start + 2 + 12 * len(entries)
        plain = bytearray(block) + b"\0" * (len(block) % 2)
        struct.pack_into(order + "I", plain, next_pointer, 0)
    except (ValueError, struct.error):
        return None
    return _Base(bytes(plain), tags, next_pointer) if tags else None


def _pointer_tag(block: bytes, order: str, entry: exif.Entry) -> _Tag:
    """Return a tag that points to a directory in the block; tifffile accepts it only by name."""
    name = {exif.EXIF_IFD: "ExifTag", exif.GPS_IFD: "GPSTag"}[entry.tag]
    return name, _LONG, 1, struct.unpack_from(order + "I", block, entry.position)[0], False


def _descriptive_tag(block: bytes, order: str, entry: exif.Entry) -> _Tag | None:
    """Return a descriptive tag: text, bytes or one number; None for other types."""
    if entry.kind == _SHORT and entry.count == 1:
        (number,) = struct.unpack_from(order + "H", block, entry.position)
        return entry.tag, _SHORT, 1, number, False
    if entry.kind == _RATIONAL and entry.count == 1:
        (position,) = struct.unpack_from(order + "I", block, entry.position)
        return entry.tag, _RATIONAL, 1, struct.unpack_from(order + "II", block, position), False
    if entry.kind not in (_ASCII, _BYTE):
        return None
    position = entry.position
    if entry.count > 4:
        (position,) = struct.unpack_from(order + "I", block, position)
    content = block[position : position + entry.count]
    return entry.tag, entry.kind, entry.count, content, False


def _write(writer: TiffWriter, image: Image, tags: list[_Tag]) -> None:
    """Write a page as deflated strips with a predictor."""
    samples, metadata = image.samples(), image.metadata
    if metadata.xmp:
        tags = [*tags, (_XMP, _BYTE, len(metadata.xmp), metadata.xmp, False)]
    if metadata.iptc:
        tags = [*tags, (_IPTC, _UNDEFINED, len(metadata.iptc), metadata.iptc, False)]
    if metadata.photoshop:
        block = photoshop.block_of(metadata.photoshop)
        tags = [*tags, (_PHOTOSHOP, _BYTE, len(block), block, False)]
    resolution, unit = _resolution(metadata)
    writer.write(
        samples if samples.shape[2] > 1 else samples[..., 0],
        photometric="rgb" if image.pixels.shape[2] == 3 else "minisblack",
        planarconfig="contig" if samples.shape[2] > 1 else None,
        extrasamples=None if image.alpha is None else ["unassalpha"],
        compression="zlib",
        compressionargs={"level": _LEVEL},
        predictor=True,
        iccprofile=metadata.icc,
        resolution=resolution,
        resolutionunit=unit,
        extratags=tags,
        metadata=None,
        software=False,
    )


def _resolution(metadata: Metadata) -> tuple[tuple[float, float] | None, str | None]:
    """Return a resolution that fits into two 32-bit integers, and its unit."""
    values, unit = metadata.dpi, "inch"
    if values is None:
        values, unit = metadata.density_ratio, "none"
    return (values, unit) if values and max(values) < 2**31 and min(values) > 1e-4 else (None, None)


register(
    Codec(
        name="tiff",
        label="TIFF",
        suffixes=("tif", "tiff"),
        sniff=starts_with(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        read_header=read_header,
        read_shape=read_shape,
        decode=decode,
        decode_frames=decode_frames,
        salvage=Salvage(decode=salvage, read_header=salvage_header, decode_frames=salvage_frames),
        traits=Traits(
            depth=32,
            alpha="full",
            frames="pages",
            carries=frozenset({"icc", "exif", "xmp", "iptc", "photoshop", "dpi", "density_ratio"}),
        ),
        encode=encode,
        encode_sequence=encode_pages,
        rank=4,
    )
)
