"""Measurement of the time that the phases of a run take."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Measures phases of work, on a GPU by its own clock and without synchronisation.

    Args:
        device: Device of the work.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._marks: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._started = time.perf_counter()

    @contextmanager
    def phase(self, name: str, *, waiting: bool = False) -> Generator[None]:
        """Add the time of the block to a phase; for a `waiting` one, the time of this process."""
        if self._on_gpu and not waiting:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            yield
            last.record()
            self._marks.append((name, first, last))
            return
        started = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - started

    def read(self) -> tuple[float, dict[str, float]]:
        """Return the seconds since the last call, and the share of each phase, 0 to 1."""
        if self._marks:
            torch.cuda.synchronize()
        for name, first, last in self._marks:
            self._seconds[name] += first.elapsed_time(last) / 1000
        now = time.perf_counter()
        elapsed = max(now - self._started, 1e-9)
        shares = {name: seconds / elapsed for name, seconds in self._seconds.items()}
        self._started = now
        self._seconds.clear()
        self._marks.clear()
        return elapsed, shares
