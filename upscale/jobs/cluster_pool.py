"""Workers of a Ray cluster: find places for them, distribute tasks, and replace those that die.

The driver, which is the process that the user started, retries. Ray's own retries are off: Ray does
not know which task kills its workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from queue import Empty, SimpleQueue
from socket import create_connection
from time import monotonic
from typing import Any

from upscale.errors import DeviceError, UpscaleError
from upscale.files.error_mapping import one_line
from upscale.images.codecs.base import optional_package
from upscale.jobs.events import Event
from upscale.jobs.face_models import with_absolute_paths
from upscale.jobs.networks import fusion_path
from upscale.options import Options

ATTEMPTS = 3
"""How often a task is computed before it counts as the reason that workers die."""

IN_FLIGHT = 2
"""Tasks of a worker: one is computed, and the next one waits in its memory."""

WATCH = "watch"
"""Concurrency group of methods that are answered while a worker computes."""

_START_SECONDS = 300.0
_CONNECT_SECONDS = 10.0
_END_SECONDS = 5.0
_LONGEST_WAIT = 0.2
"""Seconds; on Windows, a wait cannot be interrupted."""


@dataclass(slots=True, eq=False)
class Task:
    """Some work for one worker.

    Attributes:
        label: Name of the work in error messages.
        send: Function that calls a method of a worker, and returns Ray's reference to the answer.
        done: Function that takes the answer.
        failed: Function that takes the error if there is no answer.
        attempts: How many workers have died that had the task.
    """

    label: str
    send: Callable[[PoolWorker], Any]
    done: Callable[[Any], None]
    failed: Callable[[Exception], None]
    attempts: int = 0


@dataclass(slots=True, eq=False)
class PoolWorker:
    """A worker and its tasks.

    Attributes:
        name: Name of its machine and device, as it is shown.
        actor: Ray's handle.
        is_ready: Whether it gets tasks; set by the owner of the pool.
        facts: Result of its method `prepare`; None until there is one.
        tasks: Tasks that it has.
    """

    name: str
    actor: Any
    resources: dict[str, Any]
    failures: int = 0
    is_ready: bool = False
    facts: Any = None
    tasks: list[Task] = field(default_factory=list[Task])


class ClusterPool:
    """Workers of a Ray cluster, and the tasks that they compute.

    All methods are called by one thread. Functions of tasks are called by `collect`.

    Args:
        address: Address of the cluster, or `auto` for the one of this machine or `RAY_ADDRESS`.
        most: Largest number of workers; None for one on each GPU, and one on each machine without
            GPUs.
        kind: Class of the workers, with the methods `prepare` and `end`.
        arguments: Arguments for it.
        admit: Function that is called with each worker whose `prepare` has returned, also with
            those that replace others. It sets `is_ready`, at once or later.
        events: Queue in which each answer of a worker puts None.
        threads: Number of tasks on which a worker works at the same time.

    Attributes:
        workers: Workers that have not died.
        unusable: Error because of which no task can be computed any more.

    Raises:
        DependencyError: Ray is not installed.
        DeviceError: There is no such cluster, or it has no room.
    """

    def __init__(
        self,
        address: str,
        most: int | None,
        kind: type,
        arguments: tuple[Any, ...],
        *,
        admit: Callable[[PoolWorker], None],
        events: SimpleQueue[Event | None],
        threads: int = 1,
    ) -> None:
        self._ray: Any = optional_package("ray", "--cluster", "ray", "ray")
        self._kind, self._arguments, self._admit, self._events = kind, arguments, admit, events
        self._limits = {"max_concurrency": threads, "concurrency_groups": {WATCH: 1}}
        self._answers: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._pending: deque[Task] = deque()
        self._suspects: deque[Task] = deque()
        self.workers: list[PoolWorker] = []
        self.unusable: UpscaleError | None = None
        self._connect(address)
        try:
            for place in self._places(most):
                self._spawn(*place)
        except BaseException:
            self._ray.shutdown()
            raise

    def submit(self, task: Task, *, first: bool = False) -> None:
        """Accept a task; it is sent to a worker by `start`.

        Args:
            task: The task.
            first: Send it before the others.
        """
        (self._pending.appendleft if first else self._pending.append)(task)

    def collect(self) -> None:
        """Handle what workers have returned, and workers that cannot start."""
        self.take_answers()
        if not any(each.facts for each in self.workers) and monotonic() > self._start_by:
            self.unusable = DeviceError(
                f"no worker has started within {_START_SECONDS:.0f} s: see `ray status` for what "
                "occupies the cluster"
            )
        if not self.workers and self.unusable is None:
            self.unusable = DeviceError("all workers of the cluster have failed")
        if self.unusable is not None:
            for task in self._take_all():
                task.failed(self.unusable)

    def start(self) -> None:
        """Send tasks to workers with room; a suspect gets a worker of its own."""
        ready = [each for each in self.workers if each.is_ready]
        kept = min(ready, key=lambda each: len(each.tasks)) if ready and self._suspects else None
        for worker in ready:
            if worker is kept and not worker.tasks:
                self._send(self._suspects.popleft(), worker)
            has_suspect = any(each.attempts for each in worker.tasks)
            while worker is not kept and not has_suspect and len(worker.tasks) < IN_FLIGHT:
                if not self._pending:
                    break
                self._send(self._pending.popleft(), worker)

    def wait(self) -> None:
        """Wait a moment for an answer, and handle what has arrived; for owners without events."""
        with suppress(Empty):
            self._events.get(timeout=_LONGEST_WAIT)
        self.collect()

    def call(self, worker: PoolWorker, reference: Any, then: Callable[[Any], None]) -> None:  # noqa: ANN401
        """Call a function with the answer of a worker, which is replaced if there is none."""

        def take(answer: Future[Any]) -> None:
            error = answer.exception()
            if error is not None:
                self._replace(worker, error)
            elif worker in self.workers:
                then(answer.result())

        self._when_done(reference, take)

    def store(self, content: bytes) -> Any:  # noqa: ANN401
        """Put bytes into Ray's object store, and return the reference that workers can take."""
        return self._ray.put(content)

    def retry(self, task: Task, error: BaseException) -> None:
        """Try a task again, alone on a worker, after a worker died or answered wrongly."""
        task.attempts += 1
        if task.attempts < ATTEMPTS:
            self._suspects.append(task)
            return
        task.failed(
            DeviceError(
                f"{task.label}: {ATTEMPTS} workers died while they had it ({one_line(error)})"
            )
        )

    def leave_out(self, worker: PoolWorker) -> None:
        """Do without a worker that has no tasks."""
        self.workers.remove(worker)
        self._kill(worker)

    def close(self) -> None:
        """End the workers, whose tasks are forgotten."""
        workers, self.workers = self.workers, []
        ending: list[Any] = []
        for worker in workers:
            worker.tasks = []
            if worker.facts is None:  # it may still have no place
                continue
            with suppress(Exception):  # it may be dead already
                ending.append(worker.actor.end.options(concurrency_group=WATCH).remote())
        with suppress(Exception):
            self._ray.wait(ending, num_returns=len(ending), timeout=_END_SECONDS)
        for worker in workers:
            self._kill(worker)
        self._ray.shutdown()

    def take_answers(self) -> None:
        """Call the functions that wait for `collect`; also after `close`."""
        for _ in range(self._answers.qsize()):
            self._answers.get()()

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

    def _spawn(self, name: str, resources: dict[str, Any], failures: int = 0) -> None:
        self._start_by = monotonic() + _START_SECONDS
        remote = self._ray.remote(max_restarts=0, max_task_retries=0, **self._limits, **resources)(
            self._kind
        )
        worker = PoolWorker(name, remote.remote(*self._arguments), resources, failures)
        self.workers.append(worker)

        def admit(facts: Any) -> None:  # noqa: ANN401
            worker.facts = facts
            self._admit(worker)

        self.call(worker, worker.actor.prepare.remote(), admit)

    def _replace(self, worker: PoolWorker, error: BaseException) -> None:
        """Start another worker in place of one that died, unless it fails again and again."""
        if worker not in self.workers:
            return
        self.leave_out(worker)
        tasks, worker.tasks = worker.tasks, []
        for task in tasks:
            self.retry(task, error)
        cause = getattr(error, "cause", None)
        if not worker.is_ready and isinstance(cause, UpscaleError):
            self.unusable = cause
            return
        failures = 0 if worker.is_ready else worker.failures + 1
        if failures < ATTEMPTS:
            self._spawn(worker.name, worker.resources, failures)

    def _kill(self, worker: PoolWorker) -> None:
        with suppress(Exception):  # it may be dead already
            self._ray.kill(worker.actor)

    def _when_done(self, reference: Any, then: Callable[[Future[Any]], None]) -> None:  # noqa: ANN401
        """Call a function by `collect`, in the calling thread, once a worker has answered."""

        def note(answer: Future[Any]) -> None:
            self.later(lambda: then(answer))

        reference.future().add_done_callback(note)

    def later(self, then: Callable[[], None]) -> None:
        """Call a function by `collect`; from any thread."""
        self._answers.put(then)
        self._events.put(None)

    # --- tasks ---------------------------------------------------------------------------------

    def _send(self, task: Task, worker: PoolWorker) -> None:
        try:
            reference = task.send(worker)
        except OSError as error:
            task.failed(error)
            return
        worker.tasks.append(task)
        self._when_done(reference, lambda answer: self._answered(task, worker, answer))

    def _answered(self, task: Task, worker: PoolWorker, answer: Future[Any]) -> None:
        if task not in worker.tasks:  # dealt with when its worker died
            return
        error = answer.exception()
        cause = getattr(error, "cause", None)
        if isinstance(cause, UpscaleError) and not isinstance(cause, DeviceError):
            worker.tasks.remove(task)
            task.failed(cause)
        elif error is not None:
            self._replace(worker, error)
        else:
            worker.tasks.remove(task)
            task.done(answer.result())

    def _take_all(self) -> list[Task]:
        """Return all tasks that are not done, and forget them."""
        tasks = [*self._pending, *self._suspects]
        for worker in self.workers:
            tasks += worker.tasks
            worker.tasks = []
        self._pending.clear()
        self._suspects.clear()
        return tasks


def versions() -> dict[str, str]:
    """Return the versions of the packages that determine an output."""
    return {name: version(name) for name in ("upscale", "torch", "av")}


def from_anywhere(options: Options) -> Options:
    """Return options whose checkpoints are found from every folder."""
    model = options.engine.model
    if Path(model).is_file() or fusion_path(model) is not None:
        model = str(Path(model).absolute())
    return replace(
        options,
        engine=replace(options.engine, model=model),
        faces=with_absolute_paths(options.faces),
    )
