"""Frames that count as repeated."""

from __future__ import annotations

import numpy as np
import pytest

from upscale.video.duplicates import RepeatFinder
from upscale.video.planes import plane_format

NOISE = np.random.default_rng(5)


def planes(level=100, depth=8):
    dtype = np.uint8 if depth == 8 else np.uint16
    return tuple(np.full(shape, level << depth - 8, dtype) for shape in ((40, 50), (20, 25)))


def noisy(frame, strength, depth=8):
    return tuple(
        (each + NOISE.integers(-strength, strength + 1, each.shape) * (1 << depth - 8)).astype(
            each.dtype
        )
        for each in frame
    )


def found(frames, duplicates, parts=(), depth=8):
    name = "yuv420p" if depth == 8 else "yuv420p10le"
    finder = RepeatFinder(plane_format(name), duplicates, parts)
    return [finder.repeats(number, frame) for number, frame in enumerate(frames)]


@pytest.mark.parametrize("depth", [8, 10])
def test_noise_of_a_codec_is_a_repetition_only_on_request(depth):
    frames = [planes(100, depth), noisy(planes(100, depth), 2, depth), planes(100, depth)]
    assert found(frames, "exact", depth=depth) == [False, False, False]
    assert found(frames, "near", depth=depth) == [False, True, True]
    assert found([frames[0], frames[0]], "exact", depth=depth) == [False, True]


def test_a_small_thing_that_moves_is_no_repetition():
    moved = planes()
    moved[0][36:40, 46:50] = 160  # in a block that the border cuts
    assert found([planes(), moved], "near") == [False, False]


def test_slow_changes_add_up():
    frames = [planes(100 + number) for number in range(7)]
    assert found(frames, "near") == [False, True, True, False, True, True, False]


def test_each_part_begins_anew_wherever_reading_starts():
    frames = [planes(100)] * 6
    assert found(frames, "near", parts=(0, 3)) == [False, True, True, False, True, True]
    finder = RepeatFinder(plane_format("yuv420p"), "near", (0, 3))
    assert [finder.repeats(number, planes(100)) for number in (3, 4)] == [False, True]
