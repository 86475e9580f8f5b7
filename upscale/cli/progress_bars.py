"""Progress bars on a terminal: tiles of each device's image, and images of the batch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

_NAME_WIDTH = 28

ByteProgress = Callable[[int, int | None], None]


class _RateColumn(ProgressColumn):
    """Steps a second, or seconds a step where that reads better."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


class Bars:
    """The bars of one batch; one image shows no bar of images, several devices one each."""

    def __init__(self, stderr: TextIO, images: int, devices: Sequence[str]) -> None:
        # Rich would otherwise send what is printed to standard output to its own stream.
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            _RateColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(file=stderr),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._images = self._progress.add_task("pictures", total=images) if images > 1 else None
        self._labels = {device: f"{device} " if len(devices) > 1 else "" for device in devices}
        self._tiles = {
            device: self._progress.add_task(f"{label}preparing", total=None)
            for device, label in self._labels.items()
        }
        self._progress.start()

    def start_image(self, device: str, name: str) -> None:
        """Show the tiles of a device's next image."""
        shown = name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 1]}…"
        description = self._labels[device] + shown
        self._progress.reset(self._tiles[device], total=None, description=description)

    def advance(self, device: str, done: int, total: int) -> None:
        """Show that `done` of `total` tiles of a device's image are computed."""
        self._progress.update(self._tiles[device], completed=done, total=total)

    def finish_image(self, failed: int) -> None:
        """Count one image as ended."""
        if self._images is not None:
            name = f"images ({failed} failed)" if failed else "pictures"
            self._progress.update(self._images, advance=1, description=name)

    def stop(self) -> None:
        """Take the bars off the terminal."""
        self._progress.stop()

    def resume(self) -> None:
        """Show the bars again."""
        self._progress.start()


@contextmanager
def fetching(stderr: TextIO, name: str) -> Generator[ByteProgress]:
    """Show a download on a terminal; yields what is to be told of (bytes done, bytes in all)."""
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(file=stderr),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not stderr.isatty(),
    )
    task = progress.add_task(name, total=None)
    with progress:
        yield lambda done, total: progress.update(task, completed=done, total=total)
