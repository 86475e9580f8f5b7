"""Integer rectangles and how they are divided into tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Rect:
    """Rows [top, bottom) and columns [left, right) of an image or feature map."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left

    def grow(self, margin: int) -> Rect:
        """Return the rectangle extended by `margin` pixels on each side."""
        return Rect(
            self.top - margin, self.bottom + margin, self.left - margin, self.right + margin
        )

    def clip(self, height: int, width: int) -> Rect:
        """Return the part of the rectangle inside an image of `height` x `width`, maybe empty."""
        top, left = max(self.top, 0), max(self.left, 0)
        return Rect(
            top, max(min(self.bottom, height), top), left, max(min(self.right, width), left)
        )

    def relative_to(self, outer: Rect, scale: int = 1) -> Rect:
        """Return the rectangle in the coordinates of `outer`, multiplied by `scale`."""
        return Rect(
            (self.top - outer.top) * scale,
            (self.bottom - outer.top) * scale,
            (self.left - outer.left) * scale,
            (self.right - outer.left) * scale,
        )

    def times(self, scale: int) -> Rect:
        """Return the rectangle on an image upscaled by `scale`."""
        return Rect(self.top * scale, self.bottom * scale, self.left * scale, self.right * scale)

    def tiles(self, rows: int, columns: int) -> Iterator[Rect]:
        """Yield tiles of at most `rows` x `columns` and nearly equal sizes that cover it once."""
        for top, bottom in even_spans(self.top, self.bottom, rows):
            for left, right in even_spans(self.left, self.right, columns):
                yield Rect(top, bottom, left, right)


def even_spans(start: int, stop: int, side: int) -> list[tuple[int, int]]:
    """Divide [start, stop) into the fewest spans of at most `side`, as equal as possible."""
    length = stop - start
    count = max(-(-length // side), 1)
    edges = [start + length * i // count for i in range(count + 1)]
    return list(pairwise(edges))
