"""Pixels of DDS textures: the largest level of the first face, slice or texture.

Blocks are decompressed by Pillow, those of BC6H by imagecodecs, which keeps their floats. Other
pixels are decoded here: Pillow gives up on most layouts, and takes the alpha of a palette away.

Sources: "DDS_HEADER structure", "DDS_PIXELFORMAT structure" and "DXGI_FORMAT enumeration" in
Microsoft's documentation of Direct3D.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

import imagecodecs
import numpy as np
from PIL import Image as PILImage

from upscale.images.codecs.base import MalformedError, Raster, UnsupportedError
from upscale.images.codecs.bit_masks import Masks, from_masks, packed_pixels
from upscale.images.pixels.alpha import unmultiply

_HEAD_BYTES, _EXTENSION_BYTES = 128, 20
_ALPHA_PIXELS, _ALPHA_ONLY, _FOURCC, _PALETTE, _RGB, _LUMINANCE = 1, 2, 4, 0x20, 0x40, 0x20000
_CUBE, _ALL_FACES, _VOLUME = 0x200, 0xFC00, 0x200000
_CUBE_10, _VOLUME_10 = 4, 4
_PREMULTIPLIED, _OPAQUE = 2, 3
_PALETTE_BYTES = 1024

Kind = Literal["straight", "premultiplied", "opaque"]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Pixels in compressed blocks of 4x4.

    Attributes:
        number: Number of the compression: 1 for BC1 to 7 for BC7, -6 for signed floats.
        name: Name of the compression in Pillow.
        mode: Mode of the pixels in Pillow.
        size: Bytes of a block.
    """

    number: int
    name: str
    mode: str
    size: int


@dataclass(frozen=True, slots=True)
class Samples:
    """Pixels of several numbers of one type.

    Attributes:
        kind: Type of the numbers.
        count: Numbers of a pixel: 1 for grey, 2 for red and green, 3 for RGB, 4 with alpha.
    """

    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class Indices:
    """Pixels of one byte that refer to a palette, and perhaps a byte of alpha."""

    has_alpha: bool


Layout = Blocks | Masks | Samples | Indices

_BC1 = Blocks(1, "BC1", "RGBA", 8)
_BC2, _BC3 = Blocks(2, "BC2", "RGBA", 16), Blocks(3, "BC3", "RGBA", 16)
_BC4, _BC5 = Blocks(4, "BC4", "L", 8), Blocks(5, "BC5", "RGB", 16)
_BC5_SIGNED = Blocks(5, "BC5S", "RGB", 16)
_BC6, _BC6_SIGNED = Blocks(6, "BC6H", "RGB", 16), Blocks(-6, "BC6HS", "RGB", 16)
_BC7 = Blocks(7, "BC7", "RGBA", 16)

_RGBA = Masks(32, (0xFF, 0xFF00, 0xFF0000), 0xFF000000)
_BGRA = Masks(32, (0xFF0000, 0xFF00, 0xFF), 0xFF000000)
_BGRX = Masks(32, (0xFF0000, 0xFF00, 0xFF))

