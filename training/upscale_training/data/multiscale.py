"""Smaller copies of images, so that a network sees their objects in several sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from upscale_training.data.pixels import Pixels


@dataclass(frozen=True, slots=True)
class Copies:
    """Which copies are made, with a Lanczos filter; the defaults are those of Real-ESRGAN's script.

    None is made that would not be smaller than the image.

    Attributes:
        factors: Of the size, between 0 and 1; the copies are `nameT0.png`, `nameT1.png`, ...
        shortest: Pixels of the shorter side of one more copy.
    """

    factors: tuple[float, ...] = (0.75, 0.5, 1 / 3)
    shortest: int = 400

    def outputs(self, width: int, height: int) -> dict[str, tuple[int, int]]:
        """The (width, height) of each copy by the end of its name; sides are rounded down."""
        sizes = [(int(width * factor), int(height * factor)) for factor in self.factors]
        if width < height:
            sizes.append((self.shortest, int(self.shortest * (height / width))))
        else:
            sizes.append((int(self.shortest * (width / height)), self.shortest))
        return {
            f"T{number}": size
            for number, size in enumerate(sizes)
            if 0 < min(size) < min(width, height)
        }

    def make(self, pixels: Pixels, output: tuple[int, int]) -> Pixels:
        """Make a copy."""
        image = Image.fromarray(pixels)
        return np.asarray(image.resize(output, Image.Resampling.LANCZOS))
