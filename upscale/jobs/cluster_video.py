"""The segments of a video on the machines of a Ray cluster.

The driver, which is the process that the user started, has the journal and the lock, verifies the
segments that come back, and joins them. Workers only compute.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from upscale.errors import DeviceError, OutputError, VideoError
from upscale.files.printable import printable
from upscale.jobs.auto import ChoiceRecord
from upscale.jobs.cluster_pool import (
    WATCH,
    ClusterPool,
    PoolWorker,
    Task,
    from_anywhere,
    versions,
)
from upscale.jobs.cluster_video_worker import (
    ComputedSegment,
    MakeNetworks,
    VideoSetup,
    VideoWorker,
)
from upscale.jobs.events import Event
from upscale.jobs.pipeline import WaitTimes
from upscale.jobs.video_devices import ComputedFrames, Tracked, joined
from upscale.jobs.video_faces import FaceRecord
from upscale.jobs.video_frames import FrameOptions
from upscale.jobs.video_plan import VideoJob
from upscale.options import AUTO, Options
from upscale.video.segments import Segment, SegmentStore

if TYPE_CHECKING:
    from upscale.selection import Choice

_CHUNK_BYTES = 32 << 20
"""Part of a source that is sent at once."""

_GRACE_SECONDS = 60.0
"""How long the first worker waits for the others before the first frame."""

_WATCH_SECONDS = 0.5


class ClusterVideo:
    """Compute the segments of a video on a Ray cluster; see `VideoDevices`.

    Args:
        address: Address of the cluster, or `auto` for the one of this machine or `RAY_ADDRESS`.
        workers: Largest number of workers; None for one on each GPU, and one on each machine
            without GPUs.
        options: Options of the command.
        note: Callback for workers that are left out, with one line of text.
        make: Function that loads the networks in a worker; None for the usual one.

    Attributes:
        identity: Properties that a resumed run must share beside source and encoder, by names for
            users.

    Raises:
        DependencyError: Ray is not installed.
        DeviceError: There is no such cluster, it has no room, or its workers do not agree.
        UpscaleError: The workers cannot load the networks.
    """

    def __init__(
        self,
        address: str,
        workers: int | None,
        options: Options,
        note: Callable[[str], None],
        make: MakeNetworks | None = None,
    ) -> None:
        self.chooses = options.engine.model == AUTO
        self.restores_faces = options.faces.is_on
        self._note = note
        self._events: SimpleQueue[Event | None] = SimpleQueue()
        self._job: VideoJob | None = None
        self._digest = self._name = ""
        self._chunks: list[Any] = []
        self._opened: list[PoolWorker] = []
        self._agreed: dict[str, str] | None = None
        self._setup: VideoSetup | None = None
        self._choice: Choice | None = None
        self._kernels: dict[str, Any] = {}
        self._tile = 0
        self._convolutions: set[str] = set()
        arguments = (from_anywhere(options), make)
        self._pool = ClusterPool(
            address, workers, VideoWorker, arguments, admit=self._admit, events=self._events
        )
        try:
            self._agreed = self._agree()
        except BaseException:
            self._pool.close()
            raise
        own = (*versions(), "card")
        self.identity = {name: text for name, text in self._agreed.items() if name not in own}

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the workers' machines and devices."""
        return tuple(worker.name for worker in self._pool.workers)

    @property
    def convolutions(self) -> str:
        """Kernels that have computed the convolutions."""
        return joined(self._convolutions)

    def open(self, job: VideoJob, digest: str) -> None:
        """Let all workers find the source, or send it to them."""
        path = job.video.path.absolute()
        self._job = replace(job, video=replace(job.video, path=path))
        self._digest, self._name = digest, printable(job.video.path)
        for worker in self._prepared():
            if worker not in self._opened:
                self._open(worker, self._job)
        self._wait_while(lambda: any(each not in self._opened for each in self._prepared()))

    def choose(self) -> ChoiceRecord:
        """Choose networks for all frames in one of the workers."""
        return self._ask("choose")

    def use(self, choice: Choice | None) -> None:
        """Use the networks that were chosen."""
        self._choice = choice

    def resolve_kernels(self, record: dict[str, Any]) -> dict[str, Any]:
        """Choose the kernels of all workers."""
        self._kernels = record
        for worker in self._prepared():
            answer = self._answer(worker, "resolve_kernels", self._choice, self._kernels)
            self._kernels = self._kernels if answer is None else answer
        return self._kernels

    def resolve_tile(self, tile: int | None) -> int:
        """Choose one tile size for all workers."""
        self._tile = self._ask("resolve_tile", self._choice, tile)
        return self._tile

    def find_faces(self) -> FaceRecord:
        """Find and track the faces of all frames in one of the workers."""
        return self._ask("find_faces", self._choice)

    def compute(
        self,
        store: SegmentStore,
        options: FrameOptions,
        tracked: Tracked | None,
        advance: Callable[[int], None],
        check_source: Callable[[], None],
    ) -> ComputedFrames:
        """Compute all pending segments."""
        if not store.pending:
            return ComputedFrames(0, 0, WaitTimes())
        first = [worker for worker in self._opened if self._has(worker)]
        self._setup = VideoSetup(self._choice, self._kernels, self._tile, options, tracked)
        for worker in first:
            self._set_up(worker, self._setup, is_late=False)
        self._wait_while(lambda: any(not each.is_ready for each in first if self._has(each)))
        run = _Run(self._pool, store, advance, check_source)
        while not run.is_complete:
            self._pool.start()
            run.watch()
            self._wait()
            if run.error is not None:
                raise run.error
        self._convolutions |= run.convolutions
        return ComputedFrames(run.computed, 0, run.waits)

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    # --- workers -------------------------------------------------------------------------------

    def _admit(self, worker: PoolWorker) -> None:
        """Prepare a worker that comes after the others have agreed."""
        if self._agreed is None:
            return
        self._leave_out_odd(worker, _difference(worker.facts, self._agreed))
        if self._has(worker) and self._job is not None:
            self._open(worker, self._job)

    def _agree(self) -> dict[str, str]:
        """Wait for the workers, and return what they share.

        Raises:
            DeviceError: One of them differs, or differs from this machine.
        """
        self._wait_while(lambda: not self._prepared())
        deadline = monotonic() + _GRACE_SECONDS
        self._wait_while(
            lambda: len(self._prepared()) < len(self._pool.workers) and monotonic() < deadline
        )
        workers = self._prepared()
        agreed: dict[str, str] = {}
        for name in workers[0].facts:
            values = Counter(worker.facts.get(name, "none") for worker in workers)
            agreed[name] = versions().get(name) or values.most_common(1)[0][0]
        for worker in workers:
            odd = _difference(worker.facts, agreed)
            if odd is not None:
                other = "this machine" if odd in versions() else "the other workers"
                found = worker.facts.get(odd, "none")
                raise DeviceError(
                    f"{worker.name} has {odd} {found}, and {other} {agreed[odd]}: {_advice(odd)}"
                )
        return agreed

    def _leave_out_odd(self, worker: PoolWorker, odd: str | None) -> None:
        if odd is not None:
            self._note(f"{worker.name} is left out: it differs from the others in {odd}")
            self._pool.leave_out(worker)

    def _open(self, worker: PoolWorker, job: VideoJob) -> None:
        """Let a worker find the source, or send it."""

        def found(is_here: bool) -> None:
            if is_here:
                self._note_opened(worker)
            else:
                self._send_source(worker, job.video.path, 0)

        answer = worker.actor.find_source.remote(job, self._digest, self._name)
        self._pool.call(worker, answer, found)

    def _send_source(self, worker: PoolWorker, path: Path, number: int) -> None:
        """Send the source from a part on, one part after another."""
        chunk = self._chunk(path, number)
        if chunk is not None:
            answer = worker.actor.receive.remote(chunk, is_first=number == 0)
            self._pool.call(worker, answer, lambda _: self._send_source(worker, path, number + 1))
            return

        def accepted(is_whole: bool) -> None:
            if is_whole:
                self._note_opened(worker)
            else:
                self._pool.unusable = VideoError(
                    f"{printable(path)}: has changed, or arrived damaged on {worker.name}; "
                    "run the same command again"
                )

        self._pool.call(worker, worker.actor.accept.remote(), accepted)

    def _note_opened(self, worker: PoolWorker) -> None:
        self._opened.append(worker)
        if self._setup is not None:
            self._set_up(worker, self._setup, is_late=True)

    def _chunk(self, path: Path, number: int) -> Any | None:  # noqa: ANN401
        """Return a part of the source in the object store, put there once; None after the last."""
        if number == len(self._chunks):
            with path.open("rb") as file:
                file.seek(number * _CHUNK_BYTES)
                content = file.read(_CHUNK_BYTES)
            if not content:
                return None
            self._chunks.append(self._pool.store(content))
        return self._chunks[number]

    def _set_up(self, worker: PoolWorker, setup: VideoSetup, *, is_late: bool) -> None:
        """Give a worker what was chosen for all; it must use exactly that."""
        expected = {"kernels": setup.kernels, "tile": setup.tile}

        def compare(used: dict[str, object]) -> None:
            odd = _difference(used, expected)
            if odd is None:
                worker.is_ready = True
            elif is_late:
                self._leave_out_odd(worker, odd)
            else:
                self._pool.unusable = DeviceError(
                    f"{worker.name} cannot use the {odd} of the other workers: {_advice(odd)}"
                )

        self._pool.call(worker, worker.actor.set_up.remote(setup), compare)

    def _prepared(self) -> list[PoolWorker]:
        return [worker for worker in self._pool.workers if worker.facts is not None]

    def _has(self, worker: PoolWorker) -> bool:
        return worker in self._pool.workers

    def _ask(self, method: str, *arguments: object) -> Any:  # noqa: ANN401
        """Return the answer of any worker that has the source."""
        while True:
            self._wait_while(lambda: not any(map(self._has, self._opened)))
            worker = next(filter(self._has, self._opened))
            answer = self._answer(worker, method, *arguments)
            if answer is not None:
                return answer

    def _answer(self, worker: PoolWorker, method: str, *arguments: object) -> Any:  # noqa: ANN401
        """Return the answer of a worker; None if it dies."""
        answers: list[Any] = []
        self._pool.call(worker, getattr(worker.actor, method).remote(*arguments), answers.append)
        self._wait_while(lambda: not answers and self._has(worker))
        return answers[0] if answers else None

    def _wait_while(self, condition: Callable[[], bool]) -> None:
        while condition():
            self._wait()

    def _wait(self) -> None:
        """Handle answers.

        Raises:
            UpscaleError: No worker can be used.
        """
        self._pool.wait()
        if self._pool.unusable is not None:
            raise self._pool.unusable


