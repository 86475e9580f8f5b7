"""PNG: its chunks are read and written here, its pixels by OpenCV (16 bits) and Pillow (8 bits).

Pillow cuts 16 bits to 8 without a word, OpenCV drops transparent colours and prints what it thinks
of ancillary chunks, and neither notices every damage. So both get only chunks that were verified.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import PngImagePlugin

from upscale.pictures import exif, flat
from upscale.pictures.decoded import Header, MalformedError, Raster
from upscale.pictures.picture import Metadata, Picture, Pixels
from upscale.pictures.quiet import quiet

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_SAMPLES = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
_DEPTHS = {
    _GREY: (1, 2, 4, 8, 16),
    _RGB: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    _GREY_ALPHA: (8, 16),
    _RGBA: (8, 16),
}
_MAX_METADATA_BYTES = 64 * 1024 * 1024
_XMP_KEY = b"XML:com.adobe.xmp"
_METRES_PER_INCH = 0.0254
# The passes of Adam7: first column, first row, step across, step down.
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_BAND_BYTES = 4 * 1024 * 1024
_HEADER_END = 33
_FLAT_LEVEL = 4
_DEEP_LEVEL = 4


@dataclass(frozen=True, slots=True)
class _Layout:
    """The fields of an IHDR chunk."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    def rows(self) -> Iterator[tuple[int, int]]:
        """Rows and bytes a row (with the filter byte) of each pass that is not empty."""
        bits = self.depth * _SAMPLES[self.colour]
        passes = _PASSES if self.interlaced else ((0, 0, 1, 1),)
        for left, top, across, down in passes:
            width = (self.width - left + across - 1) // across
            height = (self.height - top + down - 1) // down
            if width > 0 and height > 0:
                yield height, (width * bits + 7) // 8 + 1


def read_header(data: bytes) -> Header:
    """Size, orientation and metadata; walks over all chunks, decodes none.

    Raises:
        MalformedError: Damaged or cut off.
    """
    layout = _layout(data)
    metadata, frames = Metadata(), 1
    for kind, body in _chunks(data):
        if kind == b"acTL" and len(body) >= 8:
            frames = max(1, int.from_bytes(body[:4], "big"))
        metadata = _with_chunk(metadata, kind, body)
    turned = exif.orientation_of(metadata.exif)
    return Header(layout.width, layout.height, turned, frames, metadata)


def decode(data: bytes) -> Raster:
    """Decode the picture; of an animation, its default picture.

    Raises:
        MalformedError: Damaged or cut off.
    """
    layout = _layout(data)
    _check_scanlines(data, layout)
    key = next((body for kind, body in _chunks(data) if kind == b"tRNS"), None)
    if layout.depth == 16:
        raster = _decode_deep(data, layout)
    else:
        kept = (b"PLTE", b"tRNS") if layout.colour == _PALETTE else (b"PLTE",)
        raster = flat.raster_of(PngImagePlugin.PngImageFile(io.BytesIO(_bare(data, kept))))
    if key is None or layout.colour not in (_GREY, _RGB):
        return raster
    return replace(raster, alpha=_alpha_of_key(raster.pixels, key, layout.depth))


def encode(picture: Picture) -> bytes:
    """Encode uint8 or uint16 pixels, with their alpha and metadata."""
    if picture.pixels.dtype == np.uint16:
        plain = _encode_deep(picture.pixels, picture.alpha)
    else:
        target = io.BytesIO()
        flat.image_of(picture).save(target, "PNG", compress_level=_FLAT_LEVEL)
        plain = target.getvalue()
    return plain[:_HEADER_END] + _metadata_chunks(picture.metadata) + plain[_HEADER_END:]


