from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.models import RRDBNet, RRDBSpec
from upscale.tiling.group import IMAGE
from upscale.tiling.schedule import MARGIN, MinimumTile, Plan, Schedule, lags, phases, plan, readers


@dataclass(frozen=True)
class FakeGroup:
    sources: tuple[int, ...]
    halo: int
    scale: int = 1
    channels: int = 8
    workspace: int = 100
    name: str = "fake"
    means: tuple[int, ...] = ()

    def run(self, sources):
        raise AssertionError("a schedule computes nothing")


@st.composite
def networks(draw):
    count = draw(st.integers(1, 8))
    groups = []
    for index in range(count):
        sources = draw(
            st.sets(st.integers(IMAGE, index - 1), min_size=1, max_size=2).map(sorted).map(tuple)
        )
        means = draw(st.sets(st.integers(0, index - 1), max_size=1)) if index else ()
        groups.append(FakeGroup(sources, draw(st.integers(0, 6)), means=tuple(means)))
    return groups


minimums = st.builds(MinimumTile, rows=st.sampled_from([0, 20]), side=st.sampled_from([0, 64]))


@given(networks(), st.integers(1, 80), st.integers(1, 40), st.integers(4, 50), st.randoms())
def test_every_group_does_every_row_once_after_what_it_reads(groups, height, width, tile, random):
    schedule = Schedule(groups, height, width, tile)
    done = [0] * len(groups)
    while (step := schedule.next()) is not None:
        index, chunk = step
        assert chunk.top == done[index] < chunk.bottom <= height
        assert chunk.height <= schedule.tile
        for source in groups[index].sources:
            needed = min(chunk.bottom + groups[index].halo, height)
            assert source == IMAGE or done[source] >= needed
            assert source == IMAGE or schedule.first_needed(source) <= max(
                chunk.top - groups[index].halo, 0
            )
        for source in groups[index].means:
            assert done[source] == height
            assert chunk.top > 0 or schedule.first_needed(source) == -MARGIN
        done[index] = chunk.bottom
        schedule.commit(index, chunk.bottom)
        if random.random() < 0.1:
            schedule.tile = max(schedule.tile // 2, 4)
    assert done[-1] == height


@given(networks(), st.integers(1, 80), st.integers(1, 40), st.integers(4, 50), minimums)
def test_remaining_counts_the_tiles_that_will_be_done(groups, height, width, tile, minimum):
    schedule = Schedule(groups, height, width, tile, minimum)
    expected, count = schedule.remaining(), 0
    while (step := schedule.next()) is not None:
        index, chunk = step
        count += len(list(schedule.tiles(index, chunk)))
        schedule.commit(index, chunk.bottom)
    assert count == expected


@given(networks(), st.integers(1, 300), st.integers(1, 300), st.integers(4, 50), minimums)
def test_tiles_are_as_large_as_the_plan_allows_and_no_larger(groups, height, width, tile, minimum):
    schedule = Schedule(groups, height, width, tile, minimum)
    while (step := schedule.next()) is not None:
        index, chunk = step
        allowed, around = max(tile, minimum.side), 2 * groups[index].halo
        for rect in schedule.tiles(index, chunk):
            held = (rect.height + around) * (rect.width + around)
            assert held <= (allowed + around) ** 2, "what the plan promises"
            assert rect.height * rect.width <= allowed**2
            assert rect.height <= max(tile, minimum.rows)
        columns = len({rect.left for rect in schedule.tiles(index, chunk)})
        if columns > 1:  # one column less would exceed the pixels that the plan promises
            wider = -(-width // (columns - 1)) + around
            assert (min(allowed, chunk.height) + around) * wider > (allowed + around) ** 2
        schedule.commit(index, chunk.bottom)


@given(networks(), st.integers(1, 80), st.integers(4, 50))
def test_row_chunks_below_the_minimum_are_raised_to_it(groups, height, tile):
    def chunks(schedule):
        while (step := schedule.next()) is not None:
            schedule.commit(step[0], step[1].bottom)
            yield step

    minimum = MinimumTile(rows=50)
    assert list(chunks(Schedule(groups, height, 9, tile, minimum))) == list(
        chunks(Schedule(groups, height, 9, 50))
    )
    assert (
        plan(groups, height, 9, tile, minimum).feature_maps
        == plan(groups, height, 9, 50).feature_maps
    )


def carried_rows(groups, tile, height=4000):
    """Return the most rows of each feature map between its writer and its slowest reader."""
    schedule, most = Schedule(groups, height, 10, tile), [0] * len(groups)
    slowest = [max(its_readers, default=-1) for its_readers in readers(groups)]
    while (step := schedule.next()) is not None:
        index, chunk = step
        schedule.commit(index, chunk.bottom)
        for writer, reader in enumerate(slowest):
            if reader == index:
                kept = schedule.done[writer] - schedule.first_needed(writer)
                most[writer] = max(most[writer], kept)
    return most


def test_a_group_and_all_after_it_wait_for_a_mean():
    groups = [
        FakeGroup((IMAGE,), halo=0),
        FakeGroup((0,), halo=0, means=(0,)),
        FakeGroup((IMAGE,), halo=0),
        FakeGroup((1, 2), halo=0),
    ]
    schedule, steps = Schedule(groups, 8, 9, 4), []
    while (step := schedule.next()) is not None:
        index, chunk = step
        steps.append((index, chunk.bottom))
        schedule.commit(index, chunk.bottom)
    assert steps == [(0, 4), (0, 8), *((index, 4) for index in (1, 2, 3)),
                     *((index, 8) for index in (1, 2, 3))]  # fmt: skip
    assert phases(groups) == [0, 1, 1, 1]
    assert [schedule.is_whole(index) for index in range(4)] == [True, False, False, False]


def test_the_plan_counts_maps_that_are_kept_whole_while_they_are_in_use():
    groups = [
        FakeGroup((IMAGE,), halo=0, channels=3),
        FakeGroup((0,), halo=1, channels=5),  # ends in the phase in which the next one begins
        FakeGroup((1,), halo=0, channels=7, means=(1,)),
        FakeGroup((2,), halo=0, channels=11, means=(2,)),
        FakeGroup((0, 3), halo=2, channels=13),
    ]
    # Phases 0, 0, 1, 2, 2; map 0 is kept through phase 1; map 3 carries 2 + 2 rows.
    assert phases(groups) == [0, 0, 1, 2, 2]
    expected = max(3 + 5, 3 + max(5, 7), max(3 + 7, 0) + 4 * 11 / 100)
    assert plan(groups, 100, 50, 16).carried == 50 * 100 * expected
    assert plan(groups, 100, 50, 16).chunks == 50 * (16 + 2 * 2) * (3 + 7 + 11)


@pytest.mark.parametrize("tile", [16, 100, 512])
def test_feature_maps_carry_as_few_rows_as_planned(tile):
    groups = RRDBNet(RRDBSpec(blocks=4)).layer_groups()
    behind = lags(groups)
    promised = [
        max((behind[r] - behind[writer] + groups[r].halo for r in its_readers), default=0)
        for writer, its_readers in enumerate(readers(groups))
    ]
    kept = carried_rows(groups, tile)
    assert kept[:-1] == promised[:-1]
    assert max(kept[:-1]) == 20
    assert plan(groups, 4000, 10, tile).carried == sum(promised) * 10 * 64


def test_the_plan_of_two_groups_equals_the_formula_by_hand():
    first = FakeGroup((IMAGE,), halo=1, channels=8, workspace=100)
    second = FakeGroup((0,), halo=3, channels=4, workspace=200)
    planned = plan([first, second], height=100, width=50, tile=20)
    assert planned == Plan(
        carried=50 * 8 * (3 + 3), chunks=50 * (20 + 2 * 3) * 8, workspace=200 * (20 + 2 * 3) ** 2
    )
    assert planned.feature_maps == 50 * 8 * (6 + 26)
    assert planned.values == 50 * 8 * (6 + 26) + 200 * 26**2
    whole = plan([first, second], height=20, width=50, tile=20)
    assert (whole.carried, whole.chunks) == (0, planned.chunks), "one row chunk carries no rows"


def test_memory_does_not_grow_with_the_height_of_the_image():
    groups = RRDBNet(RRDBSpec()).layer_groups()
    assert plan(groups, 3000, 4000, 256) == plan(groups, 30000, 4000, 256)


def test_the_tail_gets_smaller_tiles_because_it_holds_more():
    groups = RRDBNet(RRDBSpec(blocks=1)).layer_groups()
    schedule = Schedule(groups, 4000, 4000, 512)
    assert schedule.side(1) == 512
    assert 128 < schedule.side(len(groups) - 1) < 384


def test_a_group_that_cannot_advance_passes_the_turn_on_to_the_next_one():
    groups = [
        FakeGroup((IMAGE,), halo=0),
        FakeGroup((0,), halo=5),
        FakeGroup((0,), halo=0),
        FakeGroup((1, 2), halo=1),
    ]
    schedule, steps = Schedule(groups, 8, 9, 4), []
    while (step := schedule.next()) is not None:
        index, chunk = step
        steps.append((index, chunk.top, chunk.bottom))
        schedule.commit(index, chunk.bottom)
    assert steps == [
        *((0, 0, 4), (2, 0, 4)),
        *((0, 4, 8), (1, 0, 4), (2, 4, 8), (3, 0, 3)),
        *((1, 4, 8), (3, 3, 7), (3, 7, 8)),
    ]


def test_rows_that_nobody_reads_are_not_needed():
    schedule = Schedule([FakeGroup((IMAGE,), halo=1), FakeGroup((0,), halo=2)], 20, 9, 8)
    assert schedule.first_needed(1) == 20 + MARGIN
    assert schedule.first_needed(0) == -MARGIN
    schedule.done = [20, 8]
    assert schedule.first_needed(0) == 6
    schedule.done = [20, 20]
    assert schedule.first_needed(0) == 20 + MARGIN


PLANNED = [
    FakeGroup((IMAGE,), halo=1, channels=3, workspace=10),
    FakeGroup((0,), halo=2, channels=5, workspace=40),
    FakeGroup((1, 0), halo=3, channels=7, workspace=20),
]


@pytest.mark.parametrize(
    ("height", "width", "tile", "minimum", "expected"),
    [
        # Lags 0, 2, 5: 8 rows of 3 channels and 6 rows of 5. Chunks of 16 + 2 * 3 rows.
        (100, 50, 16, MinimumTile(), Plan(50 * (8 * 3 + 6 * 5), 50 * 22 * 8, 40 * 20**2)),
        # A single chunk carries nothing over, and no tile is larger than the image.
        (10, 30, 16, MinimumTile(), Plan(0, 30 * 16 * 8, 40 * 10 * 30)),
        (16, 30, 16, MinimumTile(), Plan(0, 30 * 22 * 8, 40 * 20**2)),
        # Maps are no higher than the image.
        (7, 50, 4, MinimumTile(), Plan(50 * (7 * 3 + 6 * 5), 50 * 10 * 8, 40 * 8**2)),
        (100, 50, 16, MinimumTile(20, 24), Plan(2700, 50 * 26 * 8, 40 * 28**2)),
    ],
)
def test_the_plan_is_the_sum_of_its_parts(height, width, tile, minimum, expected):
    result = plan(PLANNED, height, width, tile, minimum)
    assert result == expected
    assert result.feature_maps == expected.carried + expected.chunks
    assert result.values == expected.carried + expected.chunks + expected.workspace


def test_a_tile_side_shrinks_with_the_root_of_the_workspace():
    groups = [*PLANNED, FakeGroup((2,), halo=0, scale=2, workspace=160)]
    schedule = Schedule(groups, 100, 100, 16)
    assert [schedule.side(index) for index in range(4)] == [16, 16, 16, 8]
    schedule.tile = 6
    assert schedule.side(3) == 4, "the smallest side"
    groups = [FakeGroup((IMAGE,), 0, scale=2, workspace=100), FakeGroup((0,), 0, 2, workspace=400)]
    assert [Schedule(groups, 100, 100, 16).side(index) for index in range(2)] == [16, 8]
