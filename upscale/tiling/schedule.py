"""In which order the groups advance over an image, in integers only.

The groups advance in turn, each by at most one band of `tile` rows and never further than its
sources allow, so that a band travels through the network before the next one starts. A plane then
needs only the few rows that lie between its writer and its slowest reader, never the whole image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

from upscale.tiling.grid import Rect
from upscale.tiling.group import IMAGE, LayerGroup

SMALLEST_SIDE = 4

MARGIN = 1
"""Pixels around the image that planes hold as zeros, for groups without padding of their own."""


@dataclass(frozen=True, slots=True)
class MinimumTile:
    """What tiles are not cut below although they might be, because each has fixed costs.

    Attributes:
        rows: of a band.
        side: of a square that has as many pixels as a tile.
    """

    rows: int = 0
    side: int = 0


NO_MINIMUM = MinimumTile()


class Schedule:
    """The rows that each group has done, and the next rows to do.

    `tile` and `floor` may be lowered at any time; the rest is then done in smaller pieces.

    Args:
        groups: the network.
        height: rows of a plane.
        width: columns of a plane.
        tile: rows of a band; it is cut into tiles of about as many pixels as a square of this side.
        floor: takes the place of a lower `tile`.
    """

    def __init__(
        self,
        groups: Sequence[LayerGroup],
        height: int,
        width: int,
        tile: int,
        floor: MinimumTile = NO_MINIMUM,
    ) -> None:
        self.groups = groups
        self.height = height
        self.width = width
        self.tile = tile
        self.floor = floor
        self.done = [0] * len(groups)
        self._turn = 0
        self._readers = readers(groups)
        self._reference = max(
            (group.workspace for group in groups if group.scale == 1), default=groups[0].workspace
        )

    def next(self) -> tuple[int, Rect] | None:
        """The next group to advance and the rows to give it; None when the image is done."""
        while self.done[-1] < self.height:
            start, stop = self.done[self._turn], self._reach(self._turn)
            if stop > start:
                return self._turn, Rect(start, stop, 0, self.width)
            self._turn = (self._turn + 1) % len(self.groups)
        return None

    def commit(self, index: int, stop: int) -> None:
        """Record that group `index` has done all rows above `stop`; the next group has its turn."""
        self.done[index] = stop
        self._turn = (index + 1) % len(self.groups)

    def cut(self, index: int, band: Rect) -> Iterator[Rect]:
        """The tiles of a group that make up a band, or a part of one.

        With its halo a tile has no more pixels than a square of the group's side would have.
        """
        side, around = self.side(index), 2 * self.groups[index].halo
        rows = min(side, band.height)
        return band.cut(rows, (side + around) ** 2 // (rows + around) - around)

    def side(self, index: int) -> int:
        """Of a square as large as a group's tiles: smaller if it holds more values per pixel."""
        ratio = self._reference / self.groups[index].workspace
        return max(int(max(self.tile, self.floor.side) * sqrt(min(ratio, 1.0))), SMALLEST_SIDE)

    def first_needed(self, plane: int) -> int:
        """The first row of a plane that some group still has to read, from `-MARGIN` on.

        `height + MARGIN` when none has.
        """
        return min(
            (
                self.height + MARGIN
                if self.done[reader] == self.height
                else max(self.done[reader] - self.groups[reader].halo, -MARGIN)
                for reader in self._readers[plane]
            ),
            default=self.height + MARGIN,
        )

    def last_reader_in_turn(self, plane: int) -> int:
        """The last group that reads a plane."""
        return max(self._readers[plane])

    def remaining(self) -> int:
        """How many tiles are left with the present tile size."""
        ahead = Schedule(self.groups, self.height, self.width, self.tile, self.floor)
        ahead.done, ahead._turn = list(self.done), self._turn
        count = 0
        while (step := ahead.next()) is not None:
            index, band = step
            count += sum(1 for _ in ahead.cut(index, band))
            ahead.commit(index, band.bottom)
        return count

    def _reach(self, index: int) -> int:
        """The row up to which a group may advance now."""
        reach = self.done[index] + max(self.tile, self.floor.rows)
        for source in self.groups[index].sources:
            reach = min(reach, self._available(source, self.groups[index].halo))
        return reach

    def _available(self, source: int, halo: int) -> int:
        written = self.height if source == IMAGE else self.done[source]
        return self.height if written == self.height else written - halo


def readers(groups: Sequence[LayerGroup]) -> list[list[int]]:
    """For each group, the groups that read its output."""
    found: list[list[int]] = [[] for _ in groups]
    for index, group in enumerate(groups):
        for source in group.sources:
            if source != IMAGE:
                found[source].append(index)
    return found


def lags(groups: Sequence[LayerGroup]) -> list[int]:
    """How many rows each group stays behind the first one while the image goes on."""
    result: list[int] = []
    for group in groups:
        behind = [0 if source == IMAGE else result[source] for source in group.sources]
        image_only = all(source == IMAGE for source in group.sources)
        result.append(max(behind) + (0 if image_only else group.halo))
    return result


@dataclass(frozen=True, slots=True)
class Plan:
    """Values (not bytes) that a run holds at its peak, the images themselves not counted.

    With W the image's width, C a plane's channels, h a group's halo, t the tile:

        strips    = sum over planes of W * C * min(lag(reader) - lag(writer) + h(reader), height)
        bands     = W * (min(t, height) + 2 * max(h)) * C of the planes in use at once, at most
        workspace = max over groups of workspace * min((side + 2 * h)**2, height * W)

    A plane is in use from its writer's turn to its slowest reader's; its strip is what lies between
    the two when the band has passed. No term grows with the image's height.
    `benchmarks/memory.py` measures it: a process held 0.5 to 2.1 times its plan, the rest being
    freed tiles that the allocator keeps.
    """

    strips: int
    bands: int
    workspace: int

    @property
    def planes(self) -> int:
        """What lives between the groups."""
        return self.strips + self.bands

    @property
    def values(self) -> int:
        """Everything."""
        return self.planes + self.workspace


def plan(
    groups: Sequence[LayerGroup],
    height: int,
    width: int,
    tile: int,
    floor: MinimumTile = NO_MINIMUM,
) -> Plan:
    """How much a run over an image of `height` x `width` plane pixels holds; see `Schedule`."""
    band = min(max(tile, floor.rows), height)
    rows = band + 2 * max(group.halo for group in groups)
    return Plan(
        strips=_strips(groups, height, width) if band < height else 0,
        bands=width * rows * _channels_in_use(groups),
        workspace=_workspace(Schedule(groups, height, width, tile, floor)),
    )


def _strips(groups: Sequence[LayerGroup], height: int, width: int) -> int:
    behind = lags(groups)
    return sum(
        width
        * groups[plane].channels
        * min(max(behind[r] - behind[plane] + groups[r].halo for r in found), height)
        for plane, found in enumerate(readers(groups))
        if found
    )


def _channels_in_use(groups: Sequence[LayerGroup]) -> int:
    last = [max(found, default=-1) for found in readers(groups)]
    return max(
        sum(groups[plane].channels for plane in range(turn + 1) if last[plane] >= turn)
        for turn in range(len(groups))
    )


def _workspace(schedule: Schedule) -> int:
    return max(
        group.workspace
        * min((schedule.side(index) + 2 * group.halo) ** 2, schedule.height * schedule.width)
        for index, group in enumerate(schedule.groups)
    )
