"""TIFF: its tags are checked here; Pillow decodes 8 bits, tifffile and OpenCV decode more.

Pillow reads 16-bit colour as 8 bits, and the TIFF library inside it prints on damage; tifffile
lacks LZW; OpenCV multiplies alpha into 8-bit colours. Each is used for what it does well, and only
on files whose parts lie inside the file.
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
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from upscale.pictures import alpha as transparency
from upscale.pictures import exif, flat
from upscale.pictures.decoded import Header, MalformedError, Raster
from upscale.pictures.picture import Metadata, Picture, Pixels

_REDUCED, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIPS, _ORIENTATION, _SAMPLES, _STRIP_BYTES, _ACROSS, _DOWN, _PLANAR = (
    273, 274, 277, 279, 282, 283, 284,
)  # fmt: skip
_UNIT, _TILES, _TILE_BYTES, _EXTRA, _SAMPLE_FORMAT, _XMP, _ICC = 296, 324, 325, 338, 339, 700, 34675
_PREDICTOR, _HORIZONTAL = 317, 2
_DESCRIPTIVE = (270, 271, 272, 305, 306, 315, 33432)
_EXIF_DIRECTORIES = (34665, 34853)

_NONE, _LZW, _OLD_JPEG, _DEFLATE, _OLD_DEFLATE, _PACKBITS = 1, 5, 6, 8, 32946, 32773
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _SEPARATED = 0, 1, 2, 5
_ASSOCIATED, _UNASSOCIATED = 1, 2
_UNSIGNED, _FLOAT = 1, 3
_SHORT, _UNDEFINED = 3, 7

_NUMBERS = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q"}
_FORMATS = {1: "B", 2: "B", 7: "B", 5: "II", 10: "ii", 18: "Q", **_NUMBERS}
_MAX_PAGES = 10_000
_STRIP_ROWS_BYTES = 1024 * 1024
_CLASSIC_MAX_BYTES = 3_900_000_000

_quiet_lock = threading.Lock()

_Tags = dict[int, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How the numbers of a file are laid out: classic or big TIFF, either byte order."""

    order: str
    big: bool

    def number(self, data: bytes, place: int, kind: str) -> int:
        """One number of a struct format; MalformedError beyond the end."""
        size = struct.calcsize(self.order + kind)
        if place + size > len(data):
            raise MalformedError("is cut off")
        return struct.unpack_from(self.order + kind, data, place)[0]


def read_header(data: bytes) -> Header:
    """Size, pages, orientation and metadata.

    Raises:
        MalformedError: Damaged, cut off, or of a kind that is not supported.
    """
    pages = list(_pages(data))
    tags = pages[0]
    width, height = _number(tags, _WIDTH), _number(tags, _HEIGHT)
    if width <= 0 or height <= 0:
        raise MalformedError("is damaged")
    turned = _number(tags, _ORIENTATION, 1)
    frames = sum(not _number(page, _REDUCED, 0) & 1 for page in pages[1:]) + 1
    metadata = Metadata(_bytes(tags, _ICC), _exif(data), _bytes(tags, _XMP), _dpi(tags))
    return Header(width, height, turned if 1 <= turned <= 8 else 1, frames, metadata)


def decode(data: bytes) -> Raster:
    """Decode the first page, keeping 16-bit and float samples.

    Raises:
        MalformedError: Damaged, cut off, or of a kind that is not supported.
        Exception: Whatever Pillow, tifffile or OpenCV raise on damaged content.
    """
    tags = next(_pages(data))
    _check_segments(tags, len(data))
    deep = max(_numbers(tags, _BITS, (1,))) > 8
    if deep and _number(tags, _PHOTOMETRIC, 0) != _SEPARATED:
        return _decode_deep(data, tags)
    with _quiet():
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(_as_stored(data)))
    return flat.raster_of(image)


def encode(picture: Picture) -> bytes:
    """Encode losslessly (deflate) with alpha and metadata, in the depth of the pixels."""
    return _encode_flat(picture) if picture.pixels.dtype == np.uint8 else _encode_deep(picture)


def _pages(data: bytes) -> Iterator[_Tags]:
    """The tags of each page; the first page must be whole, later ones end the walk."""
    dialect, place = _start(data)
    seen: set[int] = set()
    while place and place not in seen and len(seen) < _MAX_PAGES:
        try:
            tags, following = _directory(data, place, dialect)
        except MalformedError:
            if not seen:
                raise
            return
        yield tags
        seen.add(place)
        place = following
    if not seen:
        raise MalformedError("is damaged")


def _start(data: bytes) -> tuple[_Dialect, int]:
    """The dialect, and where the first directory is."""
    order, big = "<" if data[:2] == b"II" else ">", 43 in data[2:4]
    dialect = _Dialect(order, big)
    return dialect, dialect.number(data, 8 if big else 4, "Q" if big else "I")


