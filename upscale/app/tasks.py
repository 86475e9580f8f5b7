"""Tasks: what the page has asked for, and what became of it."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from upscale.app.progress import Progress
from upscale.app.settings import Settings
from upscale.app.uploads import Upload
from upscale.files.printable import printable
from upscale.options import Options

TaskKind = Literal["images", "video", "preview"]
_ID_BYTES = 12


def random_id() -> str:
    """Return a name that nobody can guess."""
    return secrets.token_urlsafe(_ID_BYTES)


class FileState(StrEnum):
    """State of one file of a task."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    IGNORED = "ignored"
    FAILED = "failed"


class TaskState(StrEnum):
    """State of a task."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    SOME_FAILED = "some failed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CancelledError(KeyboardInterrupt):
    """The user has cancelled a task: it ends as a run does that Ctrl+C interrupts."""


@dataclass(slots=True)
class TaskFile:
    """A file of a task.

    Attributes:
        upload: The input.
        id: Random name of the result.
        state: State of the file.
        output: The result; None until there is one.
        message: Error, or how it was computed.
        notes: Remarks, one line each.
    """

    upload: Upload
    id: str = field(default_factory=random_id)
    state: FileState = FileState.WAITING
    output: Path | None = None
    message: str = ""
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, object]:
        """Return the file for the page."""
        output = self.output
        return {
            "id": self.id,
            "name": self.upload.name,
            "state": str(self.state),
            "message": self.message,
            "notes": list(self.notes),
            "output": None if output is None else printable(output.name),
        }


@dataclass(slots=True)
class Task:
    """Files that are upscaled together, or a comparison of networks.

    Attributes:
        kind: Images, one video, or a comparison.
        settings: Settings of the page.
        options: Options of the jobs.
        files: The inputs.
        folder: Folder of the results.
        command: Command line that does the same.
        id: Random name.
        state: State of the task.
        progress: Work that is done.
        detail: Step of the running task, for example a tile; empty for none.
        error: Error that ended it.
        notes: Remarks, one line each.
        page: Page that compares networks; None until there is one.
        cancelling: Set when the user has cancelled it.
    """

    kind: TaskKind
    settings: Settings
    options: Options
    files: Sequence[TaskFile]
    folder: Path
    command: str
    id: str = field(default_factory=random_id)
    state: TaskState = TaskState.QUEUED
    progress: Progress = field(default_factory=Progress)
    detail: str = ""
    error: str = ""
    notes: list[str] = field(default_factory=list[str])
    page: Path | None = None
    cancelling: threading.Event = field(default_factory=threading.Event)

    @property
    def pending(self) -> list[TaskFile]:
        """The files that a run has to compute."""
        finished = (FileState.DONE, FileState.SKIPPED, FileState.IGNORED)
        return [file for file in self.files if file.state not in finished]

    def prepare(self) -> None:
        """Forget the failures of an earlier run, before the task is queued again."""
        for file in self.pending:
            file.state, file.message, file.notes = FileState.WAITING, "", ()
        self.state, self.error, self.detail = TaskState.QUEUED, "", ""
        self.notes.clear()
        self.progress = Progress()
        self.cancelling.clear()

    def readable(self, text: str) -> str:
        """Return a message in which private paths are replaced by the names of their files."""
        for file in self.files:
            for path in (str(file.upload.path), printable(file.upload.path)):
                text = text.replace(path, file.upload.name)
        if self.settings.folder is None:
            text = text.replace(f"{self.folder}{os.sep}", "")
        return text

    def record(self) -> dict[str, object]:
        """Return the task for the page."""
        return {
            "id": self.id,
            "kind": self.kind,
            "state": str(self.state),
            "files": [file.record() for file in self.files],
            "progress": self.progress.record(),
            "detail": self.detail,
            "error": self.error,
            "notes": list(self.notes),
            "command": self.command,
            "folder": None if self.settings.folder is None else printable(self.settings.folder),
            "has_page": self.page is not None,
            "is_cancelling": self.cancelling.is_set(),
        }
