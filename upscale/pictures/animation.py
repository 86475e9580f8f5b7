"""Frames of an animation, composed by Pillow as a viewer shows them, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO

from PIL import Image, PngImagePlugin, WebPImagePlugin

from upscale.pictures import flat, png, webp
from upscale.pictures.decoded import Header, Still, UnsupportedError

_DEPTH_PLACE = 24
# An APNG states times as fractions of two 16-bit numbers, which Pillow turns into milliseconds.
_MAX_DENOMINATOR = 65535


def png_frames(file: BinaryIO) -> Iterator[Still]:
    """The frames of an animated PNG, without a default picture that is no part of it.

    Raises:
        UnsupportedError: It has 16 bits a sample, of which Pillow would keep 8.
        Exception: Whatever Pillow raises on damaged content.
    """
    header = png.read_header(file)
    file.seek(_DEPTH_PLACE)
    if file.read(1) == b"\x10":
        raise UnsupportedError("is an animation of 16 bits a sample")
    file.seek(0)
    image = PngImagePlugin.PngImageFile(file)
    first = 1 if image.default_image else 0
    yield from _frames(image, header, range(first, header.frames + first))


def webp_frames(file: BinaryIO) -> Iterator[Still]:
    """The frames of an animated WebP.

    Raises:
        Exception: Whatever Pillow raises on damaged content.
    """
    header = webp.read_header(file)
    file.seek(0)
    yield from _frames(WebPImagePlugin.WebPImageFile(file), header, range(header.frames))


def _frames(image: Image.Image, header: Header, numbers: range) -> Iterator[Still]:
    """Decode the numbered frames; only the first carries the file's metadata."""
    for number in numbers:
        image.seek(number)
        raster = flat.raster_of(image)
        milliseconds = Fraction(image.info.get("duration", 0))
        yield Still(header, raster, (milliseconds / 1000).limit_denominator(_MAX_DENOMINATOR))
