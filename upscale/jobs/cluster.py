"""Images on the machines of a Ray cluster.

The driver, which is the process that the user started, plans, distributes, retries and writes.
Workers only compute: an image may be computed twice, if a worker dies, but it is written once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from socket import create_connection
from time import monotonic
from typing import Any, BinaryIO

from upscale.errors import DeviceError, UpscaleError
from upscale.files.atomic import write_atomically
from upscale.files.error_mapping import one_line
from upscale.files.regular import is_empty_file
from upscale.images.codecs.base import optional_package
from upscale.jobs.cluster_worker import Encoded, ImageWorker, MakeUpscaler, versions
from upscale.jobs.events import Event, JobResult, Started, Status, path_text
from upscale.jobs.image import ImageJob
from upscale.jobs.plan import uncomputed_result
from upscale.options import Options

ATTEMPTS = 3
"""How often an image is computed before it counts as the reason that workers die."""

_IN_FLIGHT = 2
"""Jobs of a worker: one is computed, and the next one waits in its memory."""

_START_SECONDS = 300.0
_CONNECT_SECONDS = 10.0


@dataclass(slots=True, eq=False)
class _Work:
    """A job, until it has a result."""

    job: ImageJob
    ended: Future[JobResult]
    attempts: int = 0
    writing: bool = False

    @property
    def is_suspect(self) -> bool:
        """Whether a worker has died that had this job."""
        return self.attempts > 0


@dataclass(slots=True, eq=False)
class _Worker:
    """A worker and its jobs; it is ready once it has reported its versions."""

    name: str
    resources: dict[str, Any]
    actor: Any
    failures: int = 0
    is_ready: bool = False
    works: list[_Work] = field(default_factory=list[_Work])


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
        self._ray: Any = optional_package("ray", "--cluster", "ray", "ray")
        self.events: SimpleQueue[Event | None] = SimpleQueue()
        self._options, self._stdout, self._make = _anywhere(options), stdout, make
        self._done: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._pending: deque[_Work] = deque()
        self._suspects: deque[_Work] = deque()
        self._works: list[_Work] = []
        self._unusable: UpscaleError | None = None
        self._writer = ThreadPoolExecutor(options.run.jobs, "upscale-write")
        self._connect(address)
        try:
            self._workers = [self._spawn(*each) for each in self._places(workers)]
        except BaseException:
            self._ray.shutdown()
            raise
        self.devices = tuple(worker.name for worker in self._workers)
        self.limit = len(self._workers) * _IN_FLIGHT + options.run.jobs

    def submit(self, job: ImageJob) -> Future[JobResult]:
        """Accept a job; it is sent to a worker by `start`."""
        work = _Work(job, Future())
        self._works.append(work)
        self._pending.append(work)
        return work.ended

    def collect(self) -> None:
        """Handle what workers have returned, and workers that cannot start."""
        for _ in range(self._done.qsize()):
            self._done.get()()
        if not any(each.is_ready for each in self._workers) and monotonic() > self._start_by:
            self._unusable = DeviceError(
                f"no worker has started within {_START_SECONDS:.0f} s: see `ray status` for what "
                "occupies the cluster"
            )
        if not self._workers and self._unusable is None:
            self._unusable = DeviceError("all workers of the cluster have failed")
        if self._unusable is not None:
            for work in [each for each in self._works if not each.writing]:
                self._finish(work, uncomputed_result(work.job, Status.FAILED, self._unusable))

    def start(self) -> None:
        """Send jobs to workers with room; a suspect gets a worker of its own."""
        ready = [each for each in self._workers if each.is_ready]
        kept = min(ready, key=lambda each: len(each.works)) if ready and self._suspects else None
        for worker in ready:
            if worker is kept and not worker.works:
                self._send(self._suspects.popleft(), worker)
            has_suspect = any(each.is_suspect for each in worker.works)
            while worker is not kept and not has_suspect and len(worker.works) < _IN_FLIGHT:
                if not self._pending:
                    break
                self._send(self._pending.popleft(), worker)

    def close(self) -> None:
        """End the workers, and complete the outputs that are being written."""
        for worker in self._workers:
            self._kill(worker)
        self._writer.shutdown()
        for _ in range(self._done.qsize()):
            self._done.get()()
        self._ray.shutdown()

    # --- workers -------------------------------------------------------------------------------

    def _connect(self, address: str) -> None:
        try:
            if address != "auto":  # Ray itself would try for minutes
                host, _, port = address.rpartition(":")
                create_connection((host, int(port)), _CONNECT_SECONDS).close()
            self._ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError) as error:
            raise DeviceError(
                f"--cluster {address}: no Ray cluster answers ({one_line(error)}): start one with "
                "`ray start --head`"
            ) from error

    def _places(self, most: int | None) -> list[tuple[str, dict[str, Any]]]:
        """Return names of workers, and what each of them needs."""
        places: list[tuple[str, dict[str, Any]]] = []
        strategies = import_module("ray.util.scheduling_strategies")
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        for node in sorted(nodes, key=lambda each: each["NodeID"]):
            host, resources = node["NodeManagerHostname"], node["Resources"]
            gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
            here = strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            names = [f"{host} cuda:{number}" for number in range(gpus)] or [host] * (cpus > 0)
            needs: dict[str, Any] = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": cpus}
            places += [(name, needs | {"scheduling_strategy": here}) for name in names]
        if not places:
            raise DeviceError("the cluster has no machine with a CPU or GPU: see `ray status`")
        return [
            (name if [each for each, _ in places].count(name) == 1 else f"{name} #{number}", needs)
            for number, (name, needs) in enumerate(places[:most], 1)
        ]

    def _spawn(self, name: str, resources: dict[str, Any], failures: int = 0) -> _Worker:
        self._start_by = monotonic() + _START_SECONDS
        remote = self._ray.remote(max_restarts=0, max_task_retries=0, **resources)(ImageWorker)
        worker = _Worker(name, resources, remote.remote(self._options, self._make), failures)
        self._when_done(worker.actor.prepare.remote(), lambda each: self._ready(worker, each))
        return worker

    def _ready(self, worker: _Worker, answer: Future[str]) -> None:
        error = answer.exception()
        if error is not None:
            self._replace(worker, error)
        elif answer.result() != versions():
            self._workers.remove(worker)
            self._kill(worker)
            self._unusable = DeviceError(
                f"{worker.name} has {answer.result()}, and this machine {versions()}: install the "
                "same versions"
            )
        else:
            worker.is_ready, worker.failures = True, 0

    def _replace(self, worker: _Worker, error: BaseException) -> None:
        """Start another worker in place of one that died, unless it fails again and again."""
        if worker not in self._workers:
            return
        self._kill(worker)
        self._workers.remove(worker)
        for work in worker.works:
            self._retry(work, error)
        worker.works = []
        cause = getattr(error, "cause", None)
        if not worker.is_ready and isinstance(cause, UpscaleError):
            self._unusable = cause
        elif worker.failures + 1 < ATTEMPTS:
            failures = worker.failures + (not worker.is_ready)
            self._workers.append(self._spawn(worker.name, worker.resources, failures))

    def _kill(self, worker: _Worker) -> None:
        with suppress(Exception):  # it may be dead already
            self._ray.kill(worker.actor)

    def _when_done(self, reference: Any, then: Callable[[Future[Any]], None]) -> None:  # noqa: ANN401
        """Call a function by `collect`, in the calling thread, once a worker has answered."""

        def note(answer: Future[Any]) -> None:
            self._done.put(lambda: then(answer))
            self.events.put(None)

        reference.future().add_done_callback(note)

    # --- jobs ----------------------------------------------------------------------------------

    def _send(self, work: _Work, worker: _Worker) -> None:
        worker.works.append(work)
        source, size = work.job.source, 0
        try:
            if isinstance(source, Path):
                source, size = source.absolute(), source.stat().st_size
        except OSError as error:
            worker.works.remove(work)
            self._finish(work, uncomputed_result(work.job, Status.FAILED, error))
            return
        job = replace(work.job, source=source)
        self.events.put(Started(work.job.label, worker.name))
        self._when_done(
            worker.actor.run.remote(job, size), lambda answer: self._answered(work, worker, answer)
        )

    def _answered(self, work: _Work, worker: _Worker, answer: Future[Encoded]) -> None:
        error = answer.exception()
        if work.ended.done() or work not in worker.works:  # dealt with when its worker died
            return
        if error is not None:
            self._replace(worker, error)
            return
        worker.works.remove(work)
        encoded = answer.result()
        if encoded.result is None:
            self._ship(work)
        elif encoded.result.status is Status.FAILED:
            self._finish(work, self._named(work, encoded.result))
        else:
            work.writing = True
            writing = self._writer.submit(self._write, work, encoded)
            writing.add_done_callback(lambda _: self._note_written(work, writing))

    def _ship(self, work: _Work) -> None:
        """Send the content of an input that a worker cannot see."""
        assert isinstance(work.job.source, Path)
        try:
            work.job = replace(work.job, source=work.job.source.read_bytes())
        except OSError as error:
            self._finish(work, uncomputed_result(work.job, Status.FAILED, error))
            return
        self._pending.appendleft(work)

    def _retry(self, work: _Work, error: BaseException) -> None:
        """Try a job again, alone, that was on a worker that died."""
        work.attempts += 1
        if work.attempts < ATTEMPTS:
            self._suspects.append(work)
            return
        failure = DeviceError(
            f"{work.job.label}: {ATTEMPTS} workers died while they had it ({one_line(error)})"
        )
        self._finish(work, uncomputed_result(work.job, Status.FAILED, failure))

    def _write(self, work: _Work, encoded: Encoded) -> JobResult:
        assert encoded.result is not None
        job, output = work.job, self._options.output
        if job.target is None:
            if self._stdout is not None:
                self._stdout.write(encoded.content)
                self._stdout.flush()
        else:
            replaces = output.skip_existing and is_empty_file(job.target)
            write_atomically(
                job.target,
                lambda file: file.write(encoded.content),
                overwrite=output.overwrite or replaces,
            )
        return self._named(work, encoded.result)

    def _named(self, work: _Work, result: JobResult) -> JobResult:
        return replace(result, output=path_text(work.job.target))

    def _note_written(self, work: _Work, writing: Future[JobResult]) -> None:
        def finish() -> None:
            error = writing.exception()
            if isinstance(error, Exception):
                self._finish(work, uncomputed_result(work.job, Status.FAILED, error))
            else:
                self._finish(work, writing.result())

        self._done.put(finish)
        self.events.put(None)

    def _finish(self, work: _Work, result: JobResult) -> None:
        if work in self._works:
            self._works.remove(work)
            work.ended.set_result(result)
        for queue in (self._pending, self._suspects):
            with suppress(ValueError):
                queue.remove(work)


def _anywhere(options: Options) -> Options:
    """Return options whose checkpoint is found from every folder."""
    path = Path(options.engine.model)
    if not path.is_file():
        return options
    return replace(options, engine=replace(options.engine, model=str(path.absolute())))
