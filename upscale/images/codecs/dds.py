"""DDS textures; see `dds_pixels` for their pixels."""

from __future__ import annotations

from typing import BinaryIO

from upscale.images.codecs import dds_pixels
from upscale.images.codecs.base import Header, Raster
from upscale.images.codecs.registry import Codec, register, starts_with


def read_header(file: BinaryIO) -> Header:
    """Read the size, and what the file holds besides the image that is read.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Its layout of pixels is not supported.
    """
    texture = dds_pixels.describe(file)
    return Header(texture.width, texture.height, notes=texture.notes)


def decode(file: BinaryIO) -> Raster:
    """Decode the largest level of the first face, slice or texture.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Its layout of pixels is not supported.
    """
    return dds_pixels.decode(file, dds_pixels.describe(file))


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
