from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from upscale.errors import MemoryExhaustedError
from upscale.tiling.blended import BlendedRun, Window, ramp, windows

CPU = torch.device("cpu")


class Canvas:
    def __init__(self, image, scale):
        self.image, self.scale = image, scale
        _, channels, height, width = image.shape
        self.result = torch.full((1, channels, height * scale, width * scale), torch.nan)

    def read(self, rect):
        return self.image[:, :, rect.top : rect.bottom, rect.left : rect.right]

    def write(self, rect, tile):
        rect = rect.times(self.scale)
        place = self.result[:, :, rect.top : rect.bottom, rect.left : rect.right]
        assert place.isnan().all(), "written twice"
        place.copy_(tile)


def double(tile):
    return F.interpolate(tile, scale_factor=2)


@given(st.integers(1, 400), st.integers(1, 40), st.integers(0, 100))
def test_windows_fade_into_each_other_with_weights_that_add_up_to_one(length, overlap, extra):
    total = torch.zeros(length * 2)
    for window in windows(length, 2 * overlap + extra, overlap):
        assert window.stop - window.start <= 2 * overlap + extra
        total[window.start * 2 : window.stop * 2] += ramp(window, 2, CPU)
    assert torch.allclose(total, torch.ones_like(total), atol=1e-6)


@pytest.mark.parametrize("scale", [1, 3])
def test_ramps_are_squared_sines(scale):
    """By the identity sin(x)**2 = (1 - cos(2 * x)) / 2, at the centres of the pixels."""
    weights = ramp(Window(10, 30, fade_in=6, fade_out=4), scale, CPU).tolist()
    assert len(weights) == 20 * scale
    for fade, values in ((6, weights), (4, weights[::-1])):
        centres = [(pixel + 0.5) / (fade * scale) for pixel in range(fade * scale)]
        expected = [(1 - math.cos(math.pi * centre)) / 2 for centre in centres]
        assert values[: fade * scale] == pytest.approx(expected, abs=1e-6)
        assert values[fade * scale] == 1


def test_windows_are_at_least_two_overlaps_wide():
    canvas = Canvas(torch.zeros(1, 1, 40, 40), 1)
    run = BlendedRun(lambda tile: tile, 1, canvas, height=40, width=40, tile=1, overlap=8)
    assert run.tile == 16
    assert windows(40, 16, 8)[:2] == [Window(0, 16, 0, 8), Window(8, 24, 8, 8)]


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 60))
def test_blending_does_not_change_a_pointwise_network(height, width, tile):
    canvas = Canvas(torch.rand(1, 3, height, width), 2)
    run = BlendedRun(double, 2, canvas, height=height, width=width, tile=tile, overlap=8)
    run.run()
    assert torch.allclose(canvas.result, double(canvas.image), atol=1e-6)
    assert run.stats.done == run.stats.total


def test_two_disagreeing_windows_blend_without_a_step():
    calls = iter(range(100))

    def disagree(tile):
        return torch.full_like(tile, float(next(calls) % 2))

    canvas = Canvas(torch.zeros(1, 1, 20, 100), 1)
    BlendedRun(disagree, 1, canvas, height=20, width=100, tile=60, overlap=30).run()
    steps = canvas.result[0, 0, 0].diff().abs()
    assert canvas.result.min() == 0
    assert canvas.result.max() > 0.99
    assert steps.max() < 0.06


def test_out_of_memory_halves_the_window_and_keeps_finished_rows():
    limit = 40

    def hungry(tile):
        if tile.shape[3] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return double(tile)

    canvas = Canvas(torch.rand(1, 3, 150, 150), 2)
    run = BlendedRun(hungry, 2, canvas, height=150, width=150, tile=100, overlap=8)
    run.run()
    assert run.stats.halvings == 2
    assert run.tile <= limit
    assert run.stats.done == run.stats.total
    assert torch.allclose(canvas.result, double(canvas.image), atol=1e-6)


def test_out_of_memory_in_the_middle_keeps_the_rows_above():
    rows_left = [3]

    def failing_later(tile):
        if rows_left[0] == 0 and tile.shape[2] > 30:
            raise MemoryError
        rows_left[0] -= tile.shape[3] > 0 and rows_left[0] > 0
        return double(tile)

    canvas = Canvas(torch.rand(1, 3, 150, 40), 2)
    run = BlendedRun(failing_later, 2, canvas, height=150, width=40, tile=50, overlap=8)
    run.run()
    assert run.stats.halvings == 1
    assert torch.allclose(canvas.result, double(canvas.image), atol=1e-6)


def test_out_of_memory_in_a_write_is_recovered():
    class Scarce(Canvas):
        writes = 0

        def write(self, rect, tile):
            self.writes += 1
            if self.writes == 2:
                raise MemoryError
            super().write(rect, tile)

    canvas = Scarce(torch.rand(1, 3, 150, 40), 2)
    run = BlendedRun(double, 2, canvas, height=150, width=40, tile=50, overlap=8)
    run.run()
    assert run.stats.halvings == 1
    assert run.stats.done == run.stats.total
    assert torch.allclose(canvas.result, double(canvas.image), atol=1e-6)


def test_a_window_of_two_overlaps_is_tried_before_it_fails():
    def hungry(tile):
        if tile.shape[3] > 16:
            raise MemoryError
        return double(tile)

    canvas = Canvas(torch.rand(1, 3, 40, 40), 2)
    run = BlendedRun(hungry, 2, canvas, height=40, width=40, tile=20, overlap=8)
    run.run()
    assert (run.tile, run.stats.halvings) == (16, 1)
    assert torch.allclose(canvas.result, double(canvas.image), atol=1e-6)


def test_memory_exhausted_error_gives_advice():
    def full(tile):
        raise torch.OutOfMemoryError("CUDA out of memory")

    run = BlendedRun(
        full, 1, Canvas(torch.zeros(1, 3, 99, 99), 1), height=99, width=99, tile=64, overlap=8
    )
    with pytest.raises(MemoryExhaustedError, match="use"):
        run.run()


def test_other_errors_pass_through():
    def broken(tile):
        raise RuntimeError("a bug")

    run = BlendedRun(
        broken, 1, Canvas(torch.zeros(1, 3, 9, 9), 1), height=9, width=9, tile=64, overlap=8
    )
    with pytest.raises(RuntimeError, match="a bug"):
        run.run()
