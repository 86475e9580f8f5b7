"""The order in which layer groups advance over an image, in integers only.

The groups take turns. In its turn, a group advances by at most one chunk of `tile` rows, and no
further than its sources allow. A row chunk therefore passes through the network before the next
one starts, and a feature map holds only the few rows between its writer and its slowest reader,
never the whole image.

The rows of an image that repeats from top to bottom form a ring. Each group then starts as many
rows below the first one as it stays behind it, so that its halo lies in rows that are computed,
and goes once round the ring. Rows are counted on from there: row `height + 3` is row 3 of the
image. The first rows of each feature map are kept for readers, which arrive there at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

from upscale.tiling.grid import Rect
from upscale.tiling.group import IMAGE, LayerGroup
from upscale.tiling.wrapping import NO_WRAP, Wrap

SMALLEST_SIDE = 4
"""Smallest tile side that a schedule uses, in feature pixels."""

MARGIN = 1
"""Zero pixels around the image that feature maps hold for groups without padding of their own."""


@dataclass(frozen=True, slots=True)
class MinimumTile:
    """Tile size below which fixed costs per tile outweigh the memory saved.

    Attributes:
        rows: Minimum rows of a row chunk.
        side: Minimum side of a square with as many pixels as a tile.
    """

    rows: int = 0
    side: int = 0


NO_MINIMUM = MinimumTile()


class Schedule:
    """The rows that each group has finished, and the rows to compute next.

    `tile` and `minimum` may be lowered at any time; the remaining rows are then computed in
    smaller pieces.

    Args:
        groups: Layer groups of the network.
        height: Rows of a feature map.
        width: Columns of a feature map.
        tile: Rows of a row chunk, and side of a square with about as many pixels as a tile.
        minimum: Lower bound that replaces a smaller `tile`.
        wrap: Directions in which the image repeats.
    """

    def __init__(
        self,
        groups: Sequence[LayerGroup],
        height: int,
        width: int,
        tile: int,
        minimum: MinimumTile = NO_MINIMUM,
        *,
        wrap: Wrap = NO_WRAP,
    ) -> None:
        self.groups = groups
        self.height = height
        self.width = width
        self.tile = tile
        self.minimum = minimum
        self.wrap = wrap
        self.starts = lags(groups) if wrap.rows else [0] * len(groups)
        self.done = list(self.starts)
        self._turn = 0
        self._readers = readers(groups)
        self._reference = max(
            (group.workspace for group in groups if group.scale == 1), default=groups[0].workspace
        )

    def next(self) -> tuple[int, Rect] | None:
        """Return the next group and its row chunk, or None when the image is finished."""
        while self.done[-1] < self.end(len(self.groups) - 1):
            start, stop = self.done[self._turn], self._reach(self._turn)
            if stop > start:
                return self._turn, Rect(start, stop, 0, self.width)
            self._turn = (self._turn + 1) % len(self.groups)
        return None

    def end(self, index: int) -> int:
        """Return the row after the last one of a group's output."""
        return self.starts[index] + self.height

    def commit(self, index: int, stop: int) -> None:
        """Record that group `index` has finished all rows above `stop`, and pass the turn on."""
        self.done[index] = stop
        self._turn = (index + 1) % len(self.groups)

    def tiles(self, index: int, chunk: Rect) -> Iterator[Rect]:
        """Yield the tiles of a group that cover a row chunk or a part of one.

        A tile with its halo has no more pixels than a square of the group's side with its halo.
        """
        side, around = self.side(index), 2 * self.groups[index].halo
        rows = min(side, chunk.height)
        return chunk.tiles(rows, (side + around) ** 2 // (rows + around) - around)

    def side(self, index: int) -> int:
        """Return the tile side of a group: smaller if the group holds more values per pixel."""
        ratio = self._reference / self.groups[index].workspace
        return max(int(max(self.tile, self.minimum.side) * sqrt(min(ratio, 1.0))), SMALLEST_SIDE)

    def first_needed(self, source: int) -> int:
        """Return the first row of a group's output that is still to be read, from `-MARGIN` on.

        The result lies beyond the last row and its margin if all rows have been read.
        """
        return min(
            (
                self.end(reader) + MARGIN
                if self.done[reader] == self.end(reader)
                else max(self.done[reader] - self.groups[reader].halo, -MARGIN)
                for reader in self._readers[source]
            ),
            default=self.end(source) + MARGIN,
        )

    def kept_rows(self, source: int) -> int:
        """Return how many first rows of a group's output are read again at the end."""
        if not self.wrap.rows:
            return 0
        return min(_rows_ahead(self.groups, self.starts, source, self._readers), self.height)

    def last_reader_in_turn(self, source: int) -> int:
        """Return the last group that reads a group's output."""
        return max(self._readers[source])

    def remaining(self) -> int:
        """Return the number of tiles that remain at the current tile size."""
        size = self.height, self.width
        ahead = Schedule(self.groups, *size, self.tile, self.minimum, wrap=self.wrap)
        ahead.done, ahead._turn = list(self.done), self._turn
        count = 0
        while (step := ahead.next()) is not None:
            index, chunk = step
            count += sum(1 for _ in ahead.tiles(index, chunk))
            ahead.commit(index, chunk.bottom)
        return count

    def _reach(self, index: int) -> int:
        """Return the row up to which a group may advance now."""
        reach = self.done[index] + max(self.tile, self.minimum.rows)
        for source in self.groups[index].sources:
            if source != IMAGE and self.done[source] < self.end(source):
                reach = min(reach, self.done[source] - self.groups[index].halo)
        return min(reach, self.end(index))


def readers(groups: Sequence[LayerGroup]) -> list[list[int]]:
    """Return, for each group, the indices of the groups that read its output."""
    result: list[list[int]] = [[] for _ in groups]
    for index, group in enumerate(groups):
        for source in group.sources:
            if source != IMAGE:
                result[source].append(index)
    return result


def _rows_ahead(
    groups: Sequence[LayerGroup],
    behind: Sequence[int],
    writer: int,
    its_readers: Sequence[Sequence[int]],
) -> int:
    """Return the rows of a group's output between its writer and its slowest reader."""
    return max(
        (behind[r] - behind[writer] + groups[r].halo for r in its_readers[writer]), default=0
    )


def lags(groups: Sequence[LayerGroup]) -> list[int]:
    """Return the number of rows that each group stays behind the first one."""
    result: list[int] = []
    for group in groups:
        behind = [0 if source == IMAGE else result[source] for source in group.sources]
        image_only = all(source == IMAGE for source in group.sources)
        result.append(max(behind) + (0 if image_only else group.halo))
    return result


@dataclass(frozen=True, slots=True)
class Plan:
    """Values (not bytes) that a run holds at its peak, input and output image excluded.

    With W the image's width, C the channels of a feature map, h the halo of a group, t the tile:

        carried   = sum over maps of W * C * min(lag(reader) - lag(writer) + h(reader), height)
        chunks    = W * (min(t, height) + 2 * max(h)) * C of the maps in use at once, at most
        workspace = max over groups of workspace * min((side + 2 * h)**2, height * W)

    If the rows of the image repeat, the carried rows of all maps are kept once more.

    A feature map is in use from its writer's turn to its slowest reader's turn. Carried rows are
    the rows between the two after a row chunk has passed. No term grows with the image's height.
    `benchmarks/memory.py` compares the plan with measurements: processes held 0.5 to 2.1 times
    their plan, because the allocator keeps freed tiles.
    """

    carried: int
    chunks: int
    workspace: int

    @property
    def feature_maps(self) -> int:
        """Values of all feature maps between the groups."""
        return self.carried + self.chunks

    @property
    def values(self) -> int:
        """All values: feature maps and workspace."""
        return self.feature_maps + self.workspace


def plan(
    groups: Sequence[LayerGroup],
    height: int,
    width: int,
    tile: int,
    minimum: MinimumTile = NO_MINIMUM,
    *,
    wrap: Wrap = NO_WRAP,
) -> Plan:
    """Plan the memory of a run over `height` x `width` feature pixels; see `Schedule`."""
    chunk = min(max(tile, minimum.rows), height)
    rows = chunk + 2 * max(group.halo for group in groups)
    times = (chunk < height) + wrap.rows
    return Plan(
        carried=times * _carried(groups, height, width),
        chunks=width * rows * _channels_in_use(groups),
        workspace=_workspace(Schedule(groups, height, width, tile, minimum)),
    )


def _carried(groups: Sequence[LayerGroup], height: int, width: int) -> int:
    behind, its_readers = lags(groups), readers(groups)
    return sum(
        width * group.channels * min(_rows_ahead(groups, behind, writer, its_readers), height)
        for writer, group in enumerate(groups)
    )


def _channels_in_use(groups: Sequence[LayerGroup]) -> int:
    last = [max(its_readers, default=-1) for its_readers in readers(groups)]
    return max(
        sum(groups[writer].channels for writer in range(turn + 1) if last[writer] >= turn)
        for turn in range(len(groups))
    )


def _workspace(schedule: Schedule) -> int:
    return max(
        group.workspace
        * min((schedule.side(index) + 2 * group.halo) ** 2, schedule.height * schedule.width)
        for index, group in enumerate(schedule.groups)
    )