_FOURCCS: dict[bytes, Layout] = {
    b"DXT1": _BC1, b"DXT2": _BC2, b"DXT3": _BC2, b"DXT4": _BC3, b"DXT5": _BC3,
    b"ATI1": _BC4, b"BC4U": _BC4, b"ATI2": _BC5, b"BC5U": _BC5, b"BC5S": _BC5_SIGNED,
}  # fmt: skip
_PREMULTIPLIED_FOURCCS = (b"DXT2", b"DXT4")
# Numbers of D3DFORMAT in the place of a FourCC.
_D3D: dict[int, Layout] = {
    36: Samples("<u2", 4), 111: Samples("<f2", 1), 112: Samples("<f2", 2), 113: Samples("<f2", 4),
    114: Samples("<f4", 1), 115: Samples("<f4", 2), 116: Samples("<f4", 4),
}  # fmt: skip
_DXGI: dict[int, Layout] = {
    1: Samples("<f4", 4), 2: Samples("<f4", 4), 5: Samples("<f4", 3), 6: Samples("<f4", 3),
    9: Samples("<f2", 4), 10: Samples("<f2", 4), 11: Samples("<u2", 4),
    15: Samples("<f4", 2), 16: Samples("<f4", 2),
    23: Masks(32, (0x3FF, 0xFFC00, 0x3FF00000), 0xC0000000),
    24: Masks(32, (0x3FF, 0xFFC00, 0x3FF00000), 0xC0000000),
    27: _RGBA, 28: _RGBA, 29: _RGBA,
    33: Samples("<f2", 2), 34: Samples("<f2", 2), 35: Samples("<u2", 2),
    39: Samples("<f4", 1), 41: Samples("<f4", 1),
    48: Samples("<u1", 2), 49: Samples("<u1", 2),
    53: Samples("<f2", 1), 54: Samples("<f2", 1), 56: Samples("<u2", 1),
    60: Samples("<u1", 1), 61: Samples("<u1", 1), 65: Samples("<u1", 1),
    70: _BC1, 71: _BC1, 72: _BC1, 73: _BC2, 74: _BC2, 75: _BC2, 76: _BC3, 77: _BC3, 78: _BC3,
    79: _BC4, 80: _BC4, 82: _BC5, 83: _BC5, 84: _BC5_SIGNED,
    85: Masks(16, (0xF800, 0x7E0, 0x1F)), 86: Masks(16, (0x7C00, 0x3E0, 0x1F), 0x8000),
    87: _BGRA, 88: _BGRX, 90: _BGRA, 91: _BGRA, 92: _BGRX, 93: _BGRX,
    94: _BC6, 95: _BC6, 96: _BC6_SIGNED, 97: _BC7, 98: _BC7, 99: _BC7,
    115: Masks(16, (0xF00, 0xF0, 0xF), 0xF000),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Description:
    """What the header of a texture says.

    Attributes:
        width: Width in pixels.
        height: Height in pixels.
        layout: How pixels are stored.
        alpha: Meaning of alpha.
        start: Position of the pixels.
        notes: Clauses about faces, slices and textures that are not read.
    """

    width: int
    height: int
    layout: Layout
    alpha: Kind
    start: int
    notes: tuple[str, ...]

    @property
    def has_floats(self) -> bool:
        """Whether samples are floats."""
        if isinstance(self.layout, Blocks):
            return abs(self.layout.number) == 6
        return isinstance(self.layout, Samples) and np.dtype(self.layout.kind).kind == "f"


def describe(file: BinaryIO) -> Description:
    """Read the header.

    Args:
        file: The DDS file at its start.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Its layout of pixels is not supported.
    """
    head = file.read(_HEAD_BYTES)
    if len(head) < _HEAD_BYTES:
        raise MalformedError("is cut off")
    size, _, height, width, _, depth = struct.unpack_from("<6I", head, 4)
    if size != _HEAD_BYTES - 4 or 0 in (width, height):
        raise MalformedError("is damaged")
    flags, fourcc = struct.unpack_from("<I4s", head, 80)
    (caps,) = struct.unpack_from("<I", head, 112)
    if not flags & _FOURCC or fourcc != b"DX10":
        alpha: Kind = "premultiplied" if fourcc in _PREMULTIPLIED_FOURCCS else "straight"
        notes = _notes(
            faces=(caps & _ALL_FACES).bit_count() if caps & _CUBE else 1,
            slices=depth if caps & _VOLUME else 1,
        )
        return Description(width, height, _old_layout(head), alpha, _HEAD_BYTES, notes)
    extension = file.read(_EXTENSION_BYTES)
    if len(extension) < _EXTENSION_BYTES:
        raise MalformedError("is cut off")
    number, dimension, misc, textures, mode = struct.unpack("<5I", extension)
    layout = _DXGI.get(number)
    if layout is None:
        raise UnsupportedError(f"stores its pixels in DXGI format {number}, which is not supported")
    kinds: dict[int, Kind] = {_PREMULTIPLIED: "premultiplied", _OPAQUE: "opaque"}
    notes = _notes(
        faces=6 if misc & _CUBE_10 else 1,
        slices=depth if dimension == _VOLUME_10 else 1,
        textures=textures,
    )
    start = _HEAD_BYTES + _EXTENSION_BYTES
    return Description(width, height, layout, kinds.get(mode & 7, "straight"), start, notes)


def decode(file: BinaryIO, texture: Description) -> Raster:
    """Decode the largest level of the first face, slice or texture.

    Args:
        file: The DDS file.
        texture: Its header.

    Raises:
        MalformedError: Damaged or cut off.
    """
    file.seek(texture.start)
    width, height, layout = texture.width, texture.height, texture.layout
    match layout:
        case Blocks():
            raster = _from_blocks(file, width, height, layout)
        case Masks():
            data = _read(file, width * height * layout.bits // 8)
            raster = from_masks(packed_pixels(data, width, height, layout.bits), layout)
        case Samples():
            raster = _from_samples(file, width, height, layout)
        case Indices():
            raster = _from_palette(file, width, height, layout)
    if raster.alpha is None or texture.alpha == "straight":
        return raster
    if texture.alpha == "opaque":
        return replace(raster, alpha=None)
    return replace(raster, pixels=unmultiply(raster.pixels, raster.alpha))


def _notes(faces: int = 1, slices: int = 1, textures: int = 1) -> tuple[str, ...]:
    named = ((textures, "textures"), (faces, "faces"), (slices, "slices"))
    return tuple(
        f"only the first of its {count} {noun} was read" for count, noun in named if count > 1
    )


def _old_layout(head: bytes) -> Layout:
    """Return the layout that a header before Direct3D 10 describes."""
    flags, fourcc, bits, *masks = struct.unpack_from("<I4s6I", head, 80)
    *colour, alpha = masks[:4]
    alpha = alpha if flags & (_ALPHA_PIXELS | _ALPHA_ONLY) else 0
    if flags & _FOURCC:
        layout = _FOURCCS.get(fourcc) or _D3D.get(int.from_bytes(fourcc, "little"))
        if layout is not None:
            return layout
        name = ascii(fourcc.decode("latin-1"))[1:-1]
        raise UnsupportedError(f"stores its pixels in the format {name}, which is not supported")
    if flags & _PALETTE and bits in (8, 16):
        return Indices(has_alpha=bits == 16)
    if flags & _RGB and bits in (8, 16, 24, 32) and any(colour):
        # Without a mask, a channel is missing: red and green remain of two.
        return Masks(bits, tuple(colour), alpha)
    if flags & _LUMINANCE and bits in (8, 16):
        # Pillow writes masks beyond the bits of a pixel.
        grey = colour[0] if 0 < colour[0] < 1 << bits else 0xFF
        return Masks(bits, (grey,), alpha if alpha < 1 << bits else 0xFF00)
    if flags & _ALPHA_ONLY and bits == 8:
        return Samples("<u1", 1)
    raise UnsupportedError("stores its pixels in a way that is not supported")


def _read(file: BinaryIO, length: int) -> bytes:
    content = file.read(length)
    if len(content) < length:
        raise MalformedError("is cut off")
    return content


def _from_blocks(file: BinaryIO, width: int, height: int, layout: Blocks) -> Raster:
    across, down = (width + 3) // 4, (height + 3) // 4
    data = _read(file, across * down * layout.size)
    if abs(layout.number) == 6:
        shape = (down * 4, across * 4, 3)
        floats = np.asarray(imagecodecs.bcn_decode(data, layout.number, shape=shape))
        return Raster(np.ascontiguousarray(floats[:height, :width], np.float32))
    arguments = (abs(layout.number), layout.name)
    pil_image = PILImage.frombytes(layout.mode, (width, height), data, "bcn", *arguments)
    raster = Raster.of(np.array(pil_image))
    # BC1 has no alpha of its own: a texture without transparent pixels is opaque.
    is_opaque = layout.number == 1 and raster.alpha is not None and bool(raster.alpha.all())
    return replace(raster, alpha=None) if is_opaque else raster


def _from_samples(file: BinaryIO, width: int, height: int, layout: Samples) -> Raster:
    kind = np.dtype(layout.kind)
    data = _read(file, width * height * layout.count * kind.itemsize)
    samples = np.frombuffer(data, kind).reshape(height, width, layout.count)
    samples = samples.astype(np.float32 if kind.kind == "f" else kind.newbyteorder("="))
    if layout.count == 2:
        # Red and green, of a normal map for example; blue is missing.
        samples = np.dstack((samples, np.zeros_like(samples[..., :1])))
    return Raster.of(samples)


def _from_palette(file: BinaryIO, width: int, height: int, layout: Indices) -> Raster:
    table = np.frombuffer(_read(file, _PALETTE_BYTES), np.uint8).reshape(-1, 4)
    stored = np.frombuffer(_read(file, width * height * (1 + layout.has_alpha)), np.uint8)
    stored = stored.reshape(height, width, -1)
    raster = Raster.of(table[stored[..., 0]])
    if layout.has_alpha:
        return replace(raster, alpha=np.ascontiguousarray(stored[..., 1]))
    # Many programs leave the fourth byte of a colour 0.
    is_unused = raster.alpha is not None and not raster.alpha.any()
    return replace(raster, alpha=None) if is_unused else raster
