"""Images of validation to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upscale.images import Image, write_file
from upscale_training.data.pixels import Pixels
from upscale_training.sample_grid import Cell, draw_grid

_SIDE = 320
"""Maximum side of the part of a result that is shown, in pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """The centre of a validation image, with results.

    Attributes:
        set_name: Name of the validation set.
        name: Name of the image.
        lr: LR image.
        bicubic: LR image upscaled by bicubic interpolation.
        result: Output of the network.
        hr: Ground truth.
        words: Scores of the whole image.
    """

    set_name: str
    name: str
    lr: Pixels
    bicubic: Pixels
    result: Pixels
    hr: Pixels
    words: Sequence[str]

    def grid(self, title: str) -> Pixels:
        """Return the four images side by side with captions."""
        cells = [
            Cell("input", ["pixels repeated"], self.lr),
            Cell("bicubic", [], self.bicubic),
            Cell("network", self.words, self.result),
            Cell("ground truth", [], self.hr),
        ]
        return draw_grid(title, f"{self.set_name}, {self.name}", cells)


def centre(pixels: Pixels, factor: int, scale: int) -> Pixels:
    """Crop the centre of an image.

    Args:
        pixels: Array of shape (H, W, 3).
        factor: Ratio of the size of the image to that of the network's input.
        scale: Scale of the network; the same area is cropped for every factor.
    """
    side = _SIDE // scale
    spans: list[slice] = []
    for length in pixels.shape[:2]:
        first = max(length // factor - side, 0) // 2
        spans.append(slice(first * factor, (first + side) * factor))
    return np.ascontiguousarray(pixels[spans[0], spans[1]])


def write_image(pixels: Pixels, path: Path) -> None:
    """Write a PNG file, and replace an existing one.

    Raises:
        OutputError: The file cannot be written.
    """
    write_file(Image(pixels), path, format="png", overwrite=True)
