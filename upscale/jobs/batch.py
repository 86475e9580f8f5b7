"""Batches: the next images are read and the last ones written while others are computed.

One thread per device computes, a few threads read and write, and the calling thread distributes the
work and reports. At most `jobs` images are in memory besides those that are being computed.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
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
from upscale.jobs.image_steps import Content, check, damage_of, load, store, upscale
from upscale.jobs.interrupts import defer_interrupts
from upscale.jobs.plan import Plan, uncomputed_result
from upscale.jobs.workers import Devices, Worker
from upscale.options import Options

if TYPE_CHECKING:
    from upscale.engine.upscaler import Report

_LONGEST_WAIT = 0.2
"""Seconds; on Windows, a wait cannot be interrupted."""


def run_batch(
    plan: Plan,
    options: Options,
    devices: Devices,
    listener: Listener,
    stdout: BinaryIO | None = None,
) -> list[JobResult]:
    """Process every job of a plan and return the results in the order of the plan.

    Upscalers are created, and the listener is called, in the calling thread. Upscalers are created
    once the first image is read, so a batch without work needs none. An image that fails does not
    stop the others; a model or device that cannot be used fails all remaining images. A device that
    stops working fails its image, and the other devices continue. On KeyboardInterrupt, outputs
    that are being written are completed and reported before the exception propagates. Stale
    temporary files of killed runs are removed from the output folders.

    Args:
        plan: Jobs, and results of inputs that need no work.
        options: Options of the command. `run.jobs` limits the threads that read and write; with 1,
            nothing overlaps.
        devices: Factories of the upscalers, by device.
        listener: Function that is called with each event.
        stdout: Stream for jobs without a target.

    Raises:
        UsageError: A factory finds that the request is impossible.
    """
    targets = [item.target for item in plan.items if isinstance(item, ImageJob)]
    for folder in {target.parent for target in targets if target is not None}:
        remove_stale_temporaries(folder)
    listener(Planned(len(plan.items), plan.ignored, tuple(devices), len(targets)))
    with ThreadPoolExecutor(max_workers=options.run.jobs) as pool:
        batch = _Batch(plan, options, devices, listener, stdout=stdout, pool=pool)
        try:
            batch.run()
        finally:
            batch.close()
            pool.shutdown(cancel_futures=True)
    return batch.results


@dataclass(frozen=True, slots=True)
class _Written:
    """A complete output; `ended` is the time of its completion."""

    ended: float
    notes: tuple[str, ...]
    damaged: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Computed:
    """An upscaled image that is being written; `began` is the time when its computation began."""

    report: Report
    frames: int
    began: float
    writing: Future[_Written]


@dataclass(slots=True)
class _Task:
    """A job in progress: it is read, then computed, then written."""

    position: int
    job: ImageJob
    reading: Future[Content] | None
    computing: Future[_Computed] | None = None

    def result(self) -> JobResult | None:
        """Return the result, None while the job is in progress."""
        try:
            if self.computing is None:
                if self.reading is not None and self.reading.done():
                    self.reading.result()
                return None
            if not self.computing.done() or not self.computing.result().writing.done():
                return None
            return self._done(self.computing.result())
        except Exception as error:  # every failure of an image becomes its result
            return uncomputed_result(self.job, Status.FAILED, error)

    def wait_for_output(self) -> JobResult | None:
        """Wait for an output that is being written; None if its computation was interrupted."""
        if self.computing is None:
            return None
        error = self.computing.exception()
        if error is None:
            self.computing.result().writing.exception()
        elif not isinstance(error, Exception):
            return None
        return self.result()

    def _done(self, computed: _Computed) -> JobResult:
        written, report = computed.writing.result(), computed.report
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
            seconds=written.ended - computed.began,
            resize=report.resize,
            notes=(*filter(None, (self.job.note,)), *written.notes),
            damaged=written.damaged,
        )


class _StoppedError(BaseException):
    """Stops a computation at its next tile; the engine does not catch BaseExceptions."""


class _Batch:
    """State of one batch; other threads only set futures and put events into the queue."""

    def __init__(
        self,
        plan: Plan,
        options: Options,
        devices: Devices,
        listener: Listener,
        *,
        stdout: BinaryIO | None,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.results: list[JobResult] = []
        self._remaining = enumerate(plan.items)
        self._total = len(plan.items)
        self._options = options
        self._listener = listener
        self._stdout = stdout
        self._pool = pool
        count = sum(isinstance(item, ImageJob) for item in plan.items)
        self._workers = [Worker(*device) for device in list(devices.items())[:count]]
        # With one job nothing overlaps: an output is complete before the next image is read.
        jobs = options.run.jobs
        self._limit = max(len(self._workers), 1) + (jobs if jobs > 1 else 0)
        self._free_workers = self._workers
        self._tasks: list[_Task] = []
        self._finished: dict[int, JobResult] = {}
        self._unusable: UpscaleError | None = None
        self._queue: SimpleQueue[Event | None] = SimpleQueue()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Process all jobs; each tile and each completed step wakes the loop."""
        while len(self.results) < self._total:
            self._collect()
            self._read_ahead()
            self._forward_events()  # after _collect: the tiles of an image precede its result
            self._report()
            self._start_computations()
            if self._tasks:
                self._wait()

    def close(self) -> None:
        """Interrupt the computations; complete and report the outputs that are being written."""
        self._stopping.set()
        for worker in self._workers:
            worker.close()
        for task in self._tasks:
            result = task.wait_for_output()
            if result is not None:
                self._finished[task.position] = result
        with defer_interrupts():
            for position in sorted(self._finished):
                self._finish(self._finished[position])

    def _collect(self) -> None:
        """Collect results of tasks that have finished, or that no device can compute."""
        if self._workers and all(worker.failure for worker in self._workers):
            self._unusable = self._workers[0].failure
        self._free_workers = [worker for worker in self._workers if worker.is_free]
        for task in tuple(self._tasks):
            result = task.result()
            if result is None and task.computing is None and self._unusable is not None:
                result = uncomputed_result(task.job, Status.FAILED, self._unusable)
            if result is not None:
                self._finished[task.position] = result
                self._tasks.remove(task)

    def _read_ahead(self) -> None:
        """Start to read the next images, up to the limit of images in memory."""
        while len(self._tasks) < self._limit:
            position, item = next(self._remaining, (0, None))
            if item is None:
                return
            if isinstance(item, JobResult):
                self._finished[position] = item
            elif self._unusable is not None:
                self._finished[position] = uncomputed_result(item, Status.FAILED, self._unusable)
            else:
                reading = self._pool.submit(self._read, item)
                reading.add_done_callback(self._wake)
                self._tasks.append(_Task(position, item, reading))

    def _start_computations(self) -> None:
        """Pass the next images, once they are read, to free devices."""
        for worker in self._free_workers:
            task = next((task for task in self._tasks if task.computing is None), None)
            if task is None or task.reading is None or not task.reading.done():
                return
            if task.result() is not None or not self._prepare():
                return
            compute = partial(self._compute, task.job, task.reading.result(), worker.device)
            with defer_interrupts():
                task.reading = None  # releases the small image
                task.computing = worker.start(compute)
            task.computing.add_done_callback(self._wake)
            self._listener(Started(task.job.label, worker.device))

    def _prepare(self) -> bool:
        """Create all upscalers before the first image, so that device errors appear early."""
        if self._unusable is not None:
            return False
        try:
            for worker in self._workers:
                worker.prepare()
        except UsageError:
            raise
        except UpscaleError as error:
            self._unusable = error
            self._queue.put(None)
            return False
        return True

    def _report(self) -> None:
        """Report results in the order of the plan."""
        while len(self.results) in self._finished:
            with defer_interrupts():
                self._finish(self._finished.pop(len(self.results)))

    def _finish(self, result: JobResult) -> None:
        self.results.append(result)
        self._listener(Finished(result))

    def _forward_events(self) -> None:
        """Pass the events in the queue to the listener."""
        for _ in range(self._queue.qsize()):
            self._wait()

    def _wait(self) -> None:
        """Wait for one entry of the queue and pass an event to the listener."""
        with suppress(Empty):
            event = self._queue.get(timeout=_LONGEST_WAIT)
            if event is not None:
                self._listener(event)

    def _wake(self, _: Future[Content] | Future[_Computed] | Future[_Written]) -> None:
        self._queue.put(None)

    def _read(self, job: ImageJob) -> Content:
        content = load(job, self._options.run)
        check(content, job, self._options.output, self._options.texture)
        return content

    def _compute(
        self, job: ImageJob, content: Content, device: str, upscaler: ImageUpscaler
    ) -> _Computed:
        began = perf_counter()
        advance = partial(self._advance, device)
        content, report = upscale(content, job, upscaler, advance, self._options.texture)
        frames = content.count if isinstance(content, ImageSequence) else 1
        writing = self._pool.submit(self._write, content, job)
        writing.add_done_callback(self._wake)
        return _Computed(report, frames, began, writing)

    def _advance(self, device: str, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise _StoppedError
        self._queue.put(Advanced(device, done, total))

    def _write(self, content: Content, job: ImageJob) -> _Written:
        options = self._options
        notes = store(content, job, options.output, self._stdout, options.texture)
        return _Written(perf_counter(), notes, damage_of(content))