def _directory(data: bytes, place: int, dialect: _Dialect) -> tuple[_Tags, int]:
    """The tags of one directory (those that can be read), and where the next directory is."""
    word, step, head = ("Q", 20, 8) if dialect.big else ("I", 12, 2)
    count = dialect.number(data, place, "Q" if dialect.big else "H")
    end = place + head + count * step
    if end > len(data):
        raise MalformedError("is cut off")
    tags: _Tags = {}
    for entry in range(place + head, end, step):
        tag = dialect.number(data, entry, "H")
        values = _values(data, entry, dialect)
        if values is not None:
            tags.setdefault(tag, values)
    return tags, dialect.number(data, end, word) if end + step // 3 <= len(data) else 0


def _values(data: bytes, entry: int, dialect: _Dialect) -> tuple[Any, ...] | None:
    """The values of one tag; None when they lie outside the file or have no known type."""
    word, inline = ("Q", 8) if dialect.big else ("I", 4)
    form = _FORMATS.get(dialect.number(data, entry + 2, "H"))
    count = dialect.number(data, entry + 4, word)
    if form is None:
        return None
    size = struct.calcsize(dialect.order + form) * count
    place = entry + 4 + struct.calcsize(dialect.order + word)
    if size > inline:
        place = dialect.number(data, place, word)
    if place + size > len(data):
        return None
    if form == "B":
        return (data[place : place + size],) if count > 1 else (data[place],)
    return struct.unpack_from(f"{dialect.order}{count * len(form)}{form[0]}", data, place)


