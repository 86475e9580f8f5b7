"""The plainest upscaling, to compare networks with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from upscale.images import read_image, write_file


def upscale_bicubic(source: Path, target: Path, scale: int) -> None:
    """Write an 8-bit image, its sides `scale` times as long by Pillow's bicubic filter, as PNG.

    Raises:
        ImageError: It cannot be read.
        OutputError: The target exists, or cannot be written.
    """
    image = read_image(source)
    size = image.width * scale, image.height * scale
    planes = [Image.fromarray(plane) for plane in np.moveaxis(image.pixels, -1, 0)]
    large = [np.asarray(plane.resize(size, Image.Resampling.BICUBIC)) for plane in planes]
    write_file(replace(image, pixels=np.dstack(large), alpha=None), target, format="png")
