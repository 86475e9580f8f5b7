"""Radiance HDR: linear light with a common exponent, through imagecodecs and OpenCV."""

from __future__ import annotations

import re
from typing import BinaryIO

import cv2
import imagecodecs
import numpy as np

from upscale.images.codecs.base import Header, MalformedError, Raster, UnsupportedError
from upscale.images.codecs.registry import Codec, Traits, register, starts_with
from upscale.images.encoding import ResolvedEncoding
from upscale.images.image import Image, Metadata
from upscale.images.pixels.light import LINEAR, REC_709

_SIZE = re.compile(rb"\n([-+])Y (\d{1,9}) ([-+])X (\d{1,9})\n")
_HEAD_BYTES = 64 * 1024
_ORIENTATIONS = {(b"-", b"+"): 1, (b"-", b"-"): 2, (b"+", b"-"): 3, (b"+", b"+"): 4}
"""Numbers of EXIF by the signs of Y and X: a row number grows downwards where Y is negative."""

_LIGHTEST = 1e38


def read_header(file: BinaryIO) -> Header:
    """Read size, orientation and kind of colours.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: It stores XYZ, or columns one after another.
    """
    head = file.read(_HEAD_BYTES)
    size = _size(head)
    lines = head[: size.start()]
    if b"xyze" in lines:
        raise UnsupportedError("stores XYZ colours")
    notes = [
        f"its {name} {'were' if name == 'primaries' else 'was'} left out"
        for name, key in (("exposure", b"\nEXPOSURE="), ("primaries", b"\nPRIMARIES="))
        if key in lines
    ]
    down, height, across, width = size.groups()
    return Header(
        int(width),
        int(height),
        orientation=_ORIENTATIONS[down, across],
        metadata=Metadata(cicp=(REC_709, LINEAR)),
        notes=tuple(notes),
    )


def decode(file: BinaryIO) -> Raster:
    """Decode the image.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: It stores columns one after another.
    """
    data = file.read()
    size = _size(data[:_HEAD_BYTES])
    _, height, _, width = size.groups()
    # imagecodecs accepts only the usual orientation, which the header of the codec states.
    start = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %s +X %s\n" % (height, width)
    return Raster.of(imagecodecs.rgbe_decode(start + data[size.end() :]))


def encode(image: Image, target: BinaryIO, encoding: ResolvedEncoding) -> None:
    """Encode floats in linear light; there is no light below 0."""
    del encoding
    # imagecodecs cannot compress all images: its buffer is too small for some.
    colours = np.broadcast_to(image.pixels, (*image.pixels.shape[:2], 3))[..., ::-1]
    light = np.ascontiguousarray(colours.clip(0, _LIGHTEST), np.float32)
    target.write(cv2.imencode(".hdr", light)[1].tobytes())


def remarks(image: Image, encoding: ResolvedEncoding) -> tuple[str, ...]:
    """Return what the format changes of an image."""
    del encoding
    numbers, clauses = image.metadata.colour_numbers, list[str]()
    if image.pixels.dtype.kind == "f" and float(image.pixels.min()) < 0:
        clauses.append("values below 0 became 0")
    if numbers is not None and numbers[0] != REC_709:
        clauses.append("its primaries were left out")
    return tuple(clauses)


def _size(head: bytes) -> re.Match[bytes]:
    """Return the line with the size, after the empty line.

    Raises:
        MalformedError: There is none.
        UnsupportedError: Columns are stored one after another.
    """
    match = _SIZE.search(head)
    if match is not None:
        return match
    if re.search(rb"\n[-+]X \d+ [-+]Y \d+\n", head):
        raise UnsupportedError("stores columns one after another")
    raise MalformedError("is damaged")


register(
    Codec(
        name="hdr",
        label="Radiance HDR",
        suffixes=("hdr", "pic"),
        foreign_suffixes=("pic",),
        sniff=starts_with(b"#?RADIANCE", b"#?RGBE"),
        read_header=read_header,
        decode=decode,
        traits=Traits(
            depth=32, grey=False, lossy=True, has_quality=False, lossless=False, is_linear=True
        ),
        encode=encode,
        remarks=remarks,
        rank=23,
    )
)
