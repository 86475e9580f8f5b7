"""Photoshop documents (PSD and PSB): the merged image, at 1 to 32 bits per sample.

Pillow reads 8 bits only and takes every further channel for transparency. A further channel is
transparency only where the number of layers is negative, or a block says so; otherwise it is a
saved selection. The merged colours of transparent pixels are blended with white, which is undone
here as in psd-tools and ImageMagick.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import imagecodecs
import numpy as np

from upscale.images.codecs import pillow
from upscale.images.codecs.base import Header, MalformedError, Raster, UnsupportedError
from upscale.images.codecs.registry import Codec, register, starts_with
from upscale.images.image import Metadata, Pixels
from upscale.images.metadata import exif, photoshop, xmp
from upscale.images.metadata.fields import Resource
from upscale.images.pixels.depth import full_scale

_PSD, _PSB = b"8BPS\0\1", b"8BPS\0\2"
_RESOLUTION, _IPTC, _ICC, _VERSION, _EXIF, _XMP = 1005, 1028, 1039, 1057, 1058, 1060
_BITMAP, _GREY, _INDEXED, _RGB, _CMYK, _DUOTONE, _LAB = 0, 1, 2, 3, 4, 8, 9
_COLOURS = {_BITMAP: 1, _GREY: 1, _INDEXED: 1, _RGB: 3, _CMYK: 4, _DUOTONE: 1, _LAB: 3}
_DEPTHS = {8: np.dtype(np.uint8), 16: np.dtype(">u2"), 32: np.dtype(">f4")}
_RAW, _PACKBITS, _DEFLATE, _DEFLATE_DIFFERENCES = 0, 1, 2, 3
# Blocks whose length has 64 bits in PSB files.
_LONG_BLOCKS = (
    *(b"LMsk", b"Lr16", b"Lr32", b"Layr", b"Mt16", b"Mt32", b"Mtrn", b"Alph"),
    *(b"FMsk", b"lnk2", b"FEid", b"FXid", b"PxSD", b"cinf", b"lnkE", b"lnkD"),
)
_DEEP_LAYERS = (b"Lr16", b"Lr32", b"Layr")
_TRANSPARENCY = (b"Mtrn", b"Mt16", b"Mt32")
_MAX_CHANNELS = 56


@dataclass(slots=True)
class _Document:
    """Everything before the pixels of the merged image, which begin at byte `start`."""

    is_big: bool
    channels: int
    height: int
    width: int
    bits: int
    mode: int
    palette: bytes = b""
    resources: dict[int, bytes] = field(default_factory=dict[int, bytes])
    layers: int = 0
    has_transparency: bool = False
    start: int = 0

    @property
    def has_alpha(self) -> bool:
        return (
            self.has_transparency and self.channels > _COLOURS[self.mode] and self.mode != _INDEXED
        )

    @property
    def row_bytes(self) -> int:
        return (self.width * self.bits + 7) // 8


def read_header(file: BinaryIO) -> Header:
    """Read size and metadata.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: It has no merged image, or stores its colours as separate inks.
    """
    document = _read(file)
    resources = document.resources
    known = [Resource(number, b"", content) for number, content in resources.items()]
    metadata = Metadata(
        icc=resources.get(_ICC) or None,
        # The canvas is stored upright.
        exif=exif.reset_orientation(exif.without_prefix(resources.get(_EXIF))),
        xmp=xmp.reset_orientation(resources.get(_XMP)),
        iptc=resources.get(_IPTC) or None,
        dpi=_dpi(resources.get(_RESOLUTION, b"")),
        photoshop=photoshop.kept(known),
        density_ratio=photoshop.density_ratio(known),
    )
    notes = ("its layers were left out",) if document.layers else ()
    return Header(
        document.width,
        document.height,
        metadata=metadata,
        notes=notes,
        has_floats=document.bits == 32,
    )


def decode(file: BinaryIO) -> Raster:
    """Decode the merged image.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: It has no merged image, or stores its colours as separate inks.
    """
    document = _read(file)
    colours = _COLOURS[document.mode]
    file.seek(document.start)
    planes = _planes(file, document, colours + document.has_alpha)
    samples = _samples(planes, document)
    colour = np.ascontiguousarray(samples[..., :colours])
    alpha = np.ascontiguousarray(samples[..., colours]) if document.has_alpha else None
    if alpha is not None:
        white = (1.0, 0.5, 0.5) if document.mode == _LAB else (1.0,) * colours
        colour = _without_background(colour, alpha, white)
    return _raster(colour, alpha, document)


def _read(file: BinaryIO) -> _Document:
    """Read the sections before the pixels."""
    file.seek(0)
    start = _exactly(file, 26)
    numbers = struct.unpack(">HIIHH", start[12:])
    document = _Document(start.startswith(_PSB), *numbers)
    if document.mode not in _COLOURS:
        raise UnsupportedError("stores its colours as separate inks (multichannel)")
    is_bitmap = document.mode == _BITMAP
    if 0 in (document.width, document.height) or document.channels < _COLOURS[document.mode]:
        raise MalformedError("is damaged")
    if document.channels > _MAX_CHANNELS or is_bitmap != (document.bits == 1):
        raise MalformedError("is damaged")
    if not is_bitmap and document.bits not in _DEPTHS:
        raise MalformedError("is damaged")
    document.palette = _exactly(file, _number(file, 4))
    document.resources = dict(_resources(_exactly(file, _number(file, 4))))
    length = _number(file, 8 if document.is_big else 4)
    end = file.tell() + length
    if length:
        _read_layers(file, document, end)
    document.start = end
    if document.resources.get(_VERSION, b"\0\0\0\1\1")[4:5] == b"\0":
        raise UnsupportedError(
            "has no merged image",
            "save it in Photoshop with Maximize Compatibility, or export it as PNG or TIFF",
        )
    return document


def _resources(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of the image resources."""
    position = 0
    while position + 12 <= len(data):
        (number,) = struct.unpack_from(">H", data, position + 4)
        # The name is padded to an even length, with the byte that states it.
        position += 6 + (data[position + 6] + 2) // 2 * 2
        if position + 4 > len(data):
            return
        (length,) = struct.unpack_from(">I", data, position)
        yield number, data[position + 4 : position + 4 + length]
        position += 4 + (length + 1) // 2 * 2


