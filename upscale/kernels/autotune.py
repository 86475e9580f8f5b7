"""Comparison of results and timing of work, for autotuning kernels on the device."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from torch import Tensor

ROUNDS = 5

CUSHION_BYTES, CUSHIONS = 1 << 28, 8
"""Size of a buffer and number of times that it is cleared to keep a GPU busy: half a millisecond at
4 TB/s."""

MAX_ULPS, MEAN_ULPS = 8, 2
"""Tolerance of `agree`: the largest difference in units of the last place of the largest value, and
the mean difference in units of the last place of the mean. Layer groups of three official networks
differed by 1.3 and 0.5 when they were rounded in other places."""

Stopwatch = Callable[[Callable[[], object]], float]
"""Function that runs a piece of work and returns its time in seconds."""


def agree(result: Tensor, reference: Tensor) -> bool:
    """Return whether two results in half precision differ by no more than rounding explains.

    Results that are not finite never agree.
    """
    unit = torch.finfo(reference.dtype).eps
    difference, size = (result.float() - reference.float()).abs(), reference.float().abs()
    max_agrees = difference.max() <= MAX_ULPS * unit * size.max()
    return bool(max_agrees & (difference.mean() <= MEAN_ULPS * unit * size.mean()))


def kernel_seconds(work: Callable[[], object]) -> float:
    """Return the median time of a few runs on the current CUDA device, after one warm-up run.

    The device is kept busy until the work is queued, so that only its own time is measured, also of
    work that takes less time than its launch.
    """
    cushion = torch.empty(CUSHION_BYTES, dtype=torch.uint8, device="cuda")
    work()
    times: list[float] = []
    for _ in range(ROUNDS):
        for _ in range(CUSHIONS):
            cushion.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)
