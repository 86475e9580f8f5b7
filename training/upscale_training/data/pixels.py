"""Read images of any kind as training uses them: 8-bit sRGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upscale.images import Image, encode_file, extend_colour, read_image, write_file
from upscale.images.metadata.icc import in_srgb
from upscale.images.pixels.colour import finite, tone_curve
from upscale.images.pixels.depth import in_depth

Pixels = NDArray[np.uint8]
"""Array of shape (H, W, 3), RGB."""


def read_rgb(source: Path | bytes) -> Pixels:
    """Read an image for training.

    Args:
        source: Path or content of the file.

    Returns:
        Array of shape (H, W, 3), uint8, sRGB.

    Raises:
        ImageError: The file cannot be read; see `upscale.images.read_image`.
        DependencyError: The format needs a package that is not installed.

    Example:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> write_png(np.full((4, 6, 3), 200, np.uint8), Path("grey.png"))
        >>> read_rgb(Path("grey.png")).shape
        (4, 6, 3)
    """
    return as_rgb(read_image(source))


def as_rgb(image: Image) -> Pixels:
    """Return the pixels of an image of any kind as 8-bit sRGB.

    Colours are converted to sRGB, linear light gets the curve of sRGB, samples of more than 8 bits
    are rounded, and grey becomes three equal channels. Transparency is dropped after colours were
    extended into transparent areas.

    Args:
        image: Image of any kind.

    Returns:
        Array of shape (H, W, 3), uint8.

    Example:
        >>> import numpy as np
        >>> as_rgb(Image(np.full((2, 2, 1), 65535, np.uint16)))[0, 0]
        array([255, 255, 255], dtype=uint8)
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
    """Write an image as a PNG file atomically; missing folders are created.

    Args:
        pixels: Array of shape (H, W, 3), uint8, RGB.
        target: Path of the file.

    Raises:
        OutputError: The file exists, or cannot be written.

    Example:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> write_png(np.zeros((4, 4, 3), np.uint8), Path("new/black.png"))
        >>> Path("new/black.png").exists()
        True
    """
    write_file(Image(pixels), target, format="png")


def png_of(pixels: Pixels) -> bytes:
    """Return the content of a PNG file with an image."""
    return encode_file(Image(pixels), "png")
