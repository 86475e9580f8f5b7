"""Targa; see `tga_pixels`. Files have no signature, so the suffix identifies them."""

from __future__ import annotations

from typing import BinaryIO

from upscale.images.codecs import tga_pixels, tga_writer
from upscale.images.codecs.base import Header
from upscale.images.codecs.registry import Codec, Traits, register
from upscale.images.codecs.tga_writer import layout_of


def read_header(file: BinaryIO) -> Header:
    """Read the size and the order of rows.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Its pixels are interleaved.
    """
    head = tga_pixels.read_head(file)
    file.seek(0)
    return Header(head.width, head.height, storage=layout_of(file))


register(
    Codec(
        name="tga",
        label="Targa",
        suffixes=("tga",),
        read_header=read_header,
        decode=tga_pixels.decode,
        traits=Traits(depth=8, alpha="full", max_side=65535),
        encode=tga_writer.encode,
        rank=21,
    )
)
