"""Where the images of a batch are computed: an interface that the batch uses for every place."""

from __future__ import annotations

from concurrent.futures import Future
from queue import SimpleQueue
from typing import Protocol

from upscale.jobs.events import Event, JobResult
from upscale.jobs.image import ImageJob


class Executor(Protocol):
    """Compute jobs, on local devices or on other machines.

    All methods are called by one thread, and none of them waits, except `close`.

    Attributes:
        devices: Names of the devices, as they are shown.
        limit: Number of jobs to submit before the first of them has its result.
        events: Queue of events. Each entry wakes the batch, also None, which is no event.
    """

    devices: tuple[str, ...]
    limit: int
    events: SimpleQueue[Event | None]

    def submit(self, job: ImageJob) -> Future[JobResult]:
        """Accept a job; its future gets a result in each case, and never an error."""
        ...

    def collect(self) -> None:
        """Complete the futures of jobs that have ended."""
        ...

    def start(self) -> None:
        """Start jobs where there is room.

        Raises:
            UsageError: The request is impossible.
        """
        ...

    def close(self) -> None:
        """Stop; wait for the outputs that are being written, and complete their futures."""
        ...
