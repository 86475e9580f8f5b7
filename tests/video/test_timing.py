"""Unusable timestamps are replaced by increasing ones."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.video.timing import increasing_times


@pytest.mark.parametrize(
    ("times", "ordered"),
    [
        ([], []),
        ([None, None, None], [0, 10, 20]),
        ([5, 15, 25], [5, 15, 25]),
        ([5, 25, 15, 35], [5, 15, 25, 35]),
        ([0, 10, None, 30], [0, 10, 20, 30]),
        ([None, 10, 20, None], [0, 10, 20, 30]),
        ([0, 40, 40, 80], [0, 20, 40, 80]),
    ],
)
def test_consistent_times_are_kept_and_others_interpolated(times, ordered):
    assert increasing_times(times, 10) == ordered


def test_clock_that_jumps_back_is_continued():
    first = [10_000 + 10 * number for number in range(60)]
    second = [10 * number for number in range(50)]
    assert increasing_times(first + second, 10) == [10_000 + 10 * number for number in range(110)]


def test_single_outlier_does_not_move_other_times():
    times = [10 * number for number in range(100)]
    assert increasing_times([*times[:30], 10**9, *times[31:]], 10) == times


@given(st.lists(st.none() | st.integers(-1000, 1000)), st.integers(1, 50))
def test_times_strictly_increase(times, step):
    found = increasing_times(times, step)
    assert len(found) == len(times)
    assert all(before < after for before, after in pairwise(found))
