"""Blended tiling, for networks that cannot be divided into layer groups.

The image is divided into overlapping windows, and neighbouring windows are blended with
squared-sine ramps that add up to one. This hides seams, but unlike `exact` it does not reproduce
whole-image inference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from upscale.errors import MemoryExhaustedError
from upscale.tiling.grid import Rect
from upscale.tiling.interfaces import Canvas, TileStats
from upscale.tiling.recovery import runs_out_of_memory


@dataclass(frozen=True, slots=True)
class Window:
    """Pixels [start, stop) along one axis.

    Attributes:
        start: First pixel.
        stop: Pixel after the last one.
        fade_in: Number of first pixels that overlap with the previous window.
        fade_out: Number of last pixels that overlap with the next window.
    """

    start: int
    stop: int
    fade_in: int
    fade_out: int


def windows(length: int, side: int, overlap: int, start: int = 0, fade_in: int = 0) -> list[Window]:
    """Return windows of at most `side` that cover [start, length) and overlap by `overlap`.

    The windows are as equal as possible. `side` is at least `2 * overlap`, and so is every window
    but the last one, so that no pixel lies in more than two.
    """
    steps = max(-(-(length - start - overlap) // (side - overlap)), 1)
    side = max(-(-(length - start - overlap) // steps) + overlap, 2 * overlap)
    result: list[Window] = []
    while True:
        stop = min(start + side, length)
        last = stop == length
        result.append(Window(start, stop, fade_in, 0 if last else overlap))
        if last:
            return result
        start, fade_in = stop - overlap, overlap


def ramp(window: Window, scale: int, device: torch.device) -> Tensor:
    """Return the fp32 weights of a window's output pixels; overlapping weights add up to one."""
    weights = torch.ones((window.stop - window.start) * scale, device=device)
    for fade, reverse in ((window.fade_in * scale, False), (window.fade_out * scale, True)):
        if fade:
            phase = (torch.arange(fade, device=device) + 0.5) / fade
            rising = torch.sin(phase * (math.pi / 2)).square()
            if reverse:
                weights[-fade:] *= 1 - rising
            else:
                weights[:fade] *= rising
    return weights


class BlendedRun:
    """The run of a network over one image as overlapping windows.

    Args:
        network: Function from (1, C, h, w) to (1, C', h * scale, w * scale).
        scale: Output pixels per input pixel and axis.
        canvas: Image to read and image to write.
        height: Rows of the image.
        width: Columns of the image.
        tile: Side of a window; raised to `2 * overlap` if smaller.
        overlap: Pixels that neighbouring windows share.
        on_tile: Callback after each window.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        scale: int,
        canvas: Canvas,
        *,
        height: int,
        width: int,
        tile: int,
        overlap: int,
        on_tile: Callable[[TileStats], None] | None = None,
    ) -> None:
        self.stats = TileStats()
        self.tile = max(tile, 2 * overlap)
        self._network = network
        self._scale = scale
        self._canvas = canvas
        self._height = height
        self._width = width
        self._overlap = overlap
        self._on_tile = on_tile
        self._start = 0  # of the next row of windows
        self._fade_in = 0
        self._carried: Tensor | None = None  # weighted rows that it completes

    def run(self) -> None:
        """Compute the whole image, one row of windows at a time.

        Raises:
            MemoryExhaustedError: The smallest window does not fit into memory.
        """
        self.stats.total = self._remaining()
        while self._start < self._height:
            done = self.stats.done
            if runs_out_of_memory(self._proceed):
                self._halve()
                self.stats.done = done
                self.stats.total = done + self._remaining()

    def _proceed(self) -> None:
        """Compute a row of windows, which can be repeated until it has been written."""
        row = windows(self._height, self.tile, self._overlap, self._start, self._fade_in)[0]
        chunk = self._row_chunk(row)
        if self._carried is not None:
            chunk[:, :, : self._carried.shape[2]] += self._carried
        finished = row.stop - row.start - row.fade_out
        carried = chunk[:, :, finished * self._scale :].clone()
        whole = Rect(row.start, row.start + finished, 0, self._width)
        self._canvas.write(whole, chunk[:, :, : finished * self._scale])
        self._carried = carried
        self._start, self._fade_in = row.start + finished, row.fade_out

    def _row_chunk(self, row: Window) -> Tensor:
        """Return a row of windows in fp32, blended and faded at its top and bottom."""
        chunk: Tensor | None = None
        scale = self._scale
        for column in windows(self._width, self.tile, self._overlap):
            tile = self._canvas.read(Rect(row.start, row.stop, column.start, column.stop))
            result = self._network(tile).float()
            if chunk is None:
                shape = (1, result.shape[1], result.shape[2], self._width * scale)
                chunk = torch.zeros(shape, device=result.device)
            weights = ramp(row, scale, result.device)[:, None] * ramp(column, scale, result.device)
            chunk[:, :, :, column.start * scale : column.stop * scale] += result * weights
            self.stats.done += 1
            if self._on_tile is not None:
                self._on_tile(self.stats)
        if chunk is None:
            raise ValueError("an image without columns")
        return chunk

    def _remaining(self) -> int:
        """Return the number of windows that remain at the current size."""
        rows = windows(self._height, self.tile, self._overlap, self._start, self._fade_in)
        return len(rows) * len(windows(self._width, self.tile, self._overlap))

    def _halve(self) -> None:
        if self.tile <= 2 * self._overlap:
            raise MemoryExhaustedError(
                f"out of memory with the smallest tile ({self.tile}): close other programs, "
                "or use a smaller model or --device cpu"
            )
        self.tile = max(self.tile // 2, 2 * self._overlap)
        self.stats.halvings += 1
