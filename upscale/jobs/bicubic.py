"""Bicubic upscaling, the baseline that networks are compared with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from upscale.images import read_image, write_file


def upscale_bicubic(source: Path, target: Path, scale: int) -> None:
    """Upscale an 8-bit image with Pillow's bicubic filter and write it as PNG.

    Args:
        source: Image to read; its alpha channel is dropped.
        target: File to write.
        scale: Output width divided by input width.

    Raises:
        ImageError: The source cannot be read.
        OutputError: The target exists, or cannot be written.
    """
    image = read_image(source)
    size = image.width * scale, image.height * scale
    planes = [Image.fromarray(plane) for plane in np.moveaxis(image.pixels, -1, 0)]
    large = [np.asarray(plane.resize(size, Image.Resampling.BICUBIC)) for plane in planes]
    write_file(replace(image, pixels=np.dstack(large), alpha=None), target, format="png")
