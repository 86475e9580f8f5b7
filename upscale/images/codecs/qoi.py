"""QOI, read through imagecodecs.

Its decoder does not detect a file that is cut off. Pillow's does, but is slow pure Python.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import imagecodecs

from upscale.images.codecs.base import Header, MalformedError, Raster
from upscale.images.codecs.registry import Codec, register, starts_with

_END = bytes(7) + b"\1"


def read_header(file: BinaryIO) -> Header:
    """Read the size."""
    return Header(*struct.unpack(">4xII2x", file.read(14)))


def decode(file: BinaryIO) -> Raster:
    """Decode the image.

    Raises:
        MalformedError: Cut off.
    """
    data = file.read()
    if _END not in data[-2 * len(_END) :]:
        raise MalformedError("is cut off")
    return Raster.of(imagecodecs.qoi_decode(data))


register(
    Codec(
        name="qoi",
        label="QOI",
        suffixes=("qoi",),
        sniff=starts_with(b"qoif"),
        read_header=read_header,
        decode=decode,
    )
)
