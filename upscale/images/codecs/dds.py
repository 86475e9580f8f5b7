"""DDS textures of 8 bits per sample: the largest level, read through Pillow."""

from __future__ import annotations

import struct
from typing import BinaryIO

from PIL import DdsImagePlugin

from upscale.images.codecs import pillow
from upscale.images.codecs.base import Header, Raster, UnsupportedError
from upscale.images.codecs.registry import Codec, register, starts_with

_FORMAT_POSITION = 128
_FLOAT_FORMATS = range(94, 97)


def read_header(file: BinaryIO) -> Header:
    """Read the size.

    Raises:
        UnsupportedError: It stores floats.
    """
    file.seek(_FORMAT_POSITION)
    if struct.unpack("<I", file.read(4).ljust(4, b"\0"))[0] in _FLOAT_FORMATS:
        raise UnsupportedError("stores floats")
    file.seek(0)
    return Header(*DdsImagePlugin.DdsImageFile(file).size)


def decode(file: BinaryIO) -> Raster:
    """Decode the largest level."""
    return pillow.raster_of(DdsImagePlugin.DdsImageFile(file))


register(
    Codec(
        name="dds",
        label="DDS",
        suffixes=("dds",),
        sniff=starts_with(b"DDS "),
        read_header=read_header,
        decode=decode,
    )
)