def _layout(data: bytes) -> _Layout:
    """Parse IHDR, which must come first."""
    if len(data) < _HEADER_END:
        raise MalformedError("is cut off")
    kind, body = next(_chunks(data))
    if kind != b"IHDR" or len(body) != 13:
        raise MalformedError("is damaged")
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", body)
    if depth not in _DEPTHS.get(colour, ()) or not (width and height):
        raise MalformedError("is damaged")
    return _Layout(width, height, depth, colour, bool(interlace))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk up to the end; damaged ancillary chunks are passed over."""
    view, place = memoryview(data), len(_SIGNATURE)
    while place + 12 <= len(data):
        length = int.from_bytes(view[place : place + 4], "big")
        end = place + 12 + length
        if end > len(data):
            break
        kind = bytes(view[place + 4 : place + 8])
        intact = zlib.crc32(view[place + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")
        if intact:
            yield kind, data[place + 8 : end - 4]
        elif kind[:1].isupper():
            raise MalformedError("is damaged (a checksum does not match)")
        if kind == b"IEND":
            return
        place = end
    raise MalformedError("is cut off")


def _bare(data: bytes, kept: tuple[bytes, ...]) -> bytes:
    """The same file with only the chunks that its pixels need."""
    wanted = (b"IHDR", b"IDAT", b"IEND", *kept)
    return _SIGNATURE + b"".join(
        _chunk(kind, body) for kind, body in _chunks(data) if kind in wanted
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk as it stands in a file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _alpha_of_key(pixels: Pixels, key: bytes, depth: int) -> Pixels | None:
    """Alpha (H, W) that makes the one colour of a tRNS chunk transparent."""
    full = np.iinfo(pixels.dtype).max
    channels = pixels.shape[2]
    if len(key) != 2 * channels:
        return None
    colour = [value * full // (2**depth - 1) for value in struct.unpack(f">{channels}H", key)]
    hidden = (pixels == np.array(colour, np.int64)).all(axis=2)
    return np.where(hidden, 0, full).astype(pixels.dtype)


def _decode_deep(data: bytes, layout: _Layout) -> Raster:
    """Decode 16 bits a sample."""
    with quiet():
        decoded = cv2.imdecode(np.frombuffer(_bare(data, ()), np.uint8), cv2.IMREAD_UNCHANGED)
    samples = np.asarray(decoded)
    if samples.dtype != np.uint16 or samples.shape[:2] != (layout.height, layout.width):
        raise MalformedError("is damaged")
    samples = samples.reshape(layout.height, layout.width, -1)
    alpha = np.ascontiguousarray(samples[..., 3]) if samples.shape[2] == 4 else None
    if layout.colour in (_GREY, _GREY_ALPHA):
        return Raster(np.ascontiguousarray(samples[..., :1]), alpha)
    return Raster(np.ascontiguousarray(samples[..., 2::-1]), alpha)


def _check_scanlines(data: bytes, layout: _Layout) -> None:
    """Inflate the pixels once to see that they are all there and make sense.

    Pillow leaves missing rows black without a word, and OpenCV prints.
    """
    passes = tuple(layout.rows())
    expected = sum(rows * size for rows, size in passes)
    found = 0
    filters = _filter_places(passes)
    place = next(filters)
    for band in _inflated(data):
        while place < found + len(band):
            if band[place - found] > 4:
                raise MalformedError("is damaged")
            place = next(filters, expected + _BAND_BYTES)
        found += len(band)
        if found >= expected:
            return
    raise MalformedError("is cut off")


def _filter_places(passes: tuple[tuple[int, int], ...]) -> Iterator[int]:
    """Offsets of the filter bytes, one before each row."""
    place = 0
    for rows, size in passes:
        yield from range(place, place + rows * size, size)
        place += rows * size


def _inflated(data: bytes) -> Iterator[bytes]:
    """The inflated content of the IDAT chunks, a few megabytes at a time."""
    inflater = zlib.decompressobj()
    for kind, body in _chunks(data):
        rest = body if kind == b"IDAT" else b""
        while rest:
            try:
                yield inflater.decompress(rest, _BAND_BYTES)
            except zlib.error as error:
                raise MalformedError("is damaged") from error
            rest = inflater.unconsumed_tail


def _encode_deep(pixels: Pixels, alpha: Pixels | None) -> bytes:
    """Encode uint16 samples; OpenCV could not keep grey with alpha."""
    samples = pixels if alpha is None else np.dstack((pixels, alpha))
    height, width, channels = samples.shape
    colour = {1: _GREY, 2: _GREY_ALPHA, 3: _RGB, 4: _RGBA}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    packer = zlib.compressobj(_DEEP_LEVEL, strategy=zlib.Z_FILTERED)
    parts = [_SIGNATURE, _chunk(b"IHDR", header)]
    rows = max(1, _BAND_BYTES // (width * channels * 2))
    for top in range(0, height, rows):
        above = samples[top - 1] if top else np.zeros_like(samples[0])
        band = np.concatenate((above[None], samples[top : top + rows])).astype(">u2")
        packed = packer.compress(
            _filtered(band.view(np.uint8).reshape(len(band), -1), channels * 2)
        )
        if packed:
            parts.append(_chunk(b"IDAT", packed))
    parts += [_chunk(b"IDAT", packer.flush()), _chunk(b"IEND", b"")]
    return b"".join(parts)


def _filtered(rows: NDArray[np.uint8], step: int) -> bytes:
    """Filter the rows after the first, each with the filter that leaves the smallest bytes.

    Args:
        rows: (1 + R, B), the row above first.
        step: Bytes a pixel.
    """
    up, here = rows[:-1], rows[1:]
    left, corner = (np.pad(plane, ((0, 0), (step, 0)))[:, : here.shape[1]] for plane in (here, up))
    guesses = (left, up, _paeth(left, up, corner))
    choices = np.stack([here - guess for guess in guesses])
    cost = np.abs(choices.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    best = cost.argmin(axis=0)
    chosen = choices[best, np.arange(len(here))]
    kinds = np.array([1, 2, 4], np.uint8)[best]
    return np.concatenate((kinds[:, None], chosen), axis=1).tobytes()


def _paeth(
    left: NDArray[np.uint8], up: NDArray[np.uint8], corner: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """PNG's predictor: of three neighbours, the one nearest to left + up - corner."""
    a, b, c = (plane.astype(np.int16) for plane in (left, up, corner))
    far_a, far_b, far_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    use_a = (far_a <= far_b) & (far_a <= far_c)
    return np.where(use_a, left, np.where(far_b <= far_c, up, corner))