class _Run:
    """The pending segments of a store while workers compute them.

    Attributes:
        error: Error of a segment, which ends the run; None if there was none.
        computed: Number of frames that the networks have computed.
        waits: How long they have waited in total.
        convolutions: Kernels that have computed the convolutions.
    """

    def __init__(
        self,
        pool: ClusterPool,
        store: SegmentStore,
        advance: Callable[[int], None],
        check_source: Callable[[], None],
    ) -> None:
        self.error: Exception | None = None
        self.computed, self.waits = 0, WaitTimes()
        self.convolutions: set[str] = set()
        self._pool, self._store = pool, store
        self._advance, self._check_source = advance, check_source
        self._remaining = len(store.pending)
        self._shown: dict[int, int] = {}
        self._watched: set[PoolWorker] = set()
        self._watch_from = monotonic()
        for segment in store.pending:
            pool.submit(self._task(segment))

    @property
    def is_complete(self) -> bool:
        """Whether all segments are in the journal."""
        return self._remaining == 0

    def watch(self) -> None:
        """Ask the workers from time to time how many frames are finished."""
        if monotonic() < self._watch_from:
            return
        self._watch_from = monotonic() + _WATCH_SECONDS
        for worker in self._pool.workers:
            if worker.tasks and worker not in self._watched:
                self._watched.add(worker)
                answer = worker.actor.frames_done.options(concurrency_group=WATCH).remote()
                self._pool.call(worker, answer, partial(self._show_current, worker))

    def _task(self, segment: Segment) -> Task:
        label = f"segment {segment.number} of {printable(self._store.folder)}"

        def send(worker: PoolWorker) -> Any:  # noqa: ANN401
            self._show(segment.number, 0)
            return worker.actor.compute.remote(segment)

        task = Task(label, send, lambda computed: self._take(task, segment, computed), self._fail)
        return task

    def _take(self, task: Task, segment: Segment, computed: ComputedSegment) -> None:
        """Verify a segment that a worker has computed, and keep it."""
        if hashlib.sha256(computed.content).hexdigest() != computed.sha256:
            self._pool.retry(task, OutputError("it has arrived damaged"))
            return
        self._check_source()
        self._store.add(segment, computed.content, computed.times, computed.corrupt_frames)
        self._show(segment.number, len(computed.times))
        del self._shown[segment.number]
        self._remaining -= 1
        self.computed += computed.computed
        self.waits.for_input += computed.waits.for_input
        self.waits.for_output += computed.waits.for_output
        self.convolutions.add(computed.convolutions)

    def _fail(self, error: Exception) -> None:
        self.error = self.error or error

    def _show_current(self, worker: PoolWorker, current: tuple[int, int]) -> None:
        self._watched.discard(worker)
        number, done = current
        if number in self._shown:
            self._show(number, done)

    def _show(self, number: int, done: int) -> None:
        """Report how many frames of a segment are finished."""
        new = done - self._shown.get(number, 0)
        self._shown[number] = done
        if new:
            self._advance(new)


def _difference(found: dict[str, Any], expected: dict[str, Any]) -> str | None:
    """Return the first name whose value differs."""
    return next((name for name in expected if found.get(name) != expected[name]), None)


def _advice(name: str) -> str:
    """Return what to do if workers differ in a property."""
    if name in versions():
        return "install the same versions"
    if name == "model":
        return "give all machines the same file of the network"
    return "use machines of one kind, or choose --device, --precision, --kernels or --tile for all"
