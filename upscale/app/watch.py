"""Follow a running task: its events become progress, and a cancelled task is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from upscale.app.tasks import CancelledError, FileState, Task, TaskFile
from upscale.files.printable import printable
from upscale.jobs import Advanced, Event, Finished, JobResult, Planned, Started, Status

_MOST_NOTES = 50

_STATES = {
    Status.DONE: FileState.DONE,
    Status.SKIPPED: FileState.SKIPPED,
    Status.FAILED: FileState.FAILED,
}


class Watch:
    """What `upscale.jobs` reports about a task.

    Args:
        task: The task.
        files: Its files by the names that jobs have for them.
        work: Work of each file, by the same names.
    """

    def __init__(
        self,
        task: Task,
        files: Mapping[str, TaskFile] | None = None,
        work: Mapping[str, float] | None = None,
    ) -> None:
        self._task = task
        self._files = files or {}
        self._work = work or {}
        self._current: dict[str, str] = {}

    def check(self) -> None:
        """Interrupt the task if the user has cancelled it.

        Raises:
            CancelledError: The user has.
        """
        if self._task.cancelling.is_set():
            raise CancelledError

    def note(self, line: str) -> None:
        """Keep a remark for the page."""
        line = self._task.readable(line)
        if line not in self._task.notes and len(self._task.notes) < _MOST_NOTES:
            self._task.notes.append(line)

    def notes(self, notes: Sequence[str], /) -> None:
        """Keep remarks for the page."""
        for line in notes:
            self.note(line)

    @contextmanager
    def download(self, name: str, /) -> Generator[Callable[[int, int | None], None]]:
        """Show the download of a network."""

        def advance(done: int, total: int | None) -> None:
            self.check()
            share = f" ({done * 100 // total} %)" if total else ""
            self._task.detail = f"downloading {name}, needed once{share}"

        advance(0, None)
        yield advance
        self._task.detail = ""

    def frames(self, done: int, total: int) -> None:
        """Show the frames of a video that are done."""
        progress = self._task.progress
        if not progress.total:
            progress.total, progress.unit = total, "frames"
            progress.done = progress.earlier = done
            progress.begin("video", 0.0)
        progress.done = done
        self._task.detail = f"frame {done} of {total}"
        self.check()

    def listen(self, event: Event) -> None:
        """Show an event of a batch."""
        match event:
            case Planned():
                self._task.progress.total = sum(self._work.values())
                self.check()
            case Started():
                self._start(event)
                self.check()
            case Advanced():
                self._task.progress.advance(event.device, event.done / max(event.total, 1))
                self._task.detail = f"{event.unit.removesuffix('s')} {event.done} of {event.total}"
                self.check()
            case Finished():  # also called when a cancelled batch ends
                self._finish(event.result)

    def _start(self, event: Started) -> None:
        file = self._files.get(event.input)
        self._current[event.device] = event.input
        self._task.progress.begin(event.device, self._work.get(event.input, 1.0))
        self._task.detail = ""
        if file is not None:
            file.state = FileState.RUNNING

    def _finish(self, result: JobResult) -> None:
        name = result.input
        if not self._files:  # a comparison, which has one device, names images and networks
            name = next(iter(self._current.values()), name)
        device = next((d for d, current in self._current.items() if current == name), None)
        if device is not None:
            del self._current[device]
        self._task.progress.finish(device, self._work.get(name, 0.0))
        file = self._files.get(result.input)
        if file is not None:
            self._set_result(file, result)

    def _set_result(self, file: TaskFile, result: JobResult) -> None:
        readable = self._task.readable
        file.state = _STATES.get(result.status, FileState.FAILED)
        if result.output is not None and result.status in (Status.DONE, Status.SKIPPED):
            output = Path(result.output)
            file.output = output if output.is_file() else None
        damage = [f"is damaged: {clause}" for clause in result.damaged]
        file.notes = tuple(readable(note) for note in (*result.notes, *damage))
        file.message = readable(result.error or _description(result))


def _description(result: JobResult) -> str:
    if result.status is Status.SKIPPED:
        return "" if result.notes else f"{printable(Path(result.output or '').name)} exists"
    if result.size_in is None or result.size_out is None:
        return ""
    sizes = "{}x{} to {}x{}".format(*result.size_in, *result.size_out)
    parts = [f"{sizes} in {result.seconds or 0:.1f} s", result.model]
    if result.choice is not None:
        parts[-1] += f": {result.choice.reason}"
    if result.faces is not None:
        parts.append(f"{result.faces} face{'s' * (result.faces != 1)}")
    return ", ".join(parts)