def _with_chunk(metadata: Metadata, kind: bytes, body: bytes) -> Metadata:
    """Add what one chunk says; a chunk that cannot be read says nothing."""
    try:
        if kind == b"iCCP":
            return replace(metadata, icc=_inflate(body.partition(b"\0")[2][1:]))
        if kind == b"eXIf":
            return replace(metadata, exif=exif.without_prefix(body))
        if kind == b"pHYs" and body[8:9] == b"\1":
            return replace(metadata, dpi=_dpi(body))
        return _with_text(metadata, kind, body)
    except (ValueError, IndexError, zlib.error):
        return metadata


def _dpi(body: bytes) -> tuple[float, float] | None:
    """Pixels per inch from a pHYs chunk in metres."""
    across, down = struct.unpack(">II", body[:8])
    return (across * _METRES_PER_INCH, down * _METRES_PER_INCH) if across and down else None


def _with_text(metadata: Metadata, kind: bytes, body: bytes) -> Metadata:
    """Add the XMP packet or raw profile that a text chunk may be."""
    if kind in (b"tEXt", b"zTXt"):
        return _with_raw_profile(metadata, kind, body)
    key, _, rest = body.partition(b"\0") if kind == b"iTXt" else (b"", b"", b"")
    if key != _XMP_KEY or len(rest) < 2:
        return metadata
    text = rest[2:].split(b"\0", 2)[2]
    return replace(metadata, xmp=_inflate(text) if rest[0] else text)


def _with_raw_profile(metadata: Metadata, kind: bytes, body: bytes) -> Metadata:
    """Add EXIF or XMP that ImageMagick wrote as hexadecimal text."""
    key, _, text = body.partition(b"\0")
    if not key.startswith(b"Raw profile type "):
        return metadata
    text = _inflate(text[1:]) if kind == b"zTXt" else text
    _, length, *lines = text.split()
    # Some writers leave rubbish behind the digits.
    block = bytes.fromhex(b"".join(lines)[: 2 * int(length)].decode("ascii"))
    name = key.rpartition(b" ")[2]
    if name == b"xmp":
        return replace(metadata, xmp=metadata.xmp or block)
    if name == b"exif" or (name == b"APP1" and block.startswith(b"Exif")):
        return replace(metadata, exif=metadata.exif or exif.without_prefix(block))
    return metadata


def _inflate(packed: bytes) -> bytes:
    """Inflate metadata, refusing what would fill the memory."""
    inflater = zlib.decompressobj()
    plain = inflater.decompress(packed, _MAX_METADATA_BYTES)
    if inflater.unconsumed_tail or not inflater.eof:
        raise ValueError("too large or cut off")
    return plain


def _metadata_chunks(metadata: Metadata) -> bytes:
    """The chunks that carry the metadata, to stand right after IHDR."""
    parts: list[bytes] = []
    if metadata.icc:
        parts.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.exif:
        parts.append(_chunk(b"eXIf", metadata.exif))
    if metadata.xmp:
        parts.append(_chunk(b"iTXt", _XMP_KEY + b"\0\0\0\0\0" + metadata.xmp))
    if metadata.dpi:
        across, down = (min(round(value / _METRES_PER_INCH), 2**31 - 1) for value in metadata.dpi)
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))
    return b"".join(parts)
