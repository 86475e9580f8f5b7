"""Cut patches without content from photos: what varies in them is the noise of the camera."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
from PIL import Image

from upscale_training.data.pixels import Pixels


@dataclass(frozen=True, slots=True)
class NoiseCollector:
    """Cuts square patches side by side, and keeps those that hardly vary.

    The rule and the defaults are those of RealSR (Ji et al., CVPRW 2020, equation 7, and its code):
    the grey levels of a patch have a variance below 20. Its code asks for a mean above 50 for the
    photos of a phone, because dark areas have less noise and are clipped at black. Unlike there,
    patches that touch the right or the lower edge of an image are used, too.

    Attributes:
        size: Side of a patch in pixels.
        variance: Variance of the grey levels of 0..255 that a patch stays below.
        mean: Mean of the grey levels of 0..255 that a patch exceeds.

    Example:
        >>> collector = NoiseCollector(size=4)
        >>> collector.outputs(width=9, height=4)
        {'_n001': (0, 0), '_n002': (0, 4)}
        >>> collector.make(np.zeros((4, 9, 3), np.uint8), (0, 4))
        'too dark'
    """

    kind: ClassVar[str] = "Noise"  # in the files of interrupted runs, so it must not change
    size: int = 256
    variance: float = 20.0
    mean: float = 0.0

    def outputs(self, width: int, height: int) -> dict[str, tuple[int, int]]:
        """Return the (top, left) of each patch, row by row, by name suffix (`_n001`, ...)."""
        rows, columns = (range(0, side - self.size + 1, self.size) for side in (height, width))
        corners = product(rows, columns)
        return {f"_n{number:03}": corner for number, corner in enumerate(corners, 1)}

    def make(self, pixels: Pixels, output: tuple[int, int]) -> Pixels | str:
        """Cut one patch at its (top, left), or return why it is not used."""
        top, left = output
        patch = pixels[top : top + self.size, left : left + self.size]
        grey = np.asarray(Image.fromarray(patch).convert("L"), np.float64)
        if grey.var() >= self.variance:
            return "too much content"
        return patch if grey.mean() > self.mean else "too dark"
