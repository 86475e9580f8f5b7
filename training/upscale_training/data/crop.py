"""Sub-images: overlapping pieces of large images, which are quicker to read than the whole."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from upscale_training.data.pixels import Pixels


@dataclass(frozen=True, slots=True)
class Pieces:
    """How images are cut; the defaults are those of Real-ESRGAN's script.

    Attributes:
        size: Side of a piece in pixels. An image that is smaller is taken whole in that direction.
        step: Pixels from one piece to the next, at least 1.
        threshold: A last piece at the edge is cut where more pixels than this remain.
    """

    size: int = 480
    step: int = 240
    threshold: int = 0

    def outputs(self, width: int, height: int) -> dict[str, tuple[int, int]]:
        """The (top, left) of each piece, row by row, by the end of its name: `_s001`, ..."""
        corners = product(self._starts(height), self._starts(width))
        return {f"_s{number:03}": corner for number, corner in enumerate(corners, 1)}

    def make(self, pixels: Pixels, output: tuple[int, int]) -> Pixels:
        """Cut a piece."""
        top, left = output
        return pixels[top : top + self.size, left : left + self.size]

    def _starts(self, length: int) -> list[int]:
        last = max(0, length - self.size)
        starts = list(range(0, last + 1, self.step))
        return [*starts, last] if last - starts[-1] > self.threshold else starts
