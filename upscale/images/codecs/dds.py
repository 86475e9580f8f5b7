"""DDS textures; see `dds_pixels` for reading and `dds_writer` for writing."""

from __future__ import annotations

from typing import BinaryIO

from upscale.images.codecs import dds_pixels, dds_writer
from upscale.images.codecs.base import Header, Raster
from upscale.images.codecs.dds_layouts import texture_of
from upscale.images.codecs.registry import Codec, Traits, register, starts_with


def read_header(file: BinaryIO) -> Header:
    """Read the size, the layout, and what the file holds besides the image that is read.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Its layout of pixels is not supported.
    """
    texture = dds_pixels.describe(file)
    file.seek(0)
    layout = texture_of(file)
    return Header(
        texture.width,
        texture.height,
        notes=texture.notes,
        storage=layout,
        has_floats=texture.has_floats,
    )


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
        traits=Traits(
            depth=8, grey=False, alpha="full", lossy=True, has_quality=False, max_side=16384
        ),
        encode=dds_writer.encode,
        remarks=dds_writer.remarks,
        reads_more=True,
        rank=20,
    )
)
