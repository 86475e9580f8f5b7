"""The order in which layer groups advance over an image, in integers only.

The groups take turns. In its turn, a group advances by at most one chunk of `tile` rows, and no
further than its sources allow. A row chunk therefore passes through the network before the next
one starts, and a feature map holds only the few rows between its writer and its slowest reader,
never the whole image.

A group that reads the mean of a whole feature map waits until that map is complete, and so do all
groups after it. It starts a new phase: feature maps that are written in one phase and read in
another are kept whole.

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
        self._oldest = 0  # the first group that has not finished
        self._readers = readers(groups)
        self._lasts = _last_phases(groups)
        self._phases = phases(groups)
        self._reference = max(
            (group.workspace for group in groups if group.scale == 1), default=groups[0].workspace
        )

    def next(self) -> tuple[int, Rect] | None:
        """Return the next group and its row chunk, or None when the image is finished."""
        while self.done[-1] < self.end(len(self.groups) - 1):
            if self._turn == len(self.groups) or self._waits(self._turn):
                self._turn = self._oldest
            start, stop = self.done[self._turn], self._reach(self._turn)
            if stop > start:
                return self._turn, Rect(start, stop, 0, self.width)
            if self._turn == self._oldest and start == self.end(self._turn):
                self._oldest += 1
            self._turn += 1
        return None

    def end(self, index: int) -> int:
        """Return the row after the last one of a group's output."""
        return self.starts[index] + self.height

    def commit(self, index: int, stop: int) -> None:
        """Record that group `index` has finished all rows above `stop`, and pass the turn on."""
        self.done[index] = stop
        self._turn = index + 1

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
            (self._first_read(reader, source) for reader in self._readers[source]),
            default=self.end(source) + MARGIN,
        )

    def is_whole(self, source: int) -> bool:
        """Return whether a group's output is read after the phase in which it is written."""
        return self._lasts[source] > self._phases[source]

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
        ahead.done, ahead._turn, ahead._oldest = list(self.done), self._turn, self._oldest
        count = 0
        while (step := ahead.next()) is not None:
            index, chunk = step
            count += sum(1 for _ in ahead.tiles(index, chunk))
            ahead.commit(index, chunk.bottom)
        return count

    def _waits(self, index: int) -> bool:
        """Return whether a group waits for the mean of a feature map that is not complete."""
        return any(self.done[source] < self.end(source) for source in self.groups[index].means)

    def _first_read(self, reader: int, source: int) -> int:
        """Return the first row of a group's output that a reader still needs."""
        group, done = self.groups[reader], self.done[reader]
        if done == self.end(reader):
            return done + MARGIN
        if source in group.means and done == self.starts[reader]:
            return self.starts[source] - MARGIN
        return max(done - group.halo, -MARGIN)

    def _reach(self, index: int) -> int:
        """Return the row up to which a group may advance now."""
        reach = self.done[index] + max(self.tile, self.minimum.rows)
        for source in self.groups[index].sources:
            if source != IMAGE and self.done[source] < self.end(source):
                reach = min(reach, self.done[source] - self.groups[index].halo)
        if index == len(self.groups) - 1:  # a row chunk of the output ends at the last row
            reach = min(reach, (self.done[index] // self.height + 1) * self.height)
        return min(reach, self.end(index))


def readers(groups: Sequence[LayerGroup]) -> list[list[int]]:
    """Return, for each group, the indices of the groups that read its output."""
    result: list[list[int]] = [[] for _ in groups]
    for index, group in enumerate(groups):
        for source in {*group.sources, *group.means} - {IMAGE}:
            result[source].append(index)
    return result


def phases(groups: Sequence[LayerGroup]) -> list[int]:
    """Return the phase of each group: one more with each mean that has to be waited for."""
    result: list[int] = []
    for group in groups:
        now = result[-1] if result else 0
        result.append(now + any(result[source] == now for source in group.means))
    return result


def _last_phases(groups: Sequence[LayerGroup]) -> list[int]:
    """Return the phase in which the output of each group is read for the last time."""
    phase = phases(groups)
    return [
        max((phase[reader] for reader in its_readers), default=phase[writer])
        for writer, its_readers in enumerate(readers(groups))
    ]


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

        carried   = sum over maps of W * C * min(lag(reader) - lag(writer) + h(reader), height);
                    the largest sum of a phase, with W * C * height for each map of several phases
        chunks    = W * (min(t, height) + 2 * max(h)) * C of the maps in use at once, at most
        workspace = max over groups of workspace * min((side + 2 * h)**2, height * W)

    If the rows of the image repeat, the carried rows of all maps are kept once more.

    A feature map is in use from its writer's turn to its slowest reader's turn. Carried rows are
    the rows between the two after a row chunk has passed. No term grows with the image's height,
    unless a group reads the mean of a whole map. Maps that end in a phase are then released row
    chunk by row chunk while those that begin in it grow, so that the larger of both sums counts.
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
    """Return the values that are carried in the phase that carries most."""
    behind, its_readers = lags(groups), readers(groups)
    phase, last = phases(groups), _last_phases(groups)
    streamed, begun, ended, through = ([0] * (phase[-1] + 1) for _ in range(4))
    for writer, group in enumerate(groups):
        if last[writer] == phase[writer]:
            rows = min(_rows_ahead(groups, behind, writer, its_readers), height)
            streamed[phase[writer]] += rows * group.channels
            continue
        begun[phase[writer]] += height * group.channels
        ended[last[writer]] += height * group.channels
        for between in range(phase[writer] + 1, last[writer]):
            through[between] += height * group.channels
    totals = zip(streamed, through, begun, ended, strict=True)
    return width * max(rows + kept + max(new, old) for rows, kept, new, old in totals)


def _channels_in_use(groups: Sequence[LayerGroup]) -> int:
    last = [max(its_readers, default=-1) for its_readers in readers(groups)]
    released = [0] * len(groups)
    in_use = most = 0
    for turn, group in enumerate(groups):
        if last[turn] >= turn:
            in_use += group.channels
            released[last[turn]] += group.channels
        most = max(most, in_use)
        in_use -= released[turn]
    return most


def _workspace(schedule: Schedule) -> int:
    return max(
        group.workspace
        * min((schedule.side(index) + 2 * group.halo) ** 2, schedule.height * schedule.width)
        for index, group in enumerate(schedule.groups)
    )
