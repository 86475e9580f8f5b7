"""Crop large images into overlapping sub-images, which are faster to read."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

from upscale_training.data.pixels import Pixels


@dataclass(frozen=True, slots=True)
class SubImageCropper:
    """Crops images into overlapping sub-images; the defaults are those of Real-ESRGAN's script.

    Attributes:
        size: Side of a sub-image in pixels. A shorter side of an image is kept whole.
        step: Distance of sub-images in pixels, at least 1.
        threshold: A last sub-image at the edge is cropped if more pixels than this remain.

    Example:
        >>> SubImageCropper(size=4, step=4).outputs(width=9, height=4)
        {'_s001': (0, 0), '_s002': (0, 4), '_s003': (0, 5)}
    """

    kind: ClassVar[str] = "Pieces"  # in the files of interrupted runs, so it must not change
    size: int = 480
    step: int = 240
    threshold: int = 0

    def outputs(self, width: int, height: int) -> dict[str, tuple[int, int]]:
        """Return the (top, left) of each sub-image, row by row, by name suffix (`_s001`, ...)."""
        corners = product(self._starts(height), self._starts(width))
        return {f"_s{number:03}": corner for number, corner in enumerate(corners, 1)}

    def make(self, pixels: Pixels, output: tuple[int, int]) -> Pixels:
        """Crop one sub-image at its (top, left)."""
        top, left = output
        return pixels[top : top + self.size, left : left + self.size]

    def _starts(self, length: int) -> list[int]:
        last = max(0, length - self.size)
        starts = list(range(0, last + 1, self.step))
        return [*starts, last] if last - starts[-1] > self.threshold else starts
