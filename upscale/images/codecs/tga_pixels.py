"""Pixels of Targa images of every kind and origin.

Pillow takes the attribute bit of 16 bits for alpha where the header says that there is none, and
gives up on packets of repeated pixels that go over the end of a row. Of 32 bits, the fourth byte is
alpha whatever the header says, as in other readers: many programs write alpha without saying so.

Source: "Truevision TGA File Format Specification", version 2.0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np

from upscale.images.codecs.base import MalformedError, Raster, UnsupportedError
from upscale.images.image import Pixels
from upscale.images.pixels.alpha import unmultiply
from upscale.images.pixels.depth import scaled

_HEAD, _HEAD_BYTES = "<BBBHHBHHHHBB", 18
_PALETTE, _COLOUR, _GREY, _PACKED = 1, 2, 3, 8
_RIGHT_TO_LEFT, _TOP_TO_BOTTOM, _INTERLEAVED = 0x10, 0x20, 0xC0
_REPEATED, _MAX_RUN = 0x80, 0x7F
_SIGNATURE, _FOOTER_BYTES, _ALPHA_TYPE = b"TRUEVISION-XFILE.\0", 26, 494
_DEPTHS = {_PALETTE: (8, 16), _COLOUR: (15, 16, 24, 32), _GREY: (8, 16)}

AlphaKind = Literal["none", "straight", "premultiplied"]
_ALPHA_KINDS: dict[int, AlphaKind] = {0: "none", 1: "none", 4: "premultiplied"}


@dataclass(frozen=True, slots=True)
class Head:
    """The header of a file.

    Attributes:
        kind: Kind of the pixels: 1 refers to a palette, 2 is colour, 3 is grey.
        is_packed: Whether repeated pixels are stored once.
        width: Width in pixels.
        height: Height in pixels.
        bits: Bits of a pixel.
        flags: Descriptor: attribute bits and origin.
        palette: First number, count and bits of the colours of the palette.
        start: Position of the palette, or of the pixels.
    """

    kind: int
    is_packed: bool
    width: int
    height: int
    bits: int
    flags: int
    palette: tuple[int, int, int]
    start: int

    @property
    def has_attributes(self) -> bool:
        """Whether pixels have attribute bits; 32 bits always have, stated or not."""
        colour_bits = self.palette[2] if self.kind == _PALETTE else self.bits
        return self.flags & 15 > 0 or colour_bits == 32


def read_head(file: BinaryIO) -> Head:
    """Read the header.

    Args:
        file: The file at its start.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Its pixels are interleaved.
    """
    data = file.read(_HEAD_BYTES)
    if len(data) < _HEAD_BYTES:
        raise MalformedError("is cut off")
    numbers = struct.unpack(_HEAD, data)
    name_bytes, _, kind, first, count, colour_bits, _, _, width, height, bits, flags = numbers
    plain = kind & ~_PACKED
    if bits not in _DEPTHS.get(plain, ()) or 0 in (width, height):
        raise MalformedError("is damaged")
    if flags & _INTERLEAVED:
        raise UnsupportedError("has interleaved rows, which is not supported")
    palette = first, count, colour_bits
    start = _HEAD_BYTES + name_bytes
    return Head(plain, bool(kind & _PACKED), width, height, bits, flags, palette, start)


def decode(file: BinaryIO) -> Raster:
    """Decode the image.

    Alpha that hides everything is unused and is left out, as is alpha that the header or the
    footer denies.

    Args:
        file: The file at its start.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Its pixels are interleaved.
    """
    head = read_head(file)
    alpha_kind = _alpha_kind(file, head)
    file.seek(head.start)
    _, count, colour_bits = head.palette
    colours = file.read(count * _bytes_of(colour_bits))
    pixels = _pixels(file, head)
    samples = _from_palette(pixels, colours, head) if head.kind == _PALETTE else _samples(
        pixels, head.bits, is_grey=head.kind == _GREY
    )  # fmt: skip
    if not head.flags & _TOP_TO_BOTTOM:
        samples = samples[::-1]
    if head.flags & _RIGHT_TO_LEFT:
        samples = samples[:, ::-1]
    raster = Raster.of(np.ascontiguousarray(samples))
    if raster.alpha is None:
        return raster
    if alpha_kind == "none" or not raster.alpha.any():
        return Raster(raster.pixels)
    if alpha_kind == "premultiplied":
        return Raster(unmultiply(raster.pixels, raster.alpha), raster.alpha)
    return raster


def _alpha_kind(file: BinaryIO, head: Head) -> AlphaKind:
    """Return what the attribute bits mean, by the footer of version 2 and by the header."""
    end = file.seek(0, 2)
    file.seek(max(0, end - _FOOTER_BYTES))
    footer = file.read(_FOOTER_BYTES)
    kind: AlphaKind = "straight"
    if len(footer) == _FOOTER_BYTES and footer.endswith(_SIGNATURE):
        (start,) = struct.unpack_from("<I", footer)
        file.seek(start + _ALPHA_TYPE)
        if 0 < start < end and (number := file.read(1)):
            kind = _ALPHA_KINDS.get(number[0], "straight")
    return kind if head.has_attributes else "none"


def _bytes_of(bits: int) -> int:
    return (bits + 7) // 8


def _pixels(file: BinaryIO, head: Head) -> Pixels:
    """Return stored pixels as bytes, of shape (H, W, bytes of a pixel)."""
    step = _bytes_of(head.bits)
    length = head.width * head.height * step
    data = _unpacked(file.read(), step, length) if head.is_packed else file.read(length)
    if len(data) < length:
        raise MalformedError("is cut off")
    return np.frombuffer(data, np.uint8, length).reshape(head.height, head.width, step)


def _unpacked(data: bytes, step: int, length: int) -> bytearray:
    """Return packets of repeated and of single pixels as plain pixels; rows do not matter."""
    plain, position = bytearray(), 0
    while len(plain) < length and position < len(data):
        head = data[position]
        count = (head & _MAX_RUN) + 1
        is_repeated = bool(head & _REPEATED)
        end = position + 1 + step * (1 if is_repeated else count)
        plain += data[position + 1 : end] * (count if is_repeated and end <= len(data) else 1)
        position = end
    return plain


def _from_palette(pixels: Pixels, colours: bytes, head: Head) -> Pixels:
    first, count, bits = head.palette
    if not count or bits not in _DEPTHS[_COLOUR] or len(colours) < count * _bytes_of(bits):
        raise MalformedError("is damaged")
    stored = np.frombuffer(colours, np.uint8).reshape(1, count, -1)
    table = _samples(stored, bits, is_grey=False)[0]
    indices = pixels.astype(np.int32) @ np.array([1, 256][: pixels.shape[2]], np.int32) - first
    if indices.min() < 0 or indices.max() >= count:
        raise MalformedError("is damaged")
    return table[indices]


def _samples(stored: Pixels, bits: int, *, is_grey: bool) -> Pixels:
    """Return samples of shape (H, W, 1 to 4); the last of 2 or 4 is the attribute."""
    if is_grey:
        return stored
    if bits > 16:
        return stored[..., [2, 1, 0, 3] if bits == 32 else [2, 1, 0]]
    packed = stored[..., 0] | stored[..., 1].astype(np.uint16) << 8
    five = [scaled(packed >> shift & 31, 31, np.dtype(np.uint8)) for shift in (10, 5, 0)]
    if bits == 16:
        five.append((packed >> 15).astype(np.uint8) * np.uint8(255))
    return np.stack(five, axis=2)
