"""Progress of a task: the part that is done, the rate, and the time that is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic


@dataclass(slots=True)
class Progress:
    """Work that is done in steps, several of them at a time.

    Attributes:
        total: All work in its unit; 0 while it is unknown.
        unit: Unit, for example `MP` for megapixels of output, or `frames`.
        done: Finished work.
        earlier: Work that an earlier run did, which does not count for the rate.
        clock: Function that returns seconds.
    """

    total: float = 0.0
    unit: str = "MP"
    done: float = 0.0
    earlier: float = 0.0
    clock: Callable[[], float] = monotonic
    _current: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    _start: float | None = None
    _stop: float | None = None

    def begin(self, device: str, work: float) -> None:
        """Begin a part of the work on a device; the clock starts with the first one."""
        self._start = self.clock() if self._start is None else self._start
        self._current[device] = (work, 0.0)

    def advance(self, device: str, part: float) -> None:
        """Set which part, 0..1, of its current work a device has done."""
        work, _ = self._current.get(device, (0.0, 0.0))
        self._current[device] = (work, min(max(part, 0.0), 1.0))

    def finish(self, device: str | None, work: float) -> None:
        """Count work as finished, after a device has done it."""
        if device is not None:
            self._current.pop(device, None)
        self.done = min(self.done + work, self.total) if self.total else self.done

    def end(self) -> None:
        """Stop the clock."""
        self._stop = self.clock()
        self._current.clear()

    @property
    def fraction(self) -> float:
        """The part of all work that is done, 0..1."""
        if not self.total:
            return 0.0
        running = sum(work * part for work, part in self._current.values())
        return min((self.done + running) / self.total, 1.0)

    @property
    def seconds(self) -> float:
        """Seconds since the computation began."""
        if self._start is None:
            return 0.0
        return (self.clock() if self._stop is None else self._stop) - self._start

    @property
    def rate(self) -> float | None:
        """Work per second, None before any is done."""
        work = self.fraction * self.total - self.earlier
        return work / self.seconds if work > 0 and self.seconds > 0 else None

    @property
    def remaining(self) -> float | None:
        """Seconds that are left at this rate, None if that is unknown."""
        rate = self.rate
        if rate is None or self._stop is not None:
            return None
        return self.total * (1 - self.fraction) / rate

    def record(self) -> dict[str, object]:
        """Return the progress for the page."""
        return {
            "fraction": self.fraction,
            "unit": self.unit,
            "rate": self.rate,
            "remaining": self.remaining,
            "seconds": self.seconds,
        }