def _numbers(tags: _Tags, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The integers of a tag; MalformedError when it is missing without a default."""
    values = tags.get(tag) or default
    if not values or not all(isinstance(value, int) for value in values):
        raise MalformedError("is damaged")
    return values


def _number(tags: _Tags, tag: int, default: int | None = None) -> int:
    """The first integer of a tag."""
    return _numbers(tags, tag, () if default is None else (default,))[0]


def _bytes(tags: _Tags, tag: int) -> bytes | None:
    """The content of a tag that holds bytes."""
    value = tags.get(tag, (None,))[0]
    return value if isinstance(value, bytes) and value else None


def _dpi(tags: _Tags) -> tuple[float, float] | None:
    """Pixels per inch, when the tags state a real unit."""
    inch = {2: 1.0, 3: 2.54}.get(_number(tags, _UNIT, 2))
    across, down = tags.get(_ACROSS, ()), tags.get(_DOWN, ())
    if inch is None or len(across) != 2 or len(down) != 2 or 0 in (*across, *down):
        return None
    return across[0] / across[1] * inch, down[0] / down[1] * inch


def _exif(data: bytes) -> bytes | None:
    """What the tags say about the shot, as an EXIF block of its own."""
    source, kept = Image.Exif(), Image.Exif()
    try:
        with _quiet():
            source.load(data)
            for tag in _DESCRIPTIVE:
                if tag in source:
                    kept[tag] = source[tag]
            for directory in _EXIF_DIRECTORIES:
                if entries := source.get_ifd(directory):
                    kept.get_ifd(directory).update(entries)
                    kept[directory] = entries
            return exif.without_prefix(kept.tobytes()) if len(kept) else None
    except Exception:
        # Pillow raises a dozen kinds of errors on damaged tags; the pixels may still be whole.
        return None


def _as_stored(data: bytes) -> bytes:
    """The same file with an orientation of 1 and an empty XMP packet.

    Pillow would apply either one's orientation to 8-bit pixels, and to nothing else.
    """
    dialect, place = _start(data)
    step, head = (20, 8) if dialect.big else (12, 2)
    count = dialect.number(data, place, "Q" if dialect.big else "H")
    plain = bytearray(data)
    for entry in range(place + head, place + head + count * step, step):
        kind = {_ORIENTATION: _SHORT, _XMP: _UNDEFINED}.get(dialect.number(data, entry, "H"))
        if kind is not None:
            one = struct.pack(dialect.order + ("HQH" if dialect.big else "HIH"), kind, 1, 1)
            plain[entry + 2 : entry + step] = one.ljust(step - 2, b"\0")
    return bytes(plain)


def _check_segments(tags: _Tags, size: int) -> None:
    """Refuse a file whose strips or tiles are not all inside it."""
    if _number(tags, _COMPRESSION, _NONE) == _OLD_JPEG:
        return
    tiled = _TILES in tags
    starts = _numbers(tags, _TILES if tiled else _STRIPS)
    sizes = _numbers(tags, _TILE_BYTES if tiled else _STRIP_BYTES)
    if len(starts) != len(sizes) or min(*starts, *sizes, 0) < 0:
        raise MalformedError("is damaged")
    if any(start + length > size for start, length in zip(starts, sizes, strict=True)):
        raise MalformedError("is cut off")


def _decode_deep(data: bytes, tags: _Tags) -> Raster:
    """Decode 16-bit integers or floats, grey or RGB, with or without alpha."""
    photometric = _number(tags, _PHOTOMETRIC, 0)
    kind = (_number(tags, _SAMPLE_FORMAT, _UNSIGNED), *set(_numbers(tags, _BITS)))
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        raise MalformedError(f"stores {kind[-1]}-bit colours in a way that is not supported")
    if kind not in ((_UNSIGNED, 16), (_FLOAT, 16), (_FLOAT, 32), (_FLOAT, 64)):
        raise MalformedError("stores its samples in a way that is not supported")
    samples = _deep_samples(data, tags)
    if photometric == _WHITE_IS_ZERO and samples.dtype.kind == "u":
        samples = np.iinfo(samples.dtype).max - samples
    colours = 3 if photometric == _RGB else 1
    return _with_alpha(samples, colours, _numbers(tags, _EXTRA, (0,))[0])


def _deep_samples(data: bytes, tags: _Tags) -> Pixels:
    """All samples, (H, W, C), C as stored."""
    height, width = _number(tags, _HEIGHT), _number(tags, _WIDTH)
    count = _number(tags, _SAMPLES, 1)
    compression = _number(tags, _COMPRESSION, _NONE)
    with _quiet():
        if compression in (_NONE, _DEFLATE, _OLD_DEFLATE, _PACKBITS):
            with tifffile.TiffFile(io.BytesIO(data)) as file:
                samples = np.asarray(file.pages[0].asarray())
            if _number(tags, _PLANAR, 1) == 2 and count > 1:
                samples = np.moveaxis(samples, 0, -1)
        else:
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            samples = np.asarray(decoded)
            if samples.ndim == 3:
                samples = samples[..., [2, 1, 0, *range(3, samples.shape[2])]]
    if samples.size != height * width * count:
        raise MalformedError("is damaged, or packed in a way that is not supported")
    return samples.reshape(height, width, count)


def _with_alpha(samples: Pixels, colours: int, extra: int) -> Raster:
    """Split stored samples into colour and alpha; further samples are no part of the picture."""
    if samples.shape[2] < colours:
        raise MalformedError("is damaged")
    if samples.dtype.kind == "f":
        samples = samples.astype(np.float32)
    colour = np.ascontiguousarray(samples[..., :colours])
    if samples.shape[2] == colours or extra not in (_ASSOCIATED, _UNASSOCIATED):
        return Raster(colour)
    alpha = np.ascontiguousarray(samples[..., colours])
    return Raster(transparency.unmultiply(colour, alpha) if extra == _ASSOCIATED else colour, alpha)


def _encode_flat(picture: Picture) -> bytes:
    """Encode uint8 pixels through Pillow, which also writes EXIF."""
    metadata, target = picture.metadata, io.BytesIO()
    tags: dict[int, Any] = {_PREDICTOR: _HORIZONTAL}
    if metadata.xmp:
        tags[_XMP] = metadata.xmp
    options: dict[str, Any] = {"dpi": metadata.dpi} if metadata.dpi else {}
    flat.image_of(picture).save(
        target,
        "TIFF",
        compression="tiff_adobe_deflate",
        tiffinfo=tags,
        icc_profile=metadata.icc,
        exif=exif.with_prefix(metadata.exif) if metadata.exif else b"",
        big_tiff=math.prod(picture.pixels.shape) * 4 // 3 > _CLASSIC_MAX_BYTES,
        **options,
    )
    return target.getvalue()


def _encode_deep(picture: Picture) -> bytes:
    """Encode uint16 or float32 pixels through tifffile; it cannot write EXIF."""
    metadata, target = picture.metadata, io.BytesIO()
    samples = picture.pixels
    if picture.alpha is not None:
        samples = np.dstack((samples, picture.alpha))
    tifffile.imwrite(
        target,
        samples if samples.shape[2] > 1 else samples[..., 0],
        photometric="rgb" if picture.pixels.shape[2] == 3 else "minisblack",
        planarconfig="contig" if samples.shape[2] > 1 else None,
        extrasamples=["unassalpha"] if picture.alpha is not None else None,
        compression="zlib",
        predictor=samples.dtype == np.uint16,
        rowsperstrip=max(1, _STRIP_ROWS_BYTES // samples[0].nbytes),
        iccprofile=metadata.icc,
        resolution=metadata.dpi or (1, 1),
        resolutionunit="inch" if metadata.dpi else "none",
        extratags=[(_XMP, 1, len(metadata.xmp), metadata.xmp, True)] if metadata.xmp else None,
        metadata=None,
        software=False,
    )
    return target.getvalue()


@contextmanager
def _quiet() -> Generator[None]:
    """Keep what the libraries say about odd tags off standard error.

    One thread at a time: the switches belong to the whole process.
    """
    logger, opencv = logging.getLogger("tifffile"), cv2.utils.logging
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        disabled, level = logger.disabled, opencv.getLogLevel()
        logger.disabled = True
        opencv.setLogLevel(opencv.LOG_LEVEL_SILENT)
        try:
            yield
        finally:
            logger.disabled = disabled
            opencv.setLogLevel(level)
