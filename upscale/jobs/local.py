"""Images on the devices of this machine.

One thread per device computes, and a few threads read and write. At most `jobs` images are in
memory besides those that are being computed.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, BinaryIO

from upscale.errors import UpscaleError, UsageError
from upscale.images import ImageSequence
from upscale.jobs.colour import keeps_colour_of
from upscale.jobs.events import Advanced, Event, JobResult, Started, Status, path_text
from upscale.jobs.faces import FaceFactory, FaceStep
from upscale.jobs.image import ImageJob
from upscale.jobs.image_steps import Content, check, choose, damage_of, load, store, upscale
from upscale.jobs.interrupts import defer_interrupts
from upscale.jobs.plan import uncomputed_result
from upscale.jobs.workers import AnyUpscaler, Devices, Worker
from upscale.options import Options

if TYPE_CHECKING:
    from upscale.engine.upscaler import Report
    from upscale.faces.enhancer import FaceEnhancer
    from upscale.selection import Choice


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
    choice: Choice | None
    frames: int
    colour_kept: bool | None
    faces: int | None
    began: float
    writing: Future[_Written]


@dataclass(slots=True)
class _Task:
    """A job in progress: it is read, then computed, then written."""

    job: ImageJob
    reading: Future[Content] | None
    ended: Future[JobResult]
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
            convolutions=report.convolutions,
            resize=report.resize,
            choice=computed.choice,
            colour_kept=computed.colour_kept,
            faces=computed.faces,
            notes=(*filter(None, (self.job.note,)), *written.notes),
            damaged=written.damaged,
        )


class _StoppedError(BaseException):
    """Stops a computation at its next tile; the engine does not catch BaseExceptions."""


class LocalExecutor:
    """Compute jobs on local devices; see `Executor`.

    Upscalers are created once the first image is read. A model or device that cannot be used fails
    all remaining jobs. A device that stops working fails its image, and the others continue.

    Args:
        devices: Factories of the upscalers, by device.
        options: Options of the command. `run.jobs` limits the threads that read and write; with 1,
            nothing overlaps.
        stdout: Stream for jobs without a target.
        jobs: Number of jobs that will be submitted; no more devices are used.
        faces: Factory of what restores faces, by device; None to restore none.
        turn: Context of each computation, such as a lock that executors with the same upscalers
            share.
    """

    def __init__(
        self,
        devices: Devices,
        options: Options,
        stdout: BinaryIO | None,
        jobs: int,
        *,
        faces: FaceFactory | None = None,
        turn: AbstractContextManager[object] | None = None,
    ) -> None:
        self.devices = tuple(devices)
        self.events: SimpleQueue[Event | None] = SimpleQueue()
        self._options = options
        self._stdout = stdout
        self._pool = ThreadPoolExecutor(max_workers=options.run.jobs)
        self._workers = [Worker(*device) for device in list(devices.items())[:jobs]]
        # With one job nothing overlaps: an output is complete before the next image is read.
        ahead = options.run.jobs
        self.limit = max(len(self._workers), 1) + (ahead if ahead > 1 else 0)
        self._free_workers = self._workers
        self._tasks: list[_Task] = []
        self._make_enhancer = faces
        self._turn = turn or nullcontext()
        self._enhancers: dict[str, FaceEnhancer] = {}
        self._unusable: UpscaleError | None = None
        self._stopping = threading.Event()

    @property
    def is_usable(self) -> bool:
        """Whether all devices work, as far as they were used."""
        return not any(worker.failure for worker in self._workers)

    def submit(self, job: ImageJob) -> Future[JobResult]:
        """Start to read the image of a job."""
        ended: Future[JobResult] = Future()
        if self._unusable is not None:
            ended.set_result(uncomputed_result(job, Status.FAILED, self._unusable))
            return ended
        reading = self._pool.submit(self._read, job)
        reading.add_done_callback(self._wake)
        self._tasks.append(_Task(job, reading, ended))
        return ended

    def collect(self) -> None:
        """Complete the futures of tasks that have finished, or that no device can compute."""
        if self._workers and all(worker.failure for worker in self._workers):
            self._unusable = self._workers[0].failure
        self._free_workers = [worker for worker in self._workers if worker.is_free]
        for task in tuple(self._tasks):
            result = task.result()
            if result is None and task.computing is None and self._unusable is not None:
                result = uncomputed_result(task.job, Status.FAILED, self._unusable)
            if result is not None:
                task.ended.set_result(result)
                self._tasks.remove(task)

    def start(self) -> None:
        """Pass the next images, once they are read, to free devices."""
        for worker in self._free_workers:
            task = next((task for task in self._tasks if task.computing is None), None)
            if task is None or task.reading is None or not task.reading.done():
                return
            if task.result() is not None or not self._prepare():
                return
            compute = partial(self._take_turn, task.job, task.reading.result(), worker.device)
            self.events.put(Started(task.job.label, worker.device))
            with defer_interrupts():
                task.reading = None  # releases the small image
                task.computing = worker.start(compute)
            task.computing.add_done_callback(self._wake)

    def close(self) -> None:
        """Interrupt the computations, and complete the outputs that are being written."""
        self._stopping.set()
        for worker in self._workers:
            worker.close()
        for task in self._tasks:
            result = task.wait_for_output()
            if result is not None:
                task.ended.set_result(result)
        self._pool.shutdown(cancel_futures=True)

    def _prepare(self) -> bool:
        """Create all upscalers before the first image, so that device errors appear early."""
        if self._unusable is not None:
            return False
        try:
            for worker in self._workers:
                worker.prepare()
                if self._make_enhancer is not None and worker.device not in self._enhancers:
                    self._enhancers[worker.device] = self._make_enhancer(worker.device)
        except UsageError:
            raise
        except UpscaleError as error:
            self._unusable = error
            self.events.put(None)
            return False
        return True

    def _wake(self, _: Future[Content] | Future[_Computed] | Future[_Written]) -> None:
        self.events.put(None)

    def _read(self, job: ImageJob) -> Content:
        content = load(job, self._options.run)
        check(content, job, self._options.output, self._options.texture)
        return content

    def _take_turn(
        self, job: ImageJob, content: Content, device: str, upscaler: AnyUpscaler
    ) -> _Computed:
        with self._turn:
            return self._compute(job, content, device, upscaler)

    def _compute(
        self,
        job: ImageJob,
        content: Content,
        device: str,
        upscaler: AnyUpscaler,
    ) -> _Computed:
        began = perf_counter()
        advance = partial(self._advance, device)
        texture = self._options.texture
        train = partial(self._advance, device, unit="iterations")
        chosen, choice = choose(content, job, upscaler, texture, train)
        mode = "off" if self._options.faces.faces_only else self._options.engine.keep_colour
        keeps = keeps_colour_of(content, mode, texture, choice)
        enhancer = self._enhancers.get(device)
        faces = None if enhancer is None else FaceStep(enhancer)
        content, report = upscale(
            content,
            job,
            chosen,
            advance,
            texture,
            keep_colour=keeps or False,
            faces=faces,
        )
        frames = content.count if isinstance(content, ImageSequence) else 1
        writing = self._pool.submit(self._write, content, job)
        writing.add_done_callback(self._wake)
        return _Computed(report, choice, frames, keeps, faces and faces.count, began, writing)

    def _advance(self, device: str, done: int, total: int, unit: str = "tiles") -> None:
        if self._stopping.is_set():
            raise _StoppedError
        self.events.put(Advanced(device, done, total, unit))

    def _write(self, content: Content, job: ImageJob) -> _Written:
        options = self._options
        notes = store(content, job, options.output, self._stdout, options.texture)
        return _Written(perf_counter(), notes, damage_of(content))
