"""Read TIFF: tags, strips and tiles here; what is rare or foreign through OpenCV or Pillow.

Measured: Pillow reads 16-bit colour as 8 bits and prints on damaged strips; tifffile has no LZW of
its own and logs; OpenCV overlooks damage in 8-bit strips. So integers and floats are unpacked here
at any depth, and the libraries get only fax and JPEG, at 8 bits.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import TiffImagePlugin

from upscale.pictures import alpha as transparency
from upscale.pictures import flat, tiff_exif, tiff_segments, tiff_tags
from upscale.pictures.decoded import Header, MalformedError, Raster, UnsupportedError
from upscale.pictures.picture import Metadata, Pixels
from upscale.pictures.quiet import quiet
from upscale.pictures.tiff_tags import Tags

_REDUCED, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_ORIENTATION, _ACROSS, _DOWN, _UNIT, _PALETTE = 274, 282, 283, 296, 320
_EXTRA, _SAMPLE_FORMAT, _XMP, _ICC = 338, 339, 700, 34675

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _INDEXED, _SEPARATED, _YCBCR = 0, 1, 2, 3, 5, 6
_JPEGS = (6, 7)
_ASSOCIATED, _UNASSOCIATED = 1, 2
_UNSIGNED, _FLOAT = 1, 3


def read_header(data: bytes) -> Header:
    """Size, pages, orientation and metadata.

    Raises:
        MalformedError: Damaged or cut off.
    """
    first, *others = tiff_tags.pages(data)
    width, height = first.number(_WIDTH), first.number(_HEIGHT)
    if width <= 0 or height <= 0:
        raise MalformedError("is damaged")
    turned = first.hint(_ORIENTATION, 1)
    frames = 1 + sum(not page.hint(_REDUCED, 0) & 1 for page in others)
    block = tiff_exif.block_of(data, first)
    metadata = Metadata(first.content(_ICC), block, first.content(_XMP), _dpi(first))
    return Header(width, height, turned if 1 <= turned <= 8 else 1, frames, metadata)


def decode(data: bytes) -> Raster:
    """Decode the first page, keeping 16-bit and float samples.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Of a kind that is not read.
        Exception: Whatever Pillow or OpenCV raise on damaged content.
    """
    tags = next(tiff_tags.pages(data))
    tiff_segments.check(tags, len(data))
    photometric = tags.number(_PHOTOMETRIC, _WHITE_IS_ZERO)
    if photometric in (*range(_INDEXED + 1), _SEPARATED) and tiff_segments.can_unpack(tags):
        return _unpacked(data, tags, photometric)
    if max(tags.numbers(_BITS, (1,))) > 8 and photometric != _SEPARATED:
        raise UnsupportedError("stores its samples in a way that is not supported")
    plain = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _YCBCR) and _EXTRA not in tags.entries
    # OpenCV is silent about damaged JPEG, but fills it with grey; Pillow refuses it.
    if plain and tags.number(_COMPRESSION, 1) not in _JPEGS:
        return _through_opencv(data)
    return _through_pillow(data)


def _dpi(tags: Tags) -> tuple[float, float] | None:
    """Pixels per inch, when the tags state a real unit."""
    inch = {2: 1.0, 3: 2.54}.get(tags.hint(_UNIT, 2))
    across, down = tags.ratio(_ACROSS), tags.ratio(_DOWN)
    return (across * inch, down * inch) if inch and across and down else None


def _unpacked(data: bytes, tags: Tags, photometric: int) -> Raster:
    """Decode grey, RGB, indexed or CMYK samples of any depth."""
    bits = tags.number(_BITS, 1)
    kind = tags.number(_SAMPLE_FORMAT, _UNSIGNED)
    if kind not in (_UNSIGNED, _FLOAT) or (kind == _UNSIGNED and bits > 16):
        raise UnsupportedError("stores its samples as numbers of a kind that is not supported")
    samples = tiff_segments.unpack(data, tags, floating=kind == _FLOAT)
    if photometric == _INDEXED:
        return Raster(_looked_up(samples, tags))
    if photometric == _SEPARATED and samples.dtype.kind == "u" and samples.shape[2] >= 4:
        return flat.raster_of_inks(_full_range(samples[..., :4], bits), tags.content(_ICC))
    if kind == _FLOAT:
        return _with_alpha(samples.astype(np.float32), tags, photometric)
    return _with_alpha(_full_range(samples, bits), tags, photometric)


def _full_range(samples: Pixels, bits: int) -> Pixels:
    """Stretch samples of an odd number of bits over all values of their type."""
    full, top = np.iinfo(samples.dtype).max, 2**bits - 1
    if top == full:
        return samples
    return ((samples.astype(np.uint32) * full + top // 2) // top).astype(samples.dtype)


def _looked_up(samples: Pixels, tags: Tags) -> Pixels:
    """Colours of palette indices."""
    table = np.array(tags.numbers(_PALETTE), np.uint32).reshape(3, -1).T
    if table.max() > 255:
        table = table >> 8
    if samples.shape[2] != 1 or samples.dtype != np.uint8 or samples.max() >= len(table):
        raise MalformedError("is damaged")
    return table.astype(np.uint8)[samples[..., 0]]


def _with_alpha(samples: Pixels, tags: Tags, photometric: int) -> Raster:
    """Split stored samples into colour and alpha; further samples are no part of the picture."""
    colours = 3 if photometric == _RGB else 1
    if samples.shape[2] < colours:
        raise MalformedError("is damaged")
    colour = np.ascontiguousarray(samples[..., :colours])
    if photometric == _WHITE_IS_ZERO and colour.dtype.kind == "u":
        colour = np.iinfo(colour.dtype).max - colour
    extra = tags.number(_EXTRA, 0)
    if samples.shape[2] == colours or extra not in (_ASSOCIATED, _UNASSOCIATED):
        return Raster(colour)
    alpha = np.ascontiguousarray(samples[..., colours])
    return Raster(transparency.unmultiply(colour, alpha) if extra == _ASSOCIATED else colour, alpha)


def _through_opencv(data: bytes) -> Raster:
    """Decode 8-bit grey or colour without a word on standard error (fax above all)."""
    with quiet():
        decoded = cv2.imdecode(np.frombuffer(_as_stored(data), np.uint8), cv2.IMREAD_UNCHANGED)
    samples = np.asarray(decoded)
    if samples.dtype != np.uint8:
        raise MalformedError("is damaged")
    if samples.ndim == 2:
        return Raster(samples[..., None])
    return Raster(np.ascontiguousarray(samples[..., 2::-1]))


def _through_pillow(data: bytes) -> Raster:
    """Decode whatever Pillow can, at 8 bits."""
    with quiet():
        return flat.raster_of(TiffImagePlugin.TiffImageFile(io.BytesIO(_as_stored(data))))


def _as_stored(data: bytes) -> bytes:
    """The same file with an orientation of 1 and an empty XMP packet.

    The libraries would apply either one's orientation to some kinds of pixels only.
    """
    dialect, place = tiff_tags.start(data)
    head, step = (8, 20) if dialect.big else (2, 12)
    count = dialect.number(data, place, "Q" if dialect.big else "H")
    plain = bytearray(data)
    kinds = {_ORIENTATION: tiff_tags.SHORT, _XMP: tiff_tags.UNDEFINED}
    for at in range(place + head, place + head + count * step, step):
        kind = kinds.get(dialect.number(data, at, "H"))
        if kind is not None:
            one = np.array([kind], dialect.order + "u2").tobytes()
            one += np.array([1], dialect.order + f"u{dialect.word_size}").tobytes()
            one += np.array([1], dialect.order + "u2").tobytes()
            plain[at + 2 : at + step] = one.ljust(step - 2, b"\0")
    return bytes(plain)
