"""Exact tiling: the computation is divided into tiles, not the image.

Each layer group runs tile by tile with its own halo, clipped at the border of the image so that
zero padding acts exactly as in whole-image inference. The result equals whole-image inference up
to the order of floating-point sums, for every tile size.

Where the image repeats (`Wrap`), halos are not clipped: they continue at the opposite border, in
the feature maps of every group. The result is that of an image that repeats for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale.errors import MemoryExhaustedError
from upscale.tiling.grid import Rect
from upscale.tiling.group import IMAGE, LayerGroup
from upscale.tiling.interfaces import (
    Canvas,
    FeatureMapStore,
    PrecisionLossError,
    TileStats,
    is_out_of_memory,
)
from upscale.tiling.schedule import MARGIN, NO_MINIMUM, MinimumTile, Schedule
from upscale.tiling.wrapping import NO_WRAP, Wrap, bytes_of, copy, joined, read_wrapped, spans


@dataclass(slots=True)
class MapRows:
    """Rows of one feature map, as (rows, MARGIN + width + MARGIN, channels).

    The rows above and below the image and the columns beside it are zero.

    Attributes:
        start: Number of the first row; -1 is the row above an image that does not repeat.
        rows: Tensor that holds the rows.
    """

    start: int
    rows: Tensor

    def view(self, rect: Rect) -> Tensor:
        """Return the part under `rect` as a (h, w, channels) view."""
        return self.rows[
            rect.top - self.start : rect.bottom - self.start,
            rect.left + MARGIN : rect.right + MARGIN,
        ]


class ExactRun:
    """The run of a network's layer groups over one image.

    Args:
        groups: Layer groups in the precision of the run.
        canvas: Image to read and image to write.
        store: Memory for the feature maps.
        height: Rows of a feature map.
        width: Columns of a feature map.
        tile: Side of a tile without its halo, in feature pixels; halved when memory runs out.
        smallest: Smallest tile tried before feature maps are offloaded, in feature pixels.
        minimum: Minimum tile, see `Schedule`; ignored after memory has run out.
        batch: Number of tiles of one shape that go through a group together.
        wrap: Directions in which the image repeats.
        fp32_groups: Function that returns the same groups in fp32, for tiles that overflow half
            precision. None for a run that is not checked tile by tile.
        on_tile: Callback after each tile.
    """

    def __init__(
        self,
        groups: Sequence[LayerGroup],
        canvas: Canvas,
        store: FeatureMapStore,
        *,
        height: int,
        width: int,
        tile: int,
        smallest: int,
        minimum: MinimumTile = NO_MINIMUM,
        batch: int = 1,
        wrap: Wrap = NO_WRAP,
        fp32_groups: Callable[[], Sequence[LayerGroup]] | None = None,
        on_tile: Callable[[TileStats], None] | None = None,
    ) -> None:
        self.groups = groups
        self.stats = TileStats()
        self.schedule = Schedule(groups, height, width, tile, minimum, wrap=wrap)
        self._canvas = canvas
        self._store = store
        self._wrap = wrap
        self._maps: dict[int, MapRows] = {}
        self._first_rows: dict[int, MapRows] = {}  # of each map, where rows repeat
        self._smallest = smallest
        self._batch = batch
        self._fp32_groups = fp32_groups
        self._on_tile = on_tile

    def run(self) -> None:
        """Compute the whole image.

        Raises:
            MemoryExhaustedError: The smallest tile does not fit into memory.
            PrecisionLossError: A value exceeds half precision.
        """
        self.stats.total = self.schedule.remaining()
        while (step := self.schedule.next()) is not None:
            index, chunk = step
            if self._reserve(index, chunk.bottom):
                self.schedule.commit(index, chunk.bottom)
                self._advance(index, chunk)
                self._keep_first_rows(index, chunk)
                self._trim(index)

    def _reserve(self, index: int, stop: int) -> bool:
        """Extend a feature map to row `stop`; return False if memory ran out and was freed."""
        if index == len(self.groups) - 1:
            return True
        try:
            self._extend(index, stop)
            self._reserve_first_rows(index)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return True
        self._free_memory()
        return False

    def _extend(self, index: int, stop: int) -> None:
        """Replace a feature map by one that holds the rows still needed and all up to `stop`."""
        height, width = self.schedule.height, self.schedule.width
        start = min(self.schedule.first_needed(index), self.schedule.done[index])
        has_margin = stop == height and not self._wrap.rows
        end = stop + MARGIN if has_margin else stop
        rows = self._store.allocate(end - start, width + 2 * MARGIN, self.groups[index].channels)
        old = self._maps.get(index)
        kept = old.rows[start - old.start :] if old is not None else rows[: max(-start, 0)]
        new = rows[len(kept) :]
        if old is None:
            _clear(kept)
        else:
            copy(rows[: len(kept)], kept)
            self._store.recycle(old.rows)
        _clear(new[:, :MARGIN])
        _clear(new[:, -MARGIN:])
        if has_margin:
            _clear(rows[height - start :])
        self._maps[index] = MapRows(start, rows)

    def _reserve_first_rows(self, index: int) -> None:
        """Allocate memory for the first rows of a feature map that are read again at the end."""
        count, start = self.schedule.kept_rows(index), self.schedule.starts[index]
        if count and index not in self._first_rows:
            width = self.schedule.width + 2 * MARGIN
            rows = self._store.allocate(count, width, self.groups[index].channels)
            self._first_rows[index] = MapRows(start, rows)

    def _keep_first_rows(self, index: int, chunk: Rect) -> None:
        """Keep the rows of a row chunk that are read again at the end."""
        first = self._first_rows.get(index)
        if first is None:
            return
        stop = min(chunk.bottom, first.start + len(first.rows))
        if stop > chunk.top:
            start = self._maps[index].start
            copy(
                first.rows[chunk.top - first.start : stop - first.start],
                self._maps[index].rows[chunk.top - start : stop - start],
            )

    def _trim(self, index: int) -> None:
        """Release the rows of the group's sources that no group will read again."""
        for source in set(self.groups[index].sources) - {IMAGE}:
            if self.schedule.last_reader_in_turn(source) != index:
                continue
            first, old = self.schedule.first_needed(source), self._maps.get(source)
            if old is None or first == old.start:
                continue
            kept = old.rows[first - old.start :]
            if len(kept):
                rows = self._store.allocate(*kept.shape)
                copy(rows, kept)
                self._maps[source] = MapRows(first, rows)
            else:
                del self._maps[source]
            self._store.recycle(old.rows)

    def _advance(self, index: int, chunk: Rect) -> None:
        """Run one group over a row chunk and halve its tiles as long as memory runs out."""
        pending = list(self.schedule.tiles(index, chunk))
        while pending:
            tiles = self._first_batch(index, pending)
            exhausted, result = False, None
            try:
                result = self._compute(index, tiles)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                exhausted = True
            if exhausted:  # not in the handler: the exception keeps the failed tensors alive
                self._free_memory()
                pending = [part for rect in pending for part in self.schedule.tiles(index, rect)]
                self.stats.total += len(pending)
                continue
            del pending[: len(tiles)]
            if result is not None:
                self._put(index, tiles, result)
            self._count(len(tiles))

    def _first_batch(self, index: int, pending: Sequence[Rect]) -> list[Rect]:
        """Return the next tiles that can share a batch: neighbours of one shape with halo."""
        if self._batch == 1:
            return [pending[0]]

        def shape(rect: Rect) -> tuple[int, ...]:
            outer = self._outer(index, rect)
            return (outer.height, outer.width, rect.top - outer.top, rect.left - outer.left)

        _, tiles = next(groupby(pending[: self._batch], key=shape))
        return list(tiles)

    def _outer(self, index: int, rect: Rect) -> Rect:
        """Return the part of its sources that a group reads for a tile."""
        outer = rect.grow(self.groups[index].halo)
        if self.groups[index].valid:
            return outer
        return self._wrap.clip(outer, self.schedule.height, self.schedule.width)

    def _compute(self, index: int, tiles: Sequence[Rect]) -> Tensor | None:
        """Return a group's output for a batch of tiles with halos: (N, channels, h, w).

        None means that the output has already been written to its feature map.
        """
        group = self.groups[index]
        outers = [self._outer(index, rect) for rect in tiles]
        inputs = [self._gather(source, outers) for source in group.sources]
        target = self._target(index, tiles, inputs[0].device)
        if target is not None and group.fill is not None:
            group.fill(inputs, target)
            return None
        result = group.run(inputs)
        if self._fp32_groups is None or bool(torch.isfinite(result).all()):
            return result
        recomputed = self._fp32_groups()[index].run([tensor.float() for tensor in inputs])
        result = recomputed.to(result.dtype)
        if not bool(torch.isfinite(result).all()):
            raise PrecisionLossError(f"layer group {group.name} exceeds {result.dtype}")
        self.stats.fp32_fallbacks += len(tiles)
        return result

    def _target(self, index: int, tiles: Sequence[Rect], device: torch.device) -> Tensor | None:
        """Return the view that `fill` may write a tile to, or None if it cannot be used."""
        if index == len(self.groups) - 1 or len(tiles) > 1 or self._fp32_groups is not None:
            return None
        view = self._maps[index].view(tiles[0])
        return view.permute(2, 0, 1)[None] if view.device == device else None

    def _gather(self, source: int, rects: Sequence[Rect]) -> Tensor:
        """Return a source under rectangles of one shape as (N, C, h, w), channels-last."""
        tiles = [self._read(source, rect) for rect in rects]
        return (
            tiles[0]
            if len(tiles) == 1
            else torch.cat(tiles).contiguous(memory_format=torch.channels_last)
        )

    def _read(self, source: int, rect: Rect) -> Tensor:
        """Return a source under `rect` as (1, C, h, w), channels-last."""
        if source != IMAGE:
            return self._read_map(source, rect).permute(2, 0, 1)[None]
        height, width = self.schedule.height, self.schedule.width
        inside = self._wrap.clip(rect, height, width)
        tile = read_wrapped(self._canvas, inside, height, width, self._wrap)
        if inside == rect:
            return tile
        padding = (inside.left - rect.left, rect.right - inside.right,
                   inside.top - rect.top, rect.bottom - inside.bottom)  # fmt: skip
        return F.pad(tile, padding)

    def _read_map(self, source: int, rect: Rect) -> Tensor:
        """Return a feature map under `rect` as (h, w, channels)."""
        columns = [(rect.left, rect.right)]
        if self._wrap.columns:
            columns = spans(rect.left, rect.right, self.schedule.width)
        pieces = [
            [self._store.load(rows.view(Rect(top, bottom, *span))) for span in columns]
            for rows, top, bottom in self._row_pieces(source, rect.top, rect.bottom)
        ]
        return joined(pieces)

    def _row_pieces(self, source: int, top: int, bottom: int) -> list[tuple[MapRows, int, int]]:
        """Return where rows of a feature map are: those after the last one are its first rows."""
        end = self.schedule.end(source)
        if not self._wrap.rows or bottom <= end:
            return [(self._maps[source], top, bottom)]
        pieces = [(self._maps[source], top, end)] if top < end else []
        first, start = self._first_rows[source], self.schedule.starts[source]
        rest = spans(max(top, end) - start, bottom - start, self.schedule.height)
        return pieces + [(first, start + above, start + below) for above, below in rest]

    def _put(self, index: int, tiles: Sequence[Rect], result: Tensor) -> None:
        """Write the tiles without their halos to the feature map or the output image."""
        scale = self.groups[index].scale
        for rect, tile in zip(tiles, result, strict=True):
            inner = rect.relative_to(self._outer(index, rect), scale)
            if self.groups[index].valid:
                centre = tile
            else:
                centre = tile[:, inner.top : inner.bottom, inner.left : inner.right]
            if index == len(self.groups) - 1:
                self._write(rect, centre[None], scale)
            else:
                self._maps[index].view(rect).copy_(centre.permute(1, 2, 0))

    def _write(self, rect: Rect, tile: Tensor, scale: int) -> None:
        """Write a part of the output image, whose rows may begin anew in it."""
        height, done = self.schedule.height, 0
        rows = (
            spans(rect.top, rect.bottom, height) if self._wrap.rows else [(rect.top, rect.bottom)]
        )
        for top, bottom in rows:
            count = (bottom - top) * scale
            part = tile[:, :, done : done + count]
            self._canvas.write(Rect(top, bottom, rect.left, rect.right), part)
            done += count

    def _count(self, tiles: int) -> None:
        for _ in range(tiles):
            self.stats.done += 1
            if self._on_tile is not None:
                self._on_tile(self.stats)

    def _free_memory(self) -> None:
        """Give up the batch, then the minimum tile, then halve tiles, then offload, then fail."""
        minimum = self.schedule.minimum
        if self._batch > 1:
            self._batch = 1
        elif self.schedule.tile < max(minimum.rows, minimum.side):
            self.schedule.minimum = NO_MINIMUM
        elif self.schedule.tile > self._smallest:
            self.schedule.tile = max(self.schedule.tile // 2, self._smallest)
            self.stats.halvings += 1
        elif self._store.offload():
            for feature_map in (*self._maps.values(), *self._first_rows.values()):
                rows = self._store.allocate(*feature_map.rows.shape)
                copy(rows, feature_map.rows)
                feature_map.rows = rows
        else:
            raise MemoryExhaustedError(
                f"out of memory with the smallest tile ({self._smallest}): close other programs, "
                "or use --precision fp16, a smaller model or --device cpu"
            )
        self.stats.total = self.stats.done + self.schedule.remaining()


def _clear(target: Tensor) -> None:
    """Fill a part of a feature map with zeros; single-threaded like `copy`."""
    if target.device.type == "cpu":
        bytes_of(target).fill(0)
    else:
        target.zero_()
