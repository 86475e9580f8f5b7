"""Write smaller copies of images, so that a network sees objects in several sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from upscale_training.data.pixels import Pixels


@dataclass(frozen=True, slots=True)
class MultiscaleCopier:
    """Makes smaller copies with a Lanczos filter; the defaults are those of Real-ESRGAN's script.

    Copies that would not be smaller than the image are omitted.

    Attributes:
        factors: Factors of the size, between 0 and 1; copies are `nameT0.png`, `nameT1.png`, ...
        shortest: Shorter side of one more copy, in pixels; None for no such copy.

    Example:
        >>> MultiscaleCopier(factors=(0.5,), shortest=100).outputs(width=300, height=200)
        {'T0': (150, 100), 'T1': (150, 100)}
    """

    kind: ClassVar[str] = "Copies"  # in the files of interrupted runs, so it must not change
    factors: tuple[float, ...] = (0.75, 0.5, 1 / 3)
    shortest: int | None = 400

    def outputs(self, width: int, height: int) -> dict[str, tuple[int, int]]:
        """Return the (width, height) of each copy, rounded down, by name suffix."""
        sizes = [(int(width * factor), int(height * factor)) for factor in self.factors]
        if self.shortest is not None and width < height:
            sizes.append((self.shortest, int(self.shortest * (height / width))))
        elif self.shortest is not None:
            sizes.append((int(self.shortest * (width / height)), self.shortest))
        return {
            f"T{number}": size
            for number, size in enumerate(sizes)
            if 0 < min(size) < min(width, height)
        }

    def make(self, pixels: Pixels, output: tuple[int, int]) -> Pixels:
        """Make one copy with the given (width, height)."""
        image = Image.fromarray(pixels)
        return np.asarray(image.resize(output, Image.Resampling.LANCZOS))
