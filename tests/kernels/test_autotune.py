"""Timing on GPUs, with a stand-in for the GPU."""

from __future__ import annotations

import pytest
import torch

from upscale.kernels import autotune


@pytest.fixture
def events(monkeypatch):
    """Record the calls to a stand-in device whose clock advances by whole milliseconds."""
    calls, times = [], iter([0, 3, 10, 11, 20, 27, 30, 32, 40, 44])

    class Event:
        def __init__(self, *, enable_timing):
            assert enable_timing

        def record(self):
            self.time = next(times)
            calls.append("event")

        def synchronize(self):
            calls.append("wait")

        def elapsed_time(self, other):
            return other.time - self.time

    class Cushion:
        def zero_(self):
            calls.append("zero")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch, "empty", lambda *_, **options: Cushion())
    return calls


def test_short_work_is_queued_while_the_device_is_busy(events):
    assert autotune.kernel_seconds(lambda: events.append("work")) == 3e-3
    busy = ["zero"] * autotune.CUSHIONS
    assert events == ["work"] + [*busy, "event", "work", "event", "wait"] * autotune.ROUNDS
