"""DDS textures of 8 bits per sample: the largest level, read through Pillow; see `dds_writer`."""

from __future__ import annotations

import struct
from typing import BinaryIO

from PIL import DdsImagePlugin

from upscale.images.codecs import dds_writer, pillow
from upscale.images.codecs.base import Header, Raster, UnsupportedError
from upscale.images.codecs.dds_layouts import texture_of
from upscale.images.codecs.registry import Codec, Traits, register, starts_with

_FORMAT_POSITION = 128
_FLOAT_FORMATS = range(94, 97)


def read_header(file: BinaryIO) -> Header:
    """Read the size and the layout.

    Raises:
        UnsupportedError: It stores floats.
    """
    file.seek(_FORMAT_POSITION)
    if struct.unpack("<I", file.read(4).ljust(4, b"\0"))[0] in _FLOAT_FORMATS:
        raise UnsupportedError("stores floats")
    file.seek(0)
    width, height = DdsImagePlugin.DdsImageFile(file).size
    file.seek(0)
    return Header(width, height, storage=texture_of(file))


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
        traits=Traits(
            depth=8, grey=False, alpha="full", lossy=True, has_quality=False, max_side=16384
        ),
        encode=dds_writer.encode,
        remarks=dds_writer.remarks,
        rank=20,
    )
)
