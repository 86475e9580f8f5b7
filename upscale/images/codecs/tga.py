"""Targa, read through Pillow; files have no signature, so the suffix identifies them."""

from __future__ import annotations

from typing import BinaryIO

from PIL import TgaImagePlugin

from upscale.images.codecs import pillow, tga_writer
from upscale.images.codecs.base import Header, Raster
from upscale.images.codecs.registry import Codec, Traits, register
from upscale.images.codecs.tga_writer import layout_of


def read_header(file: BinaryIO) -> Header:
    """Read the size and the order of rows."""
    width, height = TgaImagePlugin.TgaImageFile(file).size
    return Header(width, height, storage=layout_of(file))


def decode(file: BinaryIO) -> Raster:
    """Decode the image; an alpha channel that hides everything is unused and is left out."""
    raster = pillow.raster_of(TgaImagePlugin.TgaImageFile(file))
    is_unused = raster.alpha is not None and not raster.alpha.any()
    return Raster(raster.pixels) if is_unused else raster


register(
    Codec(
        name="tga",
        label="Targa",
        suffixes=("tga",),
        read_header=read_header,
        decode=decode,
        traits=Traits(depth=8, alpha="full", max_side=65535),
        encode=tga_writer.encode,
        rank=21,
    )
)
