"""Batches: submit the jobs of a plan to an executor and report their results in order."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty
from typing import BinaryIO

from upscale.files.claims import Claim, empty_folders_removed
from upscale.images import remove_stale_temporaries
from upscale.jobs.events import Finished, JobResult, Listener, Planned
from upscale.jobs.executor import Executor
from upscale.jobs.faces import FaceFactory
from upscale.jobs.image import ImageJob
from upscale.jobs.interrupts import defer_interrupts
from upscale.jobs.local import LocalExecutor
from upscale.jobs.plan import Plan, claim_or_skip
from upscale.jobs.workers import Devices
from upscale.options import Options

_LONGEST_WAIT = 0.2
"""Seconds; on Windows, a wait cannot be interrupted."""


def run_batch(
    plan: Plan,
    options: Options,
    devices: Devices,
    listener: Listener,
    stdout: BinaryIO | None = None,
    *,
    faces: FaceFactory | None = None,
) -> list[JobResult]:
    """Process every job of a plan on local devices; return the results in the order of the plan.

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
        faces: Factory of what restores faces, by device; None to restore none.

    Raises:
        UsageError: A factory finds that the request is impossible.
    """
    jobs = sum(isinstance(item, ImageJob) for item in plan.items)
    executor = LocalExecutor(devices, options, stdout, jobs, faces=faces)
    return run_jobs(plan, executor, listener, skip_existing=options.output.skip_existing)


def run_jobs(
    plan: Plan, executor: Executor, listener: Listener, *, skip_existing: bool = False
) -> list[JobResult]:
    """Process every job of a plan in an executor, and close it; see `run_batch`.

    Args:
        plan: Jobs, and results of inputs that need no work.
        executor: Executor of the jobs.
        listener: Function that is called with each event.
        skip_existing: Leave outputs to other processes that are working on them.

    Raises:
        UsageError: The executor finds that the request is impossible.
    """
    targets = [item.target for item in plan.items if isinstance(item, ImageJob)]
    folders = {target.parent for target in targets if target is not None}
    for folder in folders:
        remove_stale_temporaries(folder)
    planned = Planned(len(plan.items), plan.ignored, executor.devices, len(targets), plan.elsewhere)
    with empty_folders_removed(folders if skip_existing else ()):
        batch = _Batch(plan, executor, listener, skip_existing=skip_existing)
        try:
            listener(planned)
            batch.run()
        finally:
            batch.close()
    return batch.results


@dataclass(frozen=True, slots=True)
class _Submitted:
    """A job that has been submitted, and the right to write its output."""

    position: int
    ended: Future[JobResult]
    claim: Claim | None

    def release(self) -> None:
        if self.claim is not None:
            self.claim.release()


class _Batch:
    """State of one batch; other threads only put events into the queue of the executor."""

    def __init__(
        self, plan: Plan, executor: Executor, listener: Listener, *, skip_existing: bool
    ) -> None:
        self.results: list[JobResult] = []
        self._remaining = enumerate(plan.items)
        self._total = len(plan.items)
        self._executor = executor
        self._listener = listener
        self._skips_existing = skip_existing
        self._submitted: list[_Submitted] = []
        self._finished: dict[int, JobResult] = {}

    def run(self) -> None:
        """Process all jobs; each event of the executor wakes the loop."""
        while len(self.results) < self._total:
            self._collect()
            self._submit_ahead()
            self._forward_events()  # after _collect: the tiles of an image precede its result
            self._report()
            self._executor.start()
            if self._submitted:
                self._wait()

    def close(self) -> None:
        """Stop the executor, and report the outputs that it completes."""
        self._executor.close()
        self._take_results()
        for each in self._submitted:
            each.release()
        with defer_interrupts():
            for position in sorted(self._finished):
                self._finish(self._finished[position])

    def _collect(self) -> None:
        self._executor.collect()
        self._take_results()

    def _take_results(self) -> None:
        for each in tuple(self._submitted):
            if each.ended.done():
                each.release()
                self._finished[each.position] = each.ended.result()
                self._submitted.remove(each)

    def _submit_ahead(self) -> None:
        """Submit the next jobs, up to the limit of the executor."""
        while len(self._submitted) < self._executor.limit:
            position, item = next(self._remaining, (0, None))
            if item is None:
                return
            claim = item if isinstance(item, JobResult) else self._claim(item)
            if isinstance(claim, JobResult):
                self._finished[position] = claim
            elif isinstance(item, ImageJob):
                ended = self._executor.submit(item)
                self._submitted.append(_Submitted(position, ended, claim))

    def _claim(self, job: ImageJob) -> Claim | JobResult | None:
        return claim_or_skip(job) if self._skips_existing else None

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
        for _ in range(self._executor.events.qsize()):
            self._wait()

    def _wait(self) -> None:
        """Wait for one entry of the queue and pass an event to the listener."""
        with suppress(Empty):
            event = self._executor.events.get(timeout=_LONGEST_WAIT)
            if event is not None:
                self._listener(event)
