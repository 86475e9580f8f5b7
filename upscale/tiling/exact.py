"""Exact tiling: the computation is cut, not the image.

Every group runs tile by tile with its own halo, clipped where the image ends so that zero padding
falls exactly where it does in whole-image inference. The result equals whole-image inference up
to the order of floating-point sums, for every tile size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
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

SMALLEST_TILE = 16


@dataclass(slots=True)
class Plane:
    """Rows from `start` on of one group's output, as (rows, MARGIN + width + MARGIN, channels).

    Row -1, the row after the last one and the columns beside the image are zero.
    """

    start: int
    rows: Tensor

    def view(self, rect: Rect) -> Tensor:
        """The part under `rect`, (h, w, channels)."""
        return self.rows[
            rect.top - self.start : rect.bottom - self.start,
            rect.left + MARGIN : rect.right + MARGIN,
        ]


class ExactRun:
    """One image on its way through a network's groups.

    Args:
        groups: the network, in the precision of the run.
        canvas: the image read and the image written.
        store: where planes live.
        height: rows of a plane.
        width: columns of a plane.
        tile: side of a tile's valid centre in plane pixels; lowered when memory runs out.
        smallest: the side below which memory is not sought by halving any more.
        floor: see `Schedule`; given up when memory runs out.
        batch: how many tiles of one shape go through a group together.
        precise: the same groups in fp32, for tiles that overflow half precision; None when the run
            itself is in fp32.
        on_tile: called after every tile.
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
        smallest: int = SMALLEST_TILE,
        floor: MinimumTile = NO_MINIMUM,
        batch: int = 1,
        precise: Callable[[], Sequence[LayerGroup]] | None = None,
        on_tile: Callable[[TileStats], None] | None = None,
    ) -> None:
        self.groups = groups
        self.stats = TileStats()
        self.schedule = Schedule(groups, height, width, tile, floor)
        self._canvas = canvas
        self._store = store
        self._planes: dict[int, Plane] = {}
        self._smallest = smallest
        self._batch = batch
        self._precise = precise
        self._on_tile = on_tile

    def run(self) -> None:
        """Compute the whole image.

        Raises:
            MemoryExhaustedError: the smallest tile does not fit memory.
            PrecisionLossError: half precision cannot hold the values.
        """
        self.stats.total = self.schedule.remaining()
        while (step := self.schedule.next()) is not None:
            index, band = step
            if self._reserve(index, band.bottom):
                self.schedule.commit(index, band.bottom)
                self._advance(index, band)
                self._trim(index)

    def _reserve(self, index: int, stop: int) -> bool:
        """Make room for a plane's rows up to `stop`; False if the tile had to be lowered first."""
        if index == len(self.groups) - 1:
            return True
        try:
            self._extend(index, stop)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return True
        self._make_room()
        return False

    def _extend(self, index: int, stop: int) -> None:
        """Replace a plane by one that keeps the rows still needed and has room up to `stop`."""
        height, width = self.schedule.height, self.schedule.width
        start = min(self.schedule.first_needed(index), self.schedule.done[index])
        end = stop + MARGIN if stop == height else stop
        rows = self._store.allocate(end - start, width + 2 * MARGIN, self.groups[index].channels)
        old = self._planes.get(index)
        kept = old.rows[start - old.start :] if old is not None else rows[: max(-start, 0)]
        new = rows[len(kept) :]
        if old is None:
            _clear(kept)
        else:
            _copy(rows[: len(kept)], kept)
            self._store.recycle(old.rows)
        _clear(new[:, :MARGIN])
        _clear(new[:, -MARGIN:])
        if end > height:
            _clear(rows[height - start :])
        self._planes[index] = Plane(start, rows)

    def _trim(self, index: int) -> None:
        """Let go of rows that no group will read again."""
        for source in set(self.groups[index].sources) - {IMAGE}:
            if self.schedule.last_reader_in_turn(source) != index:
                continue
            first, plane = self.schedule.first_needed(source), self._planes[source]
            if first == plane.start:
                continue
            kept = plane.rows[first - plane.start :]
            if len(kept):
                rows = self._store.allocate(*kept.shape)
                _copy(rows, kept)
                self._planes[source] = Plane(first, rows)
            else:
                del self._planes[source]
            self._store.recycle(plane.rows)

    def _advance(self, index: int, band: Rect) -> None:
        """Run one group over a band, halving tiles for as long as memory runs out."""
        pending = list(self.schedule.cut(index, band))
        while pending:
            tiles = self._first_batch(index, pending)
            exhausted, result = False, None
            try:
                result = self._compute(index, tiles)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                exhausted = True
            if exhausted:  # outside the handler, which keeps the failed tensors alive
                self._make_room()
                pending = [part for rect in pending for part in self.schedule.cut(index, rect)]
                self.stats.total += len(pending)
                continue
            del pending[: len(tiles)]
            if result is not None:
                self._put(index, tiles, result)
            self._count(len(tiles))

    def _first_batch(self, index: int, pending: Sequence[Rect]) -> list[Rect]:
        """The next tiles that can share a batch: neighbours in the list with one padded shape."""
        if self._batch == 1:
            return [pending[0]]

        def shape(rect: Rect) -> tuple[int, ...]:
            outer = self._outer(index, rect)
            return (outer.height, outer.width, rect.top - outer.top, rect.left - outer.left)

        _, tiles = next(groupby(pending[: self._batch], key=shape))
        return list(tiles)

    def _outer(self, index: int, rect: Rect) -> Rect:
        """What a group reads for a tile."""
        outer = rect.grow(self.groups[index].halo)
        if self.groups[index].valid:
            return outer
        return outer.clip(self.schedule.height, self.schedule.width)

    def _compute(self, index: int, tiles: Sequence[Rect]) -> Tensor | None:
        """The group's output for a group of tiles, with their halos: (N, channels, h, w).

        None where it was written to its place at once.
        """
        group = self.groups[index]
        outers = [self._outer(index, rect) for rect in tiles]
        inputs = [self._gather(source, outers) for source in group.sources]
        target = self._target(index, tiles, inputs[0].device)
        if target is not None and group.fill is not None:
            group.fill(inputs, target)
            return None
        result = group.run(inputs)
        if self._precise is None or bool(torch.isfinite(result).all()):
            return result
        precise = self._precise()[index].run([tensor.float() for tensor in inputs])
        result = precise.to(result.dtype)
        if not bool(torch.isfinite(result).all()):
            raise PrecisionLossError(f"group {group.name} exceeds {result.dtype}")
        self.stats.fp32_tiles += len(tiles)
        return result

    def _target(self, index: int, tiles: Sequence[Rect], device: torch.device) -> Tensor | None:
        """Where a tile may be written to at once: its place in a plane that is computed on."""
        if index == len(self.groups) - 1 or len(tiles) > 1 or self._precise is not None:
            return None
        place = self._planes[index].view(tiles[0])
        return place.permute(2, 0, 1)[None] if place.device == device else None

    def _gather(self, source: int, rects: Sequence[Rect]) -> Tensor:
        """A plane under rectangles of one shape, channels-last: (N, C, h, w)."""
        tiles = [self._read(source, rect) for rect in rects]
        return (
            tiles[0]
            if len(tiles) == 1
            else torch.cat(tiles).contiguous(memory_format=torch.channels_last)
        )

    def _read(self, source: int, rect: Rect) -> Tensor:
        """A plane under `rect`, channels-last: (1, C, h, w)."""
        if source != IMAGE:
            return self._store.load(self._planes[source].view(rect)).permute(2, 0, 1)[None]
        inside = rect.clip(self.schedule.height, self.schedule.width)
        tile = self._canvas.read(inside)
        if inside == rect:
            return tile
        beyond = (inside.left - rect.left, rect.right - inside.right,
                  inside.top - rect.top, rect.bottom - inside.bottom)  # fmt: skip
        return F.pad(tile, beyond)

    def _put(self, index: int, tiles: Sequence[Rect], result: Tensor) -> None:
        """Write the centres of a group's tiles to the plane or the image."""
        scale = self.groups[index].scale
        for rect, tile in zip(tiles, result, strict=True):
            inner = rect.relative_to(self._outer(index, rect), scale)
            if self.groups[index].valid:
                centre = tile
            else:
                centre = tile[:, inner.top : inner.bottom, inner.left : inner.right]
            if index == len(self.groups) - 1:
                self._canvas.write(rect, centre[None])
            else:
                self._planes[index].view(rect).copy_(centre.permute(1, 2, 0))

    def _count(self, tiles: int) -> None:
        for _ in range(tiles):
            self.stats.done += 1
            if self._on_tile is not None:
                self._on_tile(self.stats)

    def _make_room(self) -> None:
        """Smaller batches, then smaller tiles, then planes elsewhere; then give up."""
        floor = self.schedule.floor
        if self._batch > 1:
            self._batch = 1
        elif self.schedule.tile < max(floor.rows, floor.side):
            self.schedule.floor = NO_MINIMUM
        elif self.schedule.tile > self._smallest:
            self.schedule.tile = max(self.schedule.tile // 2, self._smallest)
            self.stats.halvings += 1
        elif self._store.offload():
            for plane in self._planes.values():
                rows = self._store.allocate(*plane.rows.shape)
                _copy(rows, plane.rows)
                plane.rows = rows
        else:
            raise MemoryExhaustedError(
                f"out of memory with the smallest tile ({self._smallest}): close other programs, "
                "or use --precision fp16, a smaller model or --device cpu"
            )
        self.stats.total = self.stats.done + self.schedule.remaining()


def _copy(target: Tensor, source: Tensor) -> None:
    """Copy a part of a plane; in the host's memory with one thread.

    Those that torch would use hold on to their processors for a while afterwards, and a group that
    computes with threads of its own would wait for them: with two processors and tiles of 128
    pixels, a fifth of the time.
    """
    if target.device.type == source.device.type == "cpu":
        np.copyto(_bytes(target), _bytes(source))
    else:
        target.copy_(source)


def _clear(target: Tensor) -> None:
    """Fill a part of a plane with zeros; see `_copy`."""
    if target.device.type == "cpu":
        _bytes(target).fill(0)
    else:
        target.zero_()


def _bytes(plane: Tensor) -> NDArray[np.uint8]:
    return plane.view(torch.uint8).numpy()
