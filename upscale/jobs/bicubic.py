"""The plainest enlargement, to compare networks with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from upscale.pictures import read_picture, write_file


def enlarge_bicubic(source: Path, target: Path, scale: int) -> None:
    """Write an 8-bit picture, its sides `scale` times as long by Pillow's bicubic filter, as PNG.

    Raises:
        PictureError: It cannot be read.
        OutputError: The target exists, or cannot be written.
    """
    picture = read_picture(source)
    size = picture.width * scale, picture.height * scale
    planes = [Image.fromarray(plane) for plane in np.moveaxis(picture.pixels, -1, 0)]
    large = [np.asarray(plane.resize(size, Image.Resampling.BICUBIC)) for plane in planes]
    write_file(replace(picture, pixels=np.dstack(large), alpha=None), target, format="png")