def _read_layers(file: BinaryIO, document: _Document, end: int) -> None:
    """Read the number of layers, and whether the merged image has transparency.

    Documents of 16 and 32 bits keep their layers in a block behind the global mask, where another
    block without content says that there is transparency.
    """
    start = file.tell()
    length = _number(file, 8 if document.is_big else 4)
    if length >= 2:
        document.layers = struct.unpack(">h", _exactly(file, 2))[0]
        document.has_transparency = document.layers < 0
    file.seek(start + (8 if document.is_big else 4) + length)
    if file.tell() + 4 > end:
        return
    file.seek(_number(file, 4), 1)
    while file.tell() + 12 <= end:
        key = _exactly(file, 8)[4:]
        length = _number(file, 8 if document.is_big and key in _LONG_BLOCKS else 4)
        next_block = file.tell() + (length + 3) // 4 * 4
        if key in _DEEP_LAYERS and length >= 2:
            document.layers = struct.unpack(">h", _exactly(file, 2))[0]
        if key in _TRANSPARENCY or document.layers < 0:
            document.has_transparency = True
        file.seek(next_block)


def _planes(file: BinaryIO, document: _Document, count: int) -> list[bytes]:
    """Return the rows of the first channels, decompressed."""
    compression = _number(file, 2)
    size = document.row_bytes * document.height
    if compression == _RAW:
        return [_exactly(file, size) for _ in range(count)]
    if compression == _PACKBITS:
        return _packbits_planes(file, document, count)
    if compression == _DEFLATE or (compression == _DEFLATE_DIFFERENCES and document.bits < 32):
        plain = zlib.decompressobj().decompress(file.read(), size * document.channels)
        if len(plain) < size * count:
            raise MalformedError("is cut off")
        planes = [plain[size * number : size * (number + 1)] for number in range(count)]
        if compression == _DEFLATE:
            return planes
        return [_summed(plane, document) for plane in planes]
    raise UnsupportedError("is compressed in a way that is not supported")


