from __future__ import annotations

import pytest

from upscale.app.progress import Progress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_parts_that_several_devices_compute_add_up():
    clock = Clock()
    progress = Progress(10.0, clock=clock)
    assert (progress.fraction, progress.rate, progress.remaining) == (0.0, None, None)
    progress.begin("one", 4.0)
    progress.begin("two", 6.0)
    clock.now += 5
    progress.advance("one", 0.5)
    progress.advance("two", 0.5)
    assert progress.fraction == 0.5
    assert (progress.rate, progress.remaining) == (1.0, 5.0)
    progress.finish("one", 4.0)
    assert progress.fraction == 0.7


def test_work_of_an_earlier_run_does_not_count_for_the_rate():
    clock = Clock()
    progress = Progress(100.0, "frames", done=60.0, earlier=60.0, clock=clock)
    progress.begin("video", 0.0)
    clock.now += 10
    progress.done = 80.0
    assert progress.rate == pytest.approx(2)
    assert progress.remaining == pytest.approx(10)
    progress.end()
    clock.now += 50
    assert (progress.seconds, progress.remaining) == (10.0, None)
