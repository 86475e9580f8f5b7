"""Images that repeat: what lies beyond a border is the image at the opposite border."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from upscale.tiling.grid import Rect
from upscale.tiling.interfaces import Canvas


@dataclass(frozen=True, slots=True)
class Wrap:
    """The directions in which an image repeats.

    Attributes:
        rows: Whether the last row is followed by the first one.
        columns: Whether the last column is followed by the first one.
    """

    rows: bool = False
    columns: bool = False

    @property
    def turned(self) -> Wrap:
        """The directions after a quarter turn of the image."""
        return Wrap(self.columns, self.rows)

    def clip(self, rect: Rect, height: int, width: int) -> Rect:
        """Return the part of a rectangle inside an image, unclipped where the image repeats."""
        inside = rect.clip(height, width)
        rows, columns = (rect if self.rows else inside), (rect if self.columns else inside)
        return Rect(rows.top, rows.bottom, columns.left, columns.right)


NO_WRAP = Wrap()


def spans(start: int, stop: int, length: int) -> list[tuple[int, int]]:
    """Return the parts of [0, length) that [start, stop) covers on an axis that repeats.

    Example:
        >>> spans(-2, 5, 4)
        [(2, 4), (0, 4), (0, 1)]
    """
    result: list[tuple[int, int]] = []
    while start < stop:
        first = start % length
        last = min(first + stop - start, length)
        result.append((first, last))
        start += last - first
    return result


def joined(pieces: list[list[Tensor]], rows: int, columns: int) -> Tensor:
    """Join a grid of tensors.

    Args:
        pieces: Rows of tensors.
        rows: Axis along which the rows are joined.
        columns: Axis along which the tensors of a row are joined.
    """
    strips = [row[0] if len(row) == 1 else torch.cat(row, columns) for row in pieces]
    return strips[0] if len(strips) == 1 else torch.cat(strips, rows)


def read_wrapped(canvas: Canvas, rect: Rect, height: int, width: int, wrap: Wrap) -> Tensor:
    """Read a rectangle that may extend beyond the borders across which an image repeats.

    Args:
        canvas: Image to read.
        rect: Rectangle; inside the image where it does not repeat.
        height: Rows of the image.
        width: Columns of the image.
        wrap: Directions in which the image repeats.

    Returns:
        (1, C, h, w) tensor, channels-last.
    """
    rows = spans(rect.top, rect.bottom, height) if wrap.rows else [(rect.top, rect.bottom)]
    columns = spans(rect.left, rect.right, width) if wrap.columns else [(rect.left, rect.right)]
    pieces = [
        [canvas.read(Rect(top, bottom, left, right)) for left, right in columns]
        for top, bottom in rows
    ]
    return joined(pieces, 2, 3).contiguous(memory_format=torch.channels_last)


class WrappedMargin:
    """A canvas that shows another one with a margin of what lies beyond its borders.

    Networks that are not computed by layer groups need it: they see the margin, and the result
    under it is dropped.

    Args:
        canvas: Image to read and image to write.
        height: Rows of the image.
        width: Columns of the image.
        wrap: Directions in which the image repeats; there is no margin in the others.
        margin: Pixels of the margin on each side.
        scale: Output pixels per input pixel and axis.
    """

    def __init__(
        self, canvas: Canvas, height: int, width: int, wrap: Wrap, *, margin: int, scale: int
    ) -> None:
        self._canvas = canvas
        self._inner = Rect(0, height, 0, width)
        self._wrap = wrap
        self._down = margin if wrap.rows else 0
        self._across = margin if wrap.columns else 0
        self._scale = scale

    @property
    def height(self) -> int:
        """Rows of the image with the margin."""
        return self._inner.height + 2 * self._down

    @property
    def width(self) -> int:
        """Columns of the image with the margin."""
        return self._inner.width + 2 * self._across

    def read(self, rect: Rect) -> Tensor:
        """Return the input under `rect`, see `Canvas`."""
        inner = self._inner
        return read_wrapped(self._canvas, self._moved(rect), inner.height, inner.width, self._wrap)

    def write(self, rect: Rect, tile: Tensor) -> None:
        """Write the part of the result for `rect` that is not in the margin."""
        moved = self._moved(rect)
        inside = moved.clip(self._inner.height, self._inner.width)
        if inside.height > 0 and inside.width > 0:
            part = inside.relative_to(moved, self._scale)
            self._canvas.write(inside, tile[:, :, part.top : part.bottom, part.left : part.right])

    def _moved(self, rect: Rect) -> Rect:
        """Return a rectangle in coordinates of the image without its margin."""
        return Rect(
            rect.top - self._down,
            rect.bottom - self._down,
            rect.left - self._across,
            rect.right - self._across,
        )
