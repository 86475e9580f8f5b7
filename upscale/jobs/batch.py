"""Many images: the next are read and the last written while others are computed.

One thread per device computes, a few threads read and write, and the calling thread hands out the
work and reports. At most `jobs` images are in flight beside those that are computed, whatever the
batch holds.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, BinaryIO

from upscale.errors import UpscaleError, UsageError
from upscale.images import ImageSequence, remove_stale_temporaries
from upscale.jobs.events import (
    Advanced,
    Event,
    Finished,
    JobResult,
    Listener,
    Planned,
    Started,
    Status,
    path_text,
)
from upscale.jobs.image import ImageJob, ImageUpscaler
from upscale.jobs.image_steps import Content, WriteSettings, check, load, store, upscale
from upscale.jobs.interrupts import whole_step
from upscale.jobs.plan import Plan, settled
from upscale.jobs.workers import Devices, Worker

if TYPE_CHECKING:
    from upscale.engine.upscaler import Report

_LONGEST_WAIT = 0.2
"""Seconds; Windows interrupts no wait."""


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """How a batch runs: `jobs` bounds the threads that read and write (1: nothing overlaps)."""

    jobs: int = 2
    max_pixels: int | None = None
    write: WriteSettings = field(default_factory=WriteSettings)


def run_batch(
    plan: Plan,
    settings: BatchSettings,
    devices: Devices,
    listener: Listener,
    stdout: BinaryIO | None = None,
) -> list[JobResult]:
    """Do every job of a plan and return the results in the plan's order.

    Upscalers are made, and the listener is called, in the calling thread. Upscalers are made when
    the first image has been read, so a batch without work needs none. An image that fails does
    not stop the others; a model or device that cannot be used fails all that remain. A device that
    stops working fails its image, and the others go on. On KeyboardInterrupt the outputs that are
    being written are finished, reported, and the interrupt goes on. Unfinished files of runs that
    were killed are removed from the output folders.

    Raises:
        UsageError: A factory finds that the request is impossible.
    """
    targets = [item.target for item in plan.items if isinstance(item, ImageJob)]
    for folder in {target.parent for target in targets if target is not None}:
        remove_stale_temporaries(folder)
    listener(Planned(len(plan.items), plan.ignored, tuple(devices)))
    with ThreadPoolExecutor(max_workers=settings.jobs) as pool:
        batch = _Batch(plan, settings, devices, listener, stdout=stdout, pool=pool)
        try:
            batch.run()
        finally:
            batch.close()
            pool.shutdown(cancel_futures=True)
    return batch.results


@dataclass(frozen=True, slots=True)
class _Stored:
    """An output that is whole, since the time `ended`."""

    ended: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Computed:
    """An image on its way to its output; `began` is when computing did."""

    report: Report
    frames: int
    began: float
    writing: Future[_Stored]


@dataclass(slots=True)
class _Task:
    """A job under way: it is read, then computed, which hands it to a writer."""

    position: int
    job: ImageJob
    reading: Future[Content] | None
    computing: Future[_Computed] | None = None

    def outcome(self) -> JobResult | None:
        """Return the result; None while there is none."""
        try:
            if self.computing is None:
                if self.reading is not None and self.reading.done():
                    self.reading.result()
                return None
            if not self.computing.done() or not self.computing.result().writing.done():
                return None
            return self._done(self.computing.result())
        except Exception as error:  # one image's failure, whatever it is, is a result
            return settled(self.job, Status.FAILED, error)

    def last_outcome(self) -> JobResult | None:
        """Wait for an output that is being written; None where the computing was broken off."""
        if self.computing is None:
            return None
        error = self.computing.exception()
        if error is None:
            self.computing.result().writing.exception()
        elif not isinstance(error, Exception):
            return None
        return self.outcome()

    def _done(self, computed: _Computed) -> JobResult:
        stored, report = computed.writing.result(), computed.report
        return JobResult(
            input=self.job.label,
            output=path_text(self.job.target),
            status=Status.DONE,
            model=report.model,
            scale=self.job.scale,
            size_in=self.job.size_in,
            size_out=self.job.size_out,
            frames=computed.frames,
            tile=report.tile,
            device=report.device,
            precision=report.precision,
            seconds=stored.ended - computed.began,
            resize=report.resize,
            notes=(*filter(None, (self.job.note,)), *stored.notes),
        )


class _StoppedError(BaseException):
    """Ends a computing thread at its next tile; no handler of the engine may catch it."""


class _Batch:
    """The state of one run. Other threads only set futures and put events into the inbox."""

    def __init__(
        self,
        plan: Plan,
        settings: BatchSettings,
        devices: Devices,
        listener: Listener,
        *,
        stdout: BinaryIO | None,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.results: list[JobResult] = []
        self._coming = enumerate(plan.items)
        self._total = len(plan.items)
        self._settings = settings
        self._listener = listener
        self._stdout = stdout
        self._pool = pool
        jobs = sum(isinstance(item, ImageJob) for item in plan.items)
        self._workers = [Worker(*device) for device in list(devices.items())[:jobs]]
        # with one job nothing overlaps: an output is whole before the next image is read
        self._limit = max(len(self._workers), 1) + (settings.jobs if settings.jobs > 1 else 0)
        self._free = self._workers
        self._tasks: list[_Task] = []
        self._ended: dict[int, JobResult] = {}
        self._unusable: UpscaleError | None = None
        self._inbox: SimpleQueue[Event | None] = SimpleQueue()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Do all jobs; woken by every tile, and by every step that has ended."""
        while len(self.results) < self._total:
            self._collect()
            self._read_ahead()
            self._pass_on()  # after _collect, so that an image's tiles come before its end
            self._report()
            self._hand_out()
            if self._tasks:
                self._wait()

    def close(self) -> None:
        """Break off the computing, finish the outputs that are being written, and report them."""
        self._stopping.set()
        for worker in self._workers:
            worker.close()
        for task in self._tasks:
            result = task.last_outcome()
            if result is not None:
                self._ended[task.position] = result
        with whole_step():
            for position in sorted(self._ended):
                self._finish(self._ended[position])

    def _collect(self) -> None:
        """Take the results of tasks that have ended, and of those that nothing can compute."""
        if self._workers and all(worker.failure for worker in self._workers):
            self._unusable = self._workers[0].failure
        self._free = [worker for worker in self._workers if worker.is_free]
        for task in tuple(self._tasks):
            result = task.outcome()
            if result is None and task.computing is None and self._unusable is not None:
                result = settled(task.job, Status.FAILED, self._unusable)
            if result is not None:
                self._ended[task.position] = result
                self._tasks.remove(task)

    def _read_ahead(self) -> None:
        """Start to read the next images, as far as there is room for them."""
        while len(self._tasks) < self._limit:
            position, item = next(self._coming, (0, None))
            if item is None:
                return
            if isinstance(item, JobResult):
                self._ended[position] = item
            elif self._unusable is not None:
                self._ended[position] = settled(item, Status.FAILED, self._unusable)
            else:
                reading = self._pool.submit(self._read, item)
                reading.add_done_callback(self._wake)
                self._tasks.append(_Task(position, item, reading))

    def _hand_out(self) -> None:
        """Give the next images, once they are read, to devices that are free."""
        for worker in self._free:
            task = next((task for task in self._tasks if task.computing is None), None)
            if task is None or task.reading is None or not task.reading.done():
                return
            if task.outcome() is not None or not self._prepare():
                return
            compute = partial(self._compute, task.job, task.reading.result(), worker.device)
            with whole_step():
                task.reading = None  # lets go of the small image
                task.computing = worker.start(compute)
            task.computing.add_done_callback(self._wake)
            self._listener(Started(task.job.label, worker.device))

    def _prepare(self) -> bool:
        """Make all upscalers before the first image, so that a device's failure comes early."""
        if self._unusable is not None:
            return False
        try:
            for worker in self._workers:
                worker.prepare()
        except UsageError:
            raise
        except UpscaleError as error:
            self._unusable = error
            self._inbox.put(None)
            return False
        return True

    def _report(self) -> None:
        """Report results in the plan's order."""
        while len(self.results) in self._ended:
            with whole_step():
                self._finish(self._ended.pop(len(self.results)))

    def _finish(self, result: JobResult) -> None:
        self.results.append(result)
        self._listener(Finished(result))

    def _pass_on(self) -> None:
        """Tell the listener what computing threads have put into the inbox until now."""
        for _ in range(self._inbox.qsize()):
            self._wait()

    def _wait(self) -> None:
        """Wait for one entry of the inbox; an event goes to the listener."""
        with suppress(Empty):
            event = self._inbox.get(timeout=_LONGEST_WAIT)
            if event is not None:
                self._listener(event)

    def _wake(self, _: Future[Content] | Future[_Computed] | Future[_Stored]) -> None:
        self._inbox.put(None)

    def _read(self, job: ImageJob) -> Content:
        content = load(job, self._settings.max_pixels)
        check(content, job, self._settings.write.encoding)
        return content

    def _compute(
        self, job: ImageJob, content: Content, device: str, upscaler: ImageUpscaler
    ) -> _Computed:
        began = perf_counter()
        advance = partial(self._advance, device)
        content, report = upscale(content, job, upscaler, advance)
        frames = content.count if isinstance(content, ImageSequence) else 1
        writing = self._pool.submit(self._write, content, job)
        writing.add_done_callback(self._wake)
        return _Computed(report, frames, began, writing)

    def _advance(self, device: str, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise _StoppedError
        self._inbox.put(Advanced(device, done, total))

    def _write(self, content: Content, job: ImageJob) -> _Stored:
        notes = store(content, job, self._settings.write, self._stdout)
        return _Stored(perf_counter(), notes)
