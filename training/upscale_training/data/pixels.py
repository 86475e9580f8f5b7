"""Images of any kind as upscale_training takes them: 8-bit RGB as sRGB encodes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upscale.images import Image, encode_file, extend_colour, read_image, write_file
from upscale.images.metadata.icc import in_srgb
from upscale.images.pixels.colour import finite, tone_curve
from upscale.images.pixels.depth import in_depth

Pixels = NDArray[np.uint8]
"""(H, W, 3), RGB."""


def read_rgb(source: Path | bytes) -> Pixels:
    """Read an image for upscale_training.

    Raises:
        ImageError: See `upscale.images.read_image`.
        DependencyError: The format needs a package that is not installed.
    """
    return as_rgb(read_image(source))


def as_rgb(image: Image) -> Pixels:
    """The pixels of an image of any kind.

    Colours are converted to sRGB, light gets sRGB's curve, deeper samples are rounded, grey becomes
    three equal channels. Transparency is dropped, after colour was spread under it.
    """
    image = in_srgb(image)
    pixels = finite(image.pixels)
    if image.alpha is not None:
        pixels = extend_colour(pixels, image.alpha)
    curve = tone_curve(pixels, image.metadata)
    if curve is not None:
        pixels = curve.to_network(pixels)
    pixels = in_depth(pixels, 8)
    return pixels if pixels.shape[2] == 3 else pixels.repeat(3, axis=2)


def write_png(pixels: Pixels, target: Path) -> None:
    """Write an image, whole; missing folders are made.

    Raises:
        OutputError: It exists, or cannot be written.
    """
    write_file(Image(pixels), target, format="png")


def png_of(pixels: Pixels) -> bytes:
    """An image as a PNG file."""
    return encode_file(Image(pixels), "png")
