"""Pictures of any kind as training takes them: 8-bit RGB as sRGB encodes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upscale.pictures import Picture, encode_file, extend_colour, read_picture, write_file
from upscale.pictures.colour import finite, tone_curve
from upscale.pictures.depth import in_depth
from upscale.pictures.profiles import in_srgb

Pixels = NDArray[np.uint8]
"""(H, W, 3), RGB."""


def read_rgb(source: Path | bytes) -> Pixels:
    """Read a picture for training.

    Raises:
        PictureError: See `upscale.pictures.read_picture`.
        DependencyError: The format needs a package that is not installed.
    """
    return as_rgb(read_picture(source))


def as_rgb(picture: Picture) -> Pixels:
    """The pixels of a picture of any kind.

    Colours are converted to sRGB, light gets sRGB's curve, deeper samples are rounded, grey becomes
    three equal channels. Transparency is dropped, after colour was spread under it.
    """
    picture = in_srgb(picture)
    pixels = finite(picture.pixels)
    if picture.alpha is not None:
        pixels = extend_colour(pixels, picture.alpha)
    curve = tone_curve(pixels, picture.metadata)
    if curve is not None:
        pixels = curve.to_network(pixels)
    pixels = in_depth(pixels, 8)
    return pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2)


def write_png(pixels: Pixels, target: Path) -> None:
    """Write a picture, whole; missing folders are made.

    Raises:
        OutputError: It exists, or cannot be written.
    """
    write_file(Picture(pixels), target, format="png")


def png_of(pixels: Pixels) -> bytes:
    """A picture as a PNG file."""
    return encode_file(Picture(pixels), "png")
