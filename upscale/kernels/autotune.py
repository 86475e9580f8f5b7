"""Whether a faster way gives the same, and how long it takes: asked on the device that computes."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from torch import Tensor

ROUNDS = 5

CUSHION_BYTES, CUSHIONS = 1 << 28, 8
"""What is overwritten, and how often, to keep a GPU busy: half a millisecond at 4 TB/s."""

FURTHEST, TYPICAL = 8, 2
"""How many units of the last place of the largest value two results may differ by at most, and of
the mean value on the average. Groups of three official networks, rounded in other places, differed
by 1.3 and 0.5."""

Stopwatch = Callable[[Callable[[], object]], float]
"""Seconds that a piece of work takes."""


def agree(found: Tensor, wanted: Tensor) -> bool:
    """Whether two results in half precision differ by no more than rounding explains.

    Results that are not finite agree with nothing.
    """
    unit = torch.finfo(wanted.dtype).eps
    distance, size = (found.float() - wanted.float()).abs(), wanted.float().abs()
    furthest = distance.max() <= FURTHEST * unit * size.max()
    return bool(furthest & (distance.mean() <= TYPICAL * unit * size.mean()))


def device_seconds(work: Callable[[], object]) -> float:
    """The median time of a few runs on the current CUDA device, after one that is not counted."""
    return _median(work, lambda: None)


def kernel_seconds(work: Callable[[], object]) -> float:
    """The same for work that is done sooner than the host can ask for it.

    The device is kept busy until it has been asked, so that its own time is measured.
    """
    cushion = torch.empty(CUSHION_BYTES, dtype=torch.uint8, device="cuda")

    def busy() -> None:
        for _ in range(CUSHIONS):
            cushion.zero_()

    return _median(work, busy)


def _median(work: Callable[[], object], before: Callable[[], None]) -> float:
    work()
    found: list[float] = []
    for _ in range(ROUNDS):
        before()
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        work()
        ended.record()
        ended.synchronize()
        found.append(began.elapsed_time(ended) / 1e3)
    return statistics.median(found)
