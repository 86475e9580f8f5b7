"""Keep encoders from taking real-time priority."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

_THREADS = Path("/proc/self/task")


@contextmanager
def ordinary_priority() -> Generator[None]:
    """Take back the real-time priority that threads get in the block.

    Run by root, SVT-AV1 gives the highest one to its threads and to the thread that opens it, and
    leaves it there. On few cores, these and all programs that they start would starve everything
    else on the machine. Threads that had a real-time priority before keep it.

    Example:
        >>> with ordinary_priority():
        ...     pass
    """
    before = _real_time_threads()
    try:
        yield
    finally:
        for thread in _real_time_threads() - before:
            _make_ordinary(thread)


def _real_time_threads() -> set[int]:
    """Return the threads of this process that have a real-time priority; none but on Linux."""
    if sys.platform != "linux":
        return set()
    found: set[int] = set()
    for thread in (int(path.name) for path in _THREADS.iterdir()):
        with suppress(OSError):  # the thread has ended
            if os.sched_getscheduler(thread) in (os.SCHED_FIFO, os.SCHED_RR):
                found.add(thread)
    return found


def _make_ordinary(thread: int) -> None:
    if sys.platform == "linux":
        with suppress(OSError):
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
