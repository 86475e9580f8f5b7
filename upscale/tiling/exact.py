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
from itertools import chain, groupby

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
)
from upscale.tiling.recovery import runs_out_of_memory
from upscale.tiling.schedule import MARGIN, NO_MINIMUM, MinimumTile, Schedule, readers
from upscale.tiling.wrapping import NO_WRAP, Wrap, bytes_of, copy, joined, read_wrapped, spans


@dataclass(slots=True)
class MapRows:
    """Rows of one feature map, as (rows, MARGIN + width + MARGIN, channels).

    The rows above and below the image and the columns beside it are zero if a `valid` group reads
    them; other groups read no margin.

    Attributes:
        start: Number of the first row; -1 is the row above an image that does not repeat.
        rows: Tensor that holds the rows.
    """

    start: int
    rows: Tensor

    @property
    def stop(self) -> int:
        """Number of the row after the last one."""
        return self.start + len(self.rows)

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
        self._maps: dict[int, list[MapRows]] = {}  # several only of maps that are kept whole
        self._means: dict[int, Tensor] = {}  # of maps, (1, C, 1, 1)
        self._first_rows: dict[int, MapRows] = {}  # of each map, where rows repeat
        self._misplaced: list[MapRows] = []  # to be moved to slower memory
        self._step: tuple[int, Rect] | None = None  # the group and row chunk in progress
        self._pending: list[Rect] = []  # its tiles that are not finished
        self._has_zero_margin = [
            any(groups[reader].valid for reader in its_readers) for its_readers in readers(groups)
        ]
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
        while self._step is not None or self.schedule.next() is not None:
            if runs_out_of_memory(self._proceed):
                self._free_memory()

    def _proceed(self) -> None:
        """Do the next piece of work, which can be repeated if it fails."""
        if self._misplaced:
            self._move_one()
        elif self._pending:
            self._advance()
        elif self._step is not None:
            self._keep_first_rows(*self._step)
            self._trim(self._step[0])
            self._step = None
        else:
            self._begin()

    def _begin(self) -> None:
        """Begin the next row chunk with memory for its output."""
        step = self.schedule.next()
        assert step is not None
        index, chunk = step
        missing = [source for source in self.groups[index].means if source not in self._means]
        if missing:
            self._means[missing[0]] = self._mean(missing[0])
            return
        if index < len(self.groups) - 1:
            self._reserve_first_rows(index)
            self._extend(index, chunk.bottom)
        self.schedule.commit(index, chunk.bottom)
        self._step, self._pending = step, list(self.schedule.tiles(index, chunk))

    def _extend(self, index: int, stop: int) -> None:
        """Make room for the rows of a feature map up to `stop`.

        The map is replaced by one that also holds the rows still needed. A map that is kept whole
        is extended by a piece instead, so that its rows are not copied again and again.
        """
        height, width = self.schedule.height, self.schedule.width
        pieces = self._maps.get(index, [])
        is_whole = self.schedule.is_whole(index)
        old = pieces[0] if pieces and not is_whole else None
        start = self.schedule.done[index]
        if not (pieces and is_whole):
            start = min(self.schedule.first_needed(index), start)
        has_margin = stop == height and not self._wrap.rows
        end = stop + MARGIN if has_margin else stop
        rows = self._store.allocate(end - start, width + 2 * MARGIN, self.groups[index].channels)
        kept = 0 if old is None else len(old.rows) - (start - old.start)
        if old is not None:
            copy(rows[:kept], old.rows[start - old.start :])
        if self._has_zero_margin[index]:
            if not pieces:
                _clear(rows[: max(-start, 0)])
            if has_margin:
                _clear(rows[height - start :])
            _clear(rows[kept:, :MARGIN])
            _clear(rows[kept:, -MARGIN:])
        new = MapRows(start, rows)
        self._maps[index] = [*pieces, new] if is_whole else [new]
        if old is not None:
            self._store.recycle(old.rows)

    def _mean(self, source: int) -> Tensor:
        """Return the mean of a feature map inside its inset as (1, C, 1, 1), in the map's type.

        The sums are those of rows, in order and in fp64, so that they do not depend on the tiles.
        """
        before, after = self.groups[source].inset
        start, stop = self.schedule.starts[source] + before, self.schedule.end(source) - after
        columns = slice(MARGIN + before, MARGIN + self.schedule.width - after)
        sums = [
            _row_sums(piece.rows[top - piece.start : bottom - piece.start, columns])
            for piece, top, bottom in self._stored(source, start, stop)
        ]
        total = torch.cat(sums).sum(0) / ((stop - start) * (columns.stop - columns.start))
        mean = total.to(self._maps[source][0].rows.dtype)
        return self._store.load(mean[None, None]).permute(2, 0, 1)[None]

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
            last = self._maps[index][-1]
            copy(
                first.rows[chunk.top - first.start : stop - first.start],
                last.rows[chunk.top - last.start : stop - last.start],
            )

    def _trim(self, index: int) -> None:
        """Release the rows of the group's sources that no group will read again."""
        group = self.groups[index]
        for source in {*group.sources, *group.means} - {IMAGE}:
            if self.schedule.last_reader_in_turn(source) != index:
                continue
            first, pieces = self.schedule.first_needed(source), self._maps.get(source, [])
            if not pieces or first <= pieces[0].start:
                continue
            old = pieces[0]
            if old.stop > first:
                if self.schedule.is_whole(source):
                    continue  # the piece is released when no row of it is needed
                rows = self._store.allocate(old.stop - first, *old.rows.shape[1:])
                copy(rows, old.rows[first - old.start :])
                self._maps[source] = [MapRows(first, rows)]
                self._store.recycle(old.rows)
                continue
            while pieces and pieces[0].stop <= first:
                self._store.recycle(pieces.pop(0).rows)
            if not pieces:
                del self._maps[source]

    def _advance(self) -> None:
        """Compute the next tiles of the row chunk."""
        assert self._step is not None
        index, _ = self._step
        tiles = self._first_batch(index)
        result = self._compute(index, tiles)
        for number, rect in enumerate(tiles):
            if result is not None:
                self._put(index, rect, result[number])
            del self._pending[0]  # it must not be added to the output image again
            self.stats.done += 1
            if self._on_tile is not None:
                self._on_tile(self.stats)

    def _first_batch(self, index: int) -> list[Rect]:
        """Return the next tiles that can share a batch: neighbours of one shape with halo."""
        if self._batch == 1:
            return self._pending[:1]

        def shape(rect: Rect) -> tuple[int, ...]:
            outer = self._outer(index, rect)
            return (outer.height, outer.width, rect.top - outer.top, rect.left - outer.left)

        _, tiles = next(groupby(self._pending[: self._batch], key=shape))
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
        inputs += [self._means[source] for source in group.means]
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
        view = self._maps[index][-1].view(tiles[0])
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
            return self._stored(source, top, bottom)
        pieces = self._stored(source, top, end) if top < end else []
        first, start = self._first_rows[source], self.schedule.starts[source]
        rest = spans(max(top, end) - start, bottom - start, self.schedule.height)
        return pieces + [(first, start + above, start + below) for above, below in rest]

    def _stored(self, source: int, top: int, bottom: int) -> list[tuple[MapRows, int, int]]:
        """Return the pieces of a feature map that hold rows, and the rows of each."""
        return [
            (piece, max(top, piece.start), min(bottom, piece.stop))
            for piece in self._maps[source]
            if piece.start < bottom and piece.stop > top
        ]

    def _put(self, index: int, rect: Rect, tile: Tensor) -> None:
        """Write a tile without its halo to the feature map or the output image."""
        inner = rect.relative_to(self._outer(index, rect), self.groups[index].scale)
        if not self.groups[index].valid:
            tile = tile[:, inner.top : inner.bottom, inner.left : inner.right]
        if index == len(self.groups) - 1:
            top = rect.top % self.schedule.height  # rows are counted on where they repeat
            place = Rect(top, top + rect.height, rect.left, rect.right)
            self._canvas.write(place, tile[None])
        else:
            self._maps[index][-1].view(rect).copy_(tile.permute(1, 2, 0))

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
            self._misplaced = [
                *chain.from_iterable(self._maps.values()),
                *self._first_rows.values(),
            ]
        else:
            raise MemoryExhaustedError(
                f"out of memory with the smallest tile ({self._smallest}): close other programs, "
                "or use --precision fp16, a smaller model or --device cpu"
            )
        if self._step is not None:
            index, _ = self._step
            tiles = [self.schedule.tiles(index, rect) for rect in self._pending]
            self._pending = [*chain.from_iterable(tiles)]
        self.stats.total = self.stats.done + len(self._pending) + self.schedule.remaining()

    def _move_one(self) -> None:
        """Move a feature map to the memory that the store now uses."""
        feature_map = self._misplaced[-1]
        rows = self._store.allocate(*feature_map.rows.shape)
        copy(rows, feature_map.rows)
        feature_map.rows = rows
        self._misplaced.pop()


def _row_sums(rows: Tensor) -> Tensor:
    """Return the sums of the rows of a (h, w, channels) tensor in fp64, as (h, channels).

    In host memory, torch first converts what it sums, so that single rows are faster: they stay in
    the cache. Not all GPUs compute in fp64.
    """
    if rows.device.type == "cuda":
        return rows.sum(1, dtype=torch.float64)
    return torch.stack([row.sum(0, dtype=torch.float64) for row in rows.cpu()])


def _clear(target: Tensor) -> None:
    """Fill a part of a feature map with zeros; single-threaded like `copy`."""
    if target.device.type == "cpu":
        bytes_of(target).fill(0)
    else:
        target.zero_()
