"""Images of validation, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upscale.images import Image, write_file
from upscale_training.sample_grid import Cell, draw_grid

Pixels = NDArray[np.uint8]
"""(H, W, 3), RGB."""

_SIDE = 320
"""Of the part of a result that is shown, in pixels, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A validation image, its middle cut out to be shown.

    Attributes:
        place: the validation set.
        name: of the image.
        low: what the network was given.
        bicubic: that, upscaled without a network.
        result: what the network made of it.
        high: the truth.
        words: figures of the whole image.
    """

    place: str
    name: str
    low: Pixels
    bicubic: Pixels
    result: Pixels
    high: Pixels
    words: Sequence[str]

    def grid(self, title: str) -> Pixels:
        """The four beside each other, with words."""
        cells = [
            Cell("given", ["pixels repeated"], self.low),
            Cell("bicubic", [], self.bicubic),
            Cell("network", self.words, self.result),
            Cell("truth", [], self.high),
        ]
        return draw_grid(title, f"{self.place}, {self.name}", cells)


def middle(pixels: Pixels, factor: int, scale: int) -> Pixels:
    """Cut the middle out of an image.

    Args:
        pixels: the image.
        factor: how many times it is as large as the network's input.
        scale: of the network; the same part is cut whatever the factor.
    """
    side = _SIDE // scale
    spans: list[slice] = []
    for length in pixels.shape[:2]:
        first = max(length // factor - side, 0) // 2
        spans.append(slice(first * factor, (first + side) * factor))
    return np.ascontiguousarray(pixels[spans[0], spans[1]])


def write_image(pixels: Pixels, path: Path) -> None:
    """Write a PNG, in place of an older one.

    Raises:
        OutputError: it cannot be written.
    """
    write_file(Image(pixels), path, format="png", overwrite=True)
