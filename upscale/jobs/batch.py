"""Many pictures: the next is read and the last written while one is computed.

At most `jobs` pictures are in flight beside the one that is computed, whatever the batch holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, BinaryIO

from upscale.errors import UpscaleError, UsageError
from upscale.jobs.events import (
    Advanced,
    Finished,
    JobResult,
    Listener,
    Planned,
    Started,
    Status,
    error_text,
    path_text,
    traceback_text,
)
from upscale.jobs.image import (
    ImageJob,
    PictureUpscaler,
    WriteSettings,
    check_format,
    enlarge_picture,
    load_picture,
    store_picture,
)
from upscale.jobs.plan import Plan
from upscale.pictures import Picture

if TYPE_CHECKING:
    from upscale.engine.upscaler import Report

UpscalerFactory = Callable[[], PictureUpscaler]


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """How a batch runs: `jobs` bounds the threads that read and write (1: nothing overlaps)."""

    jobs: int = 2
    max_pixels: int | None = None
    write: WriteSettings = field(default_factory=WriteSettings)


def run_batch(
    plan: Plan,
    settings: BatchSettings,
    factory: UpscalerFactory,
    listener: Listener,
    stdout: BinaryIO | None = None,
) -> list[JobResult]:
    """Do every job of a plan and return the results in the plan's order.

    The upscaler is made when the first picture has been read, so a batch without work needs none.
    A picture that fails does not stop the others; a model or device that cannot be used fails all
    that remain. On KeyboardInterrupt the outputs that are being written are finished, reported,
    and the interrupt goes on.
    """
    listener(Planned(len(plan.items), plan.passed_over))
    with ThreadPoolExecutor(max_workers=settings.jobs) as pool:
        batch = _Batch(settings, factory, listener, stdout, pool)
        try:
            for item, reading in batch.read_ahead(plan.items):
                batch.take(item, reading)
        finally:
            batch.settle(0)
            pool.shutdown(cancel_futures=True)
    return batch.results


@dataclass(frozen=True, slots=True)
class _Written:
    """A computed picture on its way to its output; `began` is when computing did."""

    job: ImageJob
    report: Report
    began: float
    writing: Future[float]

    def wait(self) -> JobResult:
        """Return the result, once the output is whole or has failed."""
        try:
            ended = self.writing.result()
        except Exception as error:
            return failed_result(self.job, error)
        return JobResult(
            input=self.job.label,
            output=path_text(self.job.target),
            status=Status.DONE,
            model=self.report.model,
            scale=self.job.scale,
            size_in=self.job.size_in,
            size_out=self.job.size_out,
            tile=self.report.tile,
            device=self.report.device,
            precision=self.report.precision,
            seconds=ended - self.began,
            resize=self.report.resize,
            note=self.job.note,
        )


class _Batch:
    """The state of one run; every listener call is made by the thread that runs it."""

    def __init__(
        self,
        settings: BatchSettings,
        factory: UpscalerFactory,
        listener: Listener,
        stdout: BinaryIO | None,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.results: list[JobResult] = []
        self._settings = settings
        self._factory = factory
        self._listener = listener
        self._stdout = stdout
        self._pool = pool
        self._upscaler: PictureUpscaler | None = None
        self._unusable: UpscaleError | None = None
        self._ending: deque[JobResult | _Written] = deque()

    def read_ahead(
        self, items: tuple[ImageJob | JobResult, ...]
    ) -> Iterator[tuple[ImageJob | JobResult, Future[Picture] | None]]:
        """Yield the items in order, with reads of the next ones already under way."""
        ahead: deque[tuple[ImageJob | JobResult, Future[Picture] | None]] = deque()
        for item in items:
            ahead.append((item, self._read(item)))
            if len(ahead) > self._settings.jobs // 2:
                yield ahead.popleft()
        while ahead:
            yield ahead.popleft()

    def _read(self, item: ImageJob | JobResult) -> Future[Picture] | None:
        if isinstance(item, JobResult) or self._unusable is not None:
            return None
        return self._pool.submit(load_picture, item, self._settings.max_pixels)

    def take(self, item: ImageJob | JobResult, reading: Future[Picture] | None) -> None:
        """Compute one item and hand it to a writer; wait for earlier writers beyond the limit."""
        self._ending.append(item if isinstance(item, JobResult) else self._compute(item, reading))
        # with one job nothing overlaps: its output is whole before the next is read
        self.settle(self._settings.jobs // 2)

    def settle(self, waiting: int) -> None:
        """Report results in order until no more than `waiting` are unreported."""
        while len(self._ending) > waiting:
            self._report_first()

    def _report_first(self) -> None:
        first = self._ending[0]
        result = first if isinstance(first, JobResult) else first.wait()
        self._ending.popleft()  # only now: an interrupted wait must not lose it
        self.results.append(result)
        self._listener(Finished(result))

    def _compute(self, job: ImageJob, reading: Future[Picture] | None) -> JobResult | _Written:
        if self._unusable is not None or reading is None:
            return failed_result(job, self._unusable or UpscaleError("not read"))
        try:
            picture = reading.result()
            check_format(picture, job)
            upscaler = self._get_upscaler()
            began = perf_counter()
            self._listener(Started(job.label))
            picture, report = enlarge_picture(picture, job.size_out, upscaler, self._advance)
        except UsageError:
            raise
        except Exception as error:  # one picture's failure, whatever it is, is a result
            return failed_result(job, error)
        return _Written(job, report, began, self._pool.submit(self._write, picture, job))

    def _get_upscaler(self) -> PictureUpscaler:
        if self._upscaler is None:
            try:
                self._upscaler = self._factory()
            except UpscaleError as error:
                self._unusable = error
                raise
        return self._upscaler

    def _advance(self, done: int, total: int) -> None:
        """Pass on a tile, and what has been written since the last one."""
        while self._ending and _has_ended(self._ending[0]):
            self._report_first()
        self._listener(Advanced(done, total))

    def _write(self, picture: Picture, job: ImageJob) -> float:
        """Write, and return the time at which the output was whole."""
        store_picture(picture, job, self._settings.write, self._stdout)
        return perf_counter()


def failed_result(job: ImageJob, error: Exception) -> JobResult:
    """Return what is left of a job that an exception ended."""
    return JobResult(
        input=job.label,
        output=path_text(job.target),
        status=Status.FAILED,
        model=job.model,
        scale=job.scale,
        size_in=job.size_in,
        size_out=job.size_out,
        error=error_text(error),
        trace=traceback_text(error),
    )


def _has_ended(item: JobResult | _Written) -> bool:
    return isinstance(item, JobResult) or item.writing.done()
