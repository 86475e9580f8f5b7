"""Write TIFF: deflated strips, any depth, with everything that travels beside the pixels.

A file starts with the EXIF block as it is, because that is a TIFF file without pixels: its own
offsets stay right, maker notes included, and only the first directory is written anew.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from upscale.pictures import tiff_exif
from upscale.pictures.decoded import MalformedError
from upscale.pictures.picture import Picture, Pixels
from upscale.pictures.tiff_tags import BYTE, LONG, LONG8, RATIONAL, SHORT, UNDEFINED

from upscale.pictures.tiff_tags import Dialect, Directory, Entry, integers, packed  # isort: skip

_STRIP_BYTES = 1024 * 1024
_LEVEL = 5
_CLASSIC_MAX_BYTES = 4_000_000_000
_DEFLATE, _HORIZONTAL, _PLAIN = 8, 2, 1
_BLACK_IS_ZERO, _RGB = 1, 2
_INCH, _UNASSOCIATED = 2, 2


def encode(picture: Picture) -> bytes:
    """Encode losslessly in the depth of the pixels."""
    samples = picture.pixels
    if picture.alpha is not None:
        samples = np.dstack((samples, picture.alpha))
    big = samples.nbytes > _CLASSIC_MAX_BYTES
    head, dialect, entries = _head(picture.metadata.exif, big)
    strips = list(_strips(samples, dialect.order))
    sizes = [len(strip) for strip in strips]
    starts = [len(head) + sum_before for sum_before in _running(sizes)]
    place = starts[-1] + sizes[-1]
    entries |= _layout(picture, samples, dialect)
    word = LONG8 if big else LONG
    entries |= {273: integers(dialect, word, *starts), 279: integers(dialect, word, *sizes)}
    entries |= _metadata(picture, dialect)
    padding = b"\0" * (place % 2)
    offset = struct.pack(dialect.order + dialect.word, place + len(padding))
    head = head[:8] + offset if big else head[:4] + offset + head[8:]
    return b"".join((head, *strips, padding, packed(entries, place + len(padding), dialect)))


def _head(block: bytes | None, big: bool) -> tuple[bytes, Dialect, Directory]:
    """The start of the file, up to the first strip, and the entries that describe the shot.

    The offset of the first directory is still to be filled in. Big TIFF has other offsets than an
    EXIF block, which is left out there.
    """
    if big:
        return b"II+\0\x08\0\0\0" + bytes(8), Dialect("<", big=True), {}
    if block:
        try:
            dialect, entries = tiff_exif.entries_of(block)
        except MalformedError:
            entries, dialect = {}, Dialect("<")
        if entries:
            return block + b"\0" * (len(block) % 2), dialect, entries
    return b"II*\0" + bytes(4), Dialect("<"), {}


def _running(sizes: list[int]) -> Iterator[int]:
    """What stands before each part."""
    total = 0
    for size in sizes:
        yield total
        total += size


def _rows(samples: Pixels) -> int:
    """Rows a strip."""
    return max(1, _STRIP_BYTES // samples[0].nbytes)


def _strips(samples: Pixels, order: str) -> Iterator[bytes]:
    """Deflated strips; integers as differences to the pixel on the left."""
    rows = _rows(samples)
    for top in range(0, len(samples), rows):
        strip = samples[top : top + rows]
        if strip.dtype.kind == "u":
            strip = np.concatenate((strip[:, :1], strip[:, 1:] - strip[:, :-1]), axis=1)
        stored = f"{order}{strip.dtype.kind}{strip.dtype.itemsize}"
        yield zlib.compress(strip.astype(stored).tobytes(), _LEVEL)


def _layout(picture: Picture, samples: Pixels, dialect: Dialect) -> Directory:
    """The tags that say how the samples are stored."""
    height, width, count = samples.shape
    integer = samples.dtype.kind == "u"
    tags = {
        256: (LONG, width),
        257: (LONG, height),
        258: (SHORT, *[samples.dtype.itemsize * 8] * count),
        259: (SHORT, _DEFLATE),
        262: (SHORT, _RGB if picture.pixels.shape[2] == 3 else _BLACK_IS_ZERO),
        277: (SHORT, count),
        278: (LONG, _rows(samples)),
        284: (SHORT, 1),
        317: (SHORT, _HORIZONTAL if integer else _PLAIN),
        339: (SHORT, *[1 if integer else 3] * count),
    }
    if picture.alpha is not None:
        tags[338] = (SHORT, _UNASSOCIATED)
    return {tag: integers(dialect, kind, *values) for tag, (kind, *values) in tags.items()}


def _metadata(picture: Picture, dialect: Dialect) -> Directory:
    """The tags of the resolution, the XMP packet and the ICC profile."""
    metadata, entries = picture.metadata, Directory()
    if metadata.xmp:
        entries[700] = Entry(BYTE, len(metadata.xmp), metadata.xmp)
    if metadata.icc:
        entries[34675] = Entry(UNDEFINED, len(metadata.icc), metadata.icc)
    if metadata.dpi and max(metadata.dpi) < 2**31 and min(metadata.dpi) > 1e-4:
        entries[296] = integers(dialect, SHORT, _INCH)
        for tag, dpi in zip((282, 283), metadata.dpi, strict=True):
            ratio = Fraction(dpi).limit_denominator(10_000 if dpi < 100_000 else 1)
            body = struct.pack(dialect.order + "II", ratio.numerator, ratio.denominator)
            entries[tag] = Entry(RATIONAL, 1, body)
    return entries