def _packbits_planes(file: BinaryIO, document: _Document, count: int) -> list[bytes]:
    """Return channels whose rows are compressed one by one; their lengths come first."""
    rows = document.height
    kind = np.dtype(">u4" if document.is_big else ">u2")
    table = _exactly(file, kind.itemsize * rows * document.channels)
    lengths = np.frombuffer(table, kind).reshape(document.channels, rows)
    planes: list[bytes] = []
    for row_lengths in lengths[:count].tolist():
        plane = b"".join(imagecodecs.packbits_decode(_exactly(file, n)) for n in row_lengths)
        if len(plane) != document.row_bytes * rows:
            raise MalformedError("is damaged")
        planes.append(plane)
    return planes


def _summed(plane: bytes, document: _Document) -> bytes:
    """Undo the differences between neighbours in the rows of a channel."""
    kind = _DEPTHS[document.bits]
    rows = np.frombuffer(plane, kind).reshape(document.height, document.width)
    return np.cumsum(rows, axis=1, dtype=kind.newbyteorder("=")).astype(kind).tobytes()


def _samples(planes: list[bytes], document: _Document) -> Pixels:
    """Return channels as an array of shape (H, W, C)."""
    height, width = document.height, document.width
    if document.mode == _BITMAP:
        bits = np.unpackbits(np.frombuffer(planes[0], np.uint8).reshape(height, -1), axis=1)
        return (1 - bits[:, :width, None]) * np.uint8(255)
    kind = _DEPTHS[document.bits]
    arrays = [np.frombuffer(plane, kind).reshape(height, width) for plane in planes]
    return np.stack(arrays, axis=2).astype(kind.newbyteorder("="))


def _without_background(colour: Pixels, alpha: Pixels, white: tuple[float, ...]) -> Pixels:
    """Undo the blending of half-transparent pixels with white."""
    full = full_scale(alpha.dtype)
    soft = (alpha > 0) & (alpha < full)
    opacity = alpha[soft].astype(np.float64)[:, None] / full
    background = np.rint(np.array(white) * full) if full > 1 else np.array(white)
    plain = (colour[soft] - (1 - opacity) * background) / opacity
    if colour.dtype.kind == "u":
        plain = np.rint(plain).clip(0, full)
    result = colour.copy()
    result[soft] = plain.astype(colour.dtype)
    return result


def _raster(colour: Pixels, alpha: Pixels | None, document: _Document) -> Raster:
    """Convert samples of any mode to grey or RGB."""
    full = full_scale(colour.dtype)
    if document.mode == _INDEXED:
        if len(document.palette) < 768 or colour.dtype != np.uint8:
            raise MalformedError("is damaged")
        # All reds come first, then all greens and blues.
        table = np.frombuffer(document.palette[:768], np.uint8).reshape(3, 256).T
        return Raster(np.ascontiguousarray(table[colour[..., 0]]))
    if document.mode == _CMYK:
        if colour.dtype.kind == "f":
            raise UnsupportedError("stores its samples as a type of numbers that is not supported")
        # Samples are stored as paper rather than ink.
        ink = colour.dtype.type(full) - colour
        return replace(
            pillow.raster_of_cmyk(ink, document.resources.get(_ICC)),
            alpha=alpha,
        )
    if document.mode == _LAB:
        if colour.dtype.kind == "f":
            raise UnsupportedError("stores its samples as a type of numbers that is not supported")
        levels = colour.astype(np.float32) * np.float32(255 / full)
        lab = pillow.raster_of_lab(levels[..., 0] * np.float32(100 / 255), levels[..., 1:] - 128)
        if alpha is not None and alpha.dtype == np.uint8:
            alpha = alpha.astype(np.uint16) * np.uint16(257)
        return replace(lab, alpha=alpha)
    return Raster(colour, alpha)


def _dpi(resolution: bytes) -> tuple[float, float] | None:
    """Return pixels per inch, in fixed point numbers whatever the unit for display is."""
    if len(resolution) < 12:
        return None
    across, down = struct.unpack(">I4xI", resolution[:12])
    return (across / 65536, down / 65536) if across and down else None


def _number(file: BinaryIO, size: int) -> int:
    return int.from_bytes(_exactly(file, size), "big")


def _exactly(file: BinaryIO, length: int) -> bytes:
    content = file.read(length)
    if len(content) < length:
        raise MalformedError("is cut off")
    return content


register(
    Codec(
        name="psd",
        label="Photoshop",
        suffixes=("psd", "psb"),
        sniff=starts_with(_PSD, _PSB),
        read_header=read_header,
        decode=decode,
    )
)
