"""Targa; see `tga_pixels`. Files have no signature, so the suffix identifies them."""

from __future__ import annotations

from typing import BinaryIO

from upscale.images.codecs import tga_pixels
from upscale.images.codecs.base import Header
from upscale.images.codecs.registry import Codec, register


def read_header(file: BinaryIO) -> Header:
    """Read the size.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: Its pixels are interleaved.
    """
    head = tga_pixels.read_head(file)
    return Header(head.width, head.height)


register(
    Codec(
        name="tga",
        label="Targa",
        suffixes=("tga",),
        read_header=read_header,
        decode=tga_pixels.decode,
    )
)
