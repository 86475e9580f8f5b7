"""The layouts of pixels in DDS files, and how their headers name them.

Sources: "DDS_HEADER structure" and "DDS_HEADER_DXT10 structure" in Microsoft's documentation of
Direct3D; the numbers are those of `DXGI_FORMAT`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

LAYOUTS = ("bc1", "bc3", "bc4", "bc5", "bc7", "rgba8")
"""Layouts that can be written."""

_MAGIC_AND_HEADER = 128
_CAPS, _HEIGHT, _WIDTH, _PITCH, _PIXEL_FORMAT, _MIPMAPS, _LINEAR_SIZE = (
    0x1, 0x2, 0x4, 0x8, 0x1000, 0x20000, 0x80000,
)  # fmt: skip
_ALPHA, _FOURCC, _RGB = 0x1, 0x4, 0x40
_CAPS_COMPLEX, _CAPS_TEXTURE, _CAPS_MIPMAP = 0x8, 0x1000, 0x400000
_TEXTURE_2D = 3
_ALPHA_UNKNOWN = 0

_FOURCCS = {
    b"DXT1": "bc1", b"DXT2": "bc2", b"DXT3": "bc2", b"DXT4": "bc3", b"DXT5": "bc3",
    b"ATI1": "bc4", b"BC4U": "bc4", b"BC4S": "bc4", b"ATI2": "bc5", b"BC5U": "bc5", b"BC5S": "bc5",
}  # fmt: skip
_WRITTEN_FOURCCS = {"bc1": b"DXT1", "bc3": b"DXT5", "bc4": b"ATI1", "bc5": b"ATI2"}
_DXGI = {
    "bc1": (71, 72), "bc2": (74, 75), "bc3": (77, 78), "bc4": (80, 80), "bc5": (83, 83),
    "bc7": (98, 99), "rgba8": (28, 29),
}  # fmt: skip
_SRGB = frozenset({29, 72, 75, 78, 91, 93, 99})
_NUMBERS = {
    number: layout
    for layout, numbers in {
        "bc1": (70, 71, 72), "bc2": (73, 74, 75), "bc3": (76, 77, 78), "bc4": (79, 80, 81),
        "bc5": (82, 83, 84), "bc7": (97, 98, 99),
    }.items()
    for number in numbers
}  # fmt: skip
_BGRA_MASKS = 0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000


@dataclass(frozen=True, slots=True)
class Texture:
    """How a DDS file stores its pixels.

    Attributes:
        layout: `bc1` to `bc7` for blocks, `rgba8` for four bytes per pixel.
        mipmaps: Whether smaller copies follow the image.
        is_srgb: Whether the layout is marked as sRGB.
        is_direct3d_10: Whether the header is that of Direct3D 10 and later.

    Example:
        >>> Texture("bc7", mipmaps=True, is_direct3d_10=True).layout
        'bc7'
    """

    layout: str
    mipmaps: bool
    is_srgb: bool = False
    is_direct3d_10: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """The encoded bytes of one size of a texture."""

    width: int
    height: int
    content: bytes


def texture_of(file: BinaryIO) -> Texture:
    """Return how a DDS file stores its pixels; unknown layouts count as `rgba8`.

    Args:
        file: The file, at its start.
    """
    head = file.read(_MAGIC_AND_HEADER + 4).ljust(_MAGIC_AND_HEADER + 4, b"\0")
    (count,) = struct.unpack_from("<I", head, 28)
    flags, fourcc, dxgi = *struct.unpack_from("<I4s", head, 80), head[128:]
    if not flags & _FOURCC:
        return Texture("rgba8", count > 1)
    if fourcc != b"DX10":
        return Texture(_FOURCCS.get(fourcc, "rgba8"), count > 1)
    (number,) = struct.unpack("<I", dxgi)
    return Texture(_NUMBERS.get(number, "rgba8"), count > 1, number in _SRGB, True)


def write(texture: Texture, levels: list[Level], target: BinaryIO) -> None:
    """Write a DDS file.

    Layouts without a name before Direct3D 10, and those marked as sRGB, get its header.

    Args:
        texture: How the pixels are stored.
        levels: The image, followed by its mipmaps.
        target: An empty file.
    """
    layout = texture.layout
    extended = texture.is_direct3d_10 or texture.is_srgb or layout == "bc7"
    target.write(_header(levels, layout, b"DX10" if extended else _WRITTEN_FOURCCS.get(layout)))
    if extended:
        number = _DXGI[layout][texture.is_srgb]
        target.write(struct.pack("<5I", number, _TEXTURE_2D, 0, 1, _ALPHA_UNKNOWN))
    for level in levels:
        target.write(level.content if extended or layout != "rgba8" else _bgra(level.content))


def _header(levels: list[Level], layout: str, fourcc: bytes | None) -> bytes:
    """Return the header; without a FourCC, pixels are described as BGRA by masks."""
    base, count = levels[0], len(levels)
    flags = _CAPS | _HEIGHT | _WIDTH | _PIXEL_FORMAT | (_MIPMAPS if count > 1 else 0)
    flags |= _PITCH if layout == "rgba8" else _LINEAR_SIZE
    pitch = base.width * 4 if layout == "rgba8" else len(base.content)
    caps = _CAPS_TEXTURE | ((_CAPS_COMPLEX | _CAPS_MIPMAP) if count > 1 else 0)
    if fourcc is None:
        pixel_format = struct.pack("<II4s5I", 32, _RGB | _ALPHA, b"", 32, *_BGRA_MASKS)
    else:
        pixel_format = struct.pack("<II4s5I", 32, _FOURCC, fourcc, 0, 0, 0, 0, 0)
    return (
        b"DDS "
        + struct.pack("<7I", 124, flags, base.height, base.width, pitch, 0, count)
        + bytes(44)
        + pixel_format
        + struct.pack("<5I", caps, 0, 0, 0, 0)
    )


def _bgra(content: bytes) -> bytes:
    """Exchange the first and the third byte of each pixel."""
    swapped = bytearray(content)
    swapped[0::4], swapped[2::4] = content[2::4], content[0::4]
    return bytes(swapped)
