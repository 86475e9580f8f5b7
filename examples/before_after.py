"""Make the comparison in the README: `python examples/before_after.py`.

`dog.jpg` is a photograph that was shrunk to a quarter and saved as JPEG (see SOURCES.md). The left
half of the result is the bicubic interpolation of that file, the right half is the output of the
default network. Both are shown pixel for pixel, and nothing else is done to them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from upscale import Upscaler

HERE = Path(__file__).parent
CROP = (100, 56, 520, 476)
"""Left, top, right and bottom of the part that is shown, in output pixels."""


def comparison() -> Image.Image:
    """Return bicubic interpolation on the left and the network's output on the right."""
    with Image.open(HERE / "dog.jpg") as photo:
        small = photo.convert("RGB")
    pixels = Upscaler("realesrgan-x4plus", device="cpu").upscale(np.array(small))
    large = Image.fromarray(pixels)
    bicubic = small.resize(large.size, Image.Resampling.BICUBIC)
    width, height = CROP[2] - CROP[0], CROP[3] - CROP[1]
    page = Image.new("RGB", (2 * width + 4, height), "white")
    page.paste(bicubic.crop(CROP), (0, 0))
    page.paste(large.crop(CROP), (width + 4, 0))
    return page


def main() -> None:
    """Write docs/images/before-after.webp."""
    path = HERE.parent / "docs" / "images" / "before-after.webp"
    comparison().save(path, quality=85, method=6)


if __name__ == "__main__":
    main()
