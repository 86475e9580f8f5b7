"""Images on the machines of a Ray cluster.

The driver, which is the process that the user started, plans, distributes, retries and writes.
Workers only compute: an image may be computed twice, if a worker dies, but it is written once.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO

from upscale.errors import DeviceError
from upscale.files.atomic import write_atomically
from upscale.files.printable import printable
from upscale.files.regular import is_empty_file
from upscale.jobs.cluster_pool import (
    IN_FLIGHT,
    ClusterPool,
    PoolWorker,
    Task,
    from_anywhere,
    versions,
)
from upscale.jobs.cluster_worker import Encoded, ImageWorker, MakeUpscaler, version_of
from upscale.jobs.events import Event, JobResult, Started, Status, path_text
from upscale.jobs.image import ImageJob
from upscale.jobs.plan import uncomputed_result
from upscale.options import Options


class RayExecutor:
    """Compute jobs on a Ray cluster; see `Executor`.

    Args:
        address: Address of the cluster, or `auto` for the one of this machine or `RAY_ADDRESS`.
        workers: Largest number of workers; None for one on each GPU, and one on each machine
            without GPUs.
        options: Options of the command.
        stdout: Stream for jobs without a target.
        make: Function that loads the network in a worker; None for the usual one.

    Raises:
        DependencyError: Ray is not installed.
        DeviceError: There is no such cluster, or it has no room.
    """

    def __init__(
        self,
        address: str,
        workers: int | None,
        options: Options,
        stdout: BinaryIO | None = None,
        make: MakeUpscaler | None = None,
    ) -> None:
        self.events: SimpleQueue[Event | None] = SimpleQueue()
        self._options, self._stdout = options, stdout
        arguments = (from_anywhere(options), make)
        self._pool = ClusterPool(
            address,
            workers,
            ImageWorker,
            arguments,
            admit=self._admit,
            events=self.events,
            threads=IN_FLIGHT,
        )
        self._writer = ThreadPoolExecutor(options.run.jobs, "upscale-write")
        self.devices = tuple(worker.name for worker in self._pool.workers)
        self.limit = len(self._pool.workers) * IN_FLIGHT + options.run.jobs

    def submit(self, job: ImageJob) -> Future[JobResult]:
        """Accept a job; it is sent to a worker by `start`."""
        ended: Future[JobResult] = Future()
        self._pool.submit(self._task(job, ended))
        return ended

    def collect(self) -> None:
        """Handle what workers have returned, and workers that cannot start."""
        self._pool.collect()

    def start(self) -> None:
        """Send jobs to workers with room; a suspect gets a worker of its own."""
        self._pool.start()

    def close(self) -> None:
        """End the workers, and complete the outputs that are being written."""
        self._pool.close()
        self._writer.shutdown()
        self._pool.take_answers()

    def _admit(self, worker: PoolWorker) -> None:
        if worker.facts == versions():
            worker.is_ready = True
            return
        self._pool.leave_out(worker)
        self._pool.unusable = DeviceError(
            f"{worker.name} has {_listed(worker.facts)}, and this machine {_listed(versions())}: "
            "install the same versions"
        )

    def _task(self, job: ImageJob, ended: Future[JobResult]) -> Task:
        return Task(
            job.label,
            lambda worker: self._send(job, worker),
            lambda encoded: self._take(job, ended, encoded),
            lambda error: ended.set_result(uncomputed_result(job, Status.FAILED, error)),
        )

    def _send(self, job: ImageJob, worker: PoolWorker) -> Any:  # noqa: ANN401
        source, version = job.source, None
        if isinstance(source, Path):
            source, version = source.absolute(), version_of(source)
        self.events.put(Started(job.label, worker.name))
        return worker.actor.run.remote(replace(job, source=source), version)

    def _take(self, job: ImageJob, ended: Future[JobResult], encoded: Encoded) -> None:
        if encoded.result is None:
            self._ship(job, ended)
        elif encoded.result.status is Status.FAILED:
            ended.set_result(_named(job, encoded.result))
        else:
            writing = self._writer.submit(self._write, job, encoded.result, encoded.content)
            writing.add_done_callback(
                lambda _: self._pool.later(lambda: ended.set_result(writing.result()))
            )

    def _ship(self, job: ImageJob, ended: Future[JobResult]) -> None:
        """Send the content of an input that a worker cannot see."""
        assert isinstance(job.source, Path)
        try:
            content = job.source.read_bytes()
        except OSError as error:
            ended.set_result(uncomputed_result(job, Status.FAILED, error))
            return
        self._pool.submit(self._task(replace(job, source=content), ended), first=True)

    def _write(self, job: ImageJob, result: JobResult, content: bytes) -> JobResult:
        """Write an output, and return the result of its job."""
        try:
            self._store(job, content)
        except Exception as error:  # every failure of an image becomes its result
            return uncomputed_result(job, Status.FAILED, error)
        return _named(job, result)

    def _store(self, job: ImageJob, content: bytes) -> None:
        output = self._options.output
        if job.target is None:
            if self._stdout is not None:
                self._stdout.write(content)
                self._stdout.flush()
            return
        replaces = output.skip_existing and is_empty_file(job.target)
        write_atomically(
            job.target,
            lambda file: file.write(content),
            overwrite=output.overwrite or replaces,
        )


def _named(job: ImageJob, result: JobResult) -> JobResult:
    """Return a result with the paths as the user named them."""
    error = result.error
    if error is not None and isinstance(job.source, Path):
        error = error.replace(printable(job.source.absolute()), printable(job.source))
    return replace(result, output=path_text(job.target), error=error)


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
