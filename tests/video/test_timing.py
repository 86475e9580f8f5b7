"""Times are put in order where a video's own do not tell it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.video.timing import in_order


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
def test_times_that_fit_stay_and_others_go_between(times, ordered):
    assert in_order(times, 10) == ordered


def test_a_clock_that_jumps_back_goes_on_instead():
    first = [10_000 + 10 * number for number in range(60)]
    second = [10 * number for number in range(50)]
    assert in_order(first + second, 10) == [10_000 + 10 * number for number in range(110)]


def test_a_single_stray_does_not_move_the_others():
    times = [10 * number for number in range(100)]
    assert in_order([*times[:30], 10**9, *times[31:]], 10) == times


@given(st.lists(st.none() | st.integers(-1000, 1000)), st.integers(1, 50))
def test_times_always_increase(times, step):
    found = in_order(times, step)
    assert len(found) == len(times)
    assert all(before < after for before, after in pairwise(found))
