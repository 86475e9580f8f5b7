from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upscale.models import RRDBNet, RRDBSpec
from upscale.tiling.group import IMAGE
from upscale.tiling.schedule import MinimumTile, Schedule, lags, plan, readers


@dataclass(frozen=True)
class FakeStage:
    sources: tuple[int, ...]
    halo: int
    scale: int = 1
    channels: int = 8
    workspace: int = 100
    name: str = "fake"

    def run(self, planes):
        raise AssertionError("a schedule computes nothing")


@st.composite
def networks(draw):
    count = draw(st.integers(1, 8))
    groups = []
    for index in range(count):
        sources = draw(
            st.sets(st.integers(IMAGE, index - 1), min_size=1, max_size=2).map(sorted).map(tuple)
        )
        groups.append(FakeStage(sources, draw(st.integers(0, 6))))
    return groups


floors = st.builds(MinimumTile, rows=st.sampled_from([0, 20]), side=st.sampled_from([0, 64]))


@settings(deadline=None)
@given(networks(), st.integers(1, 80), st.integers(1, 40), st.integers(4, 50), st.randoms())
def test_every_group_does_every_row_once_after_what_it_reads(groups, height, width, tile, random):
    schedule = Schedule(groups, height, width, tile)
    done = [0] * len(groups)
    while (step := schedule.next()) is not None:
        index, band = step
        assert band.top == done[index] < band.bottom <= height
        assert band.height <= schedule.tile
        for source in groups[index].sources:
            needed = min(band.bottom + groups[index].halo, height)
            assert source == IMAGE or done[source] >= needed
            assert source == IMAGE or schedule.first_needed(source) <= max(
                band.top - groups[index].halo, 0
            )
        done[index] = band.bottom
        schedule.commit(index, band.bottom)
        if random.random() < 0.1:
            schedule.tile = max(schedule.tile // 2, 4)
    assert done[-1] == height


@settings(deadline=None)
@given(networks(), st.integers(1, 80), st.integers(1, 40), st.integers(4, 50), floors)
def test_remaining_counts_the_tiles_that_will_be_done(groups, height, width, tile, floor):
    schedule = Schedule(groups, height, width, tile, floor)
    expected, count = schedule.remaining(), 0
    while (step := schedule.next()) is not None:
        index, band = step
        count += len(list(schedule.cut(index, band)))
        schedule.commit(index, band.bottom)
    assert count == expected


@settings(deadline=None)
@given(networks(), st.integers(1, 300), st.integers(1, 300), st.integers(4, 50), floors)
def test_tiles_have_the_pixels_of_the_square_that_is_allowed_and_no_more(
    groups, height, width, tile, floor
):
    schedule = Schedule(groups, height, width, tile, floor)
    while (step := schedule.next()) is not None:
        index, band = step
        allowed, around = max(tile, floor.side), 2 * groups[index].halo
        for rect in schedule.cut(index, band):
            held = (rect.height + around) * (rect.width + around)
            assert held <= (allowed + around) ** 2, "what the plan promises"
            assert rect.height * rect.width <= allowed**2
            assert rect.height <= max(tile, floor.rows)
        columns = len({rect.left for rect in schedule.cut(index, band)})
        if columns > 1:  # one column less would exceed the pixels that the plan promises
            wider = -(-width // (columns - 1)) + around
            assert (min(allowed, band.height) + around) * wider > (allowed + around) ** 2
        schedule.commit(index, band.bottom)


@given(networks(), st.integers(1, 80), st.integers(4, 50))
def test_bands_below_the_floor_are_those_of_the_floor(groups, height, tile):
    def bands(schedule):
        while (step := schedule.next()) is not None:
            schedule.commit(step[0], step[1].bottom)
            yield step

    floor = MinimumTile(rows=50)
    assert list(bands(Schedule(groups, height, 9, tile, floor))) == list(
        bands(Schedule(groups, height, 9, 50))
    )
    assert plan(groups, height, 9, tile, floor).planes == plan(groups, height, 9, 50).planes


def strip_rows(groups, tile, height=4000):
    """The most rows of each plane that lie between writer and slowest reader after its turn."""
    schedule, most = Schedule(groups, height, 10, tile), [0] * len(groups)
    slowest = [max(found, default=-1) for found in readers(groups)]
    while (step := schedule.next()) is not None:
        index, band = step
        schedule.commit(index, band.bottom)
        for plane, reader in enumerate(slowest):
            if reader == index:
                kept = schedule.done[plane] - schedule.first_needed(plane)
                most[plane] = max(most[plane], kept)
    return most


@pytest.mark.parametrize("tile", [16, 100, 512])
def test_planes_keep_as_few_rows_as_the_plan_says(tile):
    groups = RRDBNet(RRDBSpec(blocks=4)).groups()
    behind = lags(groups)
    promised = [
        max((behind[r] - behind[plane] + groups[r].halo for r in found), default=0)
        for plane, found in enumerate(readers(groups))
    ]
    kept = strip_rows(groups, tile)
    assert kept[:-1] == promised[:-1]
    assert max(kept[:-1]) == 20
    assert plan(groups, 4000, 10, tile).strips == sum(promised) * 10 * 64


def test_memory_does_not_grow_with_the_height_of_the_image():
    groups = RRDBNet(RRDBSpec()).groups()
    assert plan(groups, 3000, 4000, 256) == plan(groups, 30000, 4000, 256)


def test_the_tail_gets_smaller_tiles_because_it_holds_more():
    groups = RRDBNet(RRDBSpec(blocks=1)).groups()
    schedule = Schedule(groups, 4000, 4000, 512)
    assert schedule.side(1) == 512
    assert 128 < schedule.side(len(groups) - 1) < 384
