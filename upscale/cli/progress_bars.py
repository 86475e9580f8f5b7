"""Progress bars on a terminal: tiles of the current images, images of a batch, and downloads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TextIO

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from upscale.cli.console import EscapingConsole, LabelColumn
from upscale.cli.session import Session
from upscale.files.printable import printable_text
from upscale.options import ReportOptions

_NAME_WIDTH = 28
_LINE_SECONDS = 30
"""Time between two lines of progress without a terminal."""

_PAUSE_STEPS = 10
"""Steps of the longest duration so far, above which the program must have been stopped."""

ByteProgress = Callable[[int, int | None], None]
"""Called with the bytes received and the bytes in total, which may be unknown."""

StepProgress = Callable[[int, int], None]
"""Called with the steps done and the steps in total."""


class _CountColumn(ProgressColumn):
    """Steps done and in total with their unit; empty while the total is unknown."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text("")
        return Text(f"{task.completed:.0f}/{task.total:.0f} {_unit(task)}")


class _RateColumn(ProgressColumn):
    """Steps per second, or seconds per step if a step takes longer than a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(rate_text(speed, _unit(task)))


class _BytesColumn(DownloadColumn):
    """Bytes received and in total; empty while the total is unknown."""

    def render(self, task: Task) -> Text:
        return Text("") if task.total is None else super().render(task)


class _SpeedColumn(TransferSpeedColumn):
    """Bytes per second; empty while they are unknown."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.finished_speed or task.speed else Text("")


class _TimeLeftColumn(TimeRemainingColumn):
    """Time left; empty while it is unknown."""

    def render(self, task: Task) -> Text:
        if task.time_remaining is None:
            return Text("")
        return Text.assemble(super().render(task), " left")


def _unit(task: Task) -> str:
    """Return the name of the steps of a task, in the plural."""
    return str(task.fields["unit"])


class BatchBars:
    """One bar for the tiles of each device's image and, for several images, one for the batch."""

    def __init__(self, stderr: TextIO, images: int, devices: Sequence[str]) -> None:
        """Show the bars.

        Args:
            stderr: Stream of the terminal.
            images: Number of images in the batch.
            devices: Names of the devices.
        """
        self._progress = _step_bars(stderr)
        self._images: TaskID | None = None
        if images > 1:
            self._images = self._progress.add_task("total", total=images, unit="images")
        self._labels = {device: f"{device} " if len(devices) > 1 else "" for device in devices}
        self._tiles = {
            device: self._progress.add_task(f"{label}preparing", total=None, unit="tiles")
            for device, label in self._labels.items()
        }
        self._progress.start()

    def start_image(self, device: str, name: str) -> None:
        """Show the tiles of a device's next image."""
        name = printable_text(name)  # here, so that its printed length is limited
        short = name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 1]}…"
        description = self._labels[device] + short
        self._progress.reset(self._tiles[device], total=None, description=description)

    def advance(self, device: str, done: int, total: int, unit: str) -> None:
        """Show that `done` of `total` tiles, or other steps, of a device's image are computed."""
        self._progress.update(self._tiles[device], completed=done, total=total, unit=unit)

    def finish_image(self, failed: int) -> None:
        """Count one image as finished; `failed` is the number of failed images so far."""
        if self._images is not None:
            name = f"total ({failed} failed)" if failed else "total"
            self._progress.update(self._images, advance=1, description=name)

    def stop(self) -> None:
        """Remove the bars from the terminal."""
        self._show(False)  # else Rich erases lines above the cursor when the bars return
        self._progress.stop()

    def resume(self) -> None:
        """Show the bars again after `stop`."""
        self._progress.start()
        self._show(True)

    def _show(self, visible: bool) -> None:
        for task in self._progress.task_ids:
            self._progress.update(task, visible=visible)
        self._progress.refresh()


@contextmanager
def step_progress(
    session: Session, unit: str, report: ReportOptions | None = None, *, label: str = ""
) -> Generator[StepProgress]:
    """Show one bar for a number of steps while the block runs; without a terminal, lines.

    The bar appears with the first step, so that messages and downloads before it stay readable. A
    line is printed every 30 seconds.

    Args:
        session: Streams.
        unit: Name of the steps, in the plural.
        report: Options that can hide the bar.
        label: Name of the bar.
    """
    report = report or ReportOptions()
    if not can_show_bars(session, report):
        is_silent = report.quiet or session.stderr.isatty()
        yield (lambda done, total: None) if is_silent else ProgressLines(session.say, unit, label)
        return
    bars = _step_bars(session.stderr, has_label=bool(label))
    task = bars.add_task(label, total=None, unit=unit)

    def advance(done: int, total: int) -> None:
        bars.start()
        bars.update(task, completed=done, total=total)

    try:
        yield advance
    finally:
        bars.stop()


class ProgressLines:
    """Print how far a work is from time to time, for logs.

    Args:
        say: Function that prints a line.
        unit: Name of the steps, in the plural.
        label: Name of the work; empty for none.
        clock: Function that returns a time in seconds.

    Example:
        >>> seconds = iter([0.0, 31.0])
        >>> advance = ProgressLines(print, "frames", clock=lambda: next(seconds))
        >>> advance(0, 200)
        >>> advance(62, 200)
        62/200 frames, 2.0 frames/s, 1 min left
    """

    def __init__(
        self,
        say: Callable[[str], None],
        unit: str,
        label: str = "",
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._say, self._unit, self._clock = say, unit, clock
        self._label = f"{label}: " if label else ""
        self._first: tuple[float, int] | None = None
        self._printed = self._last = self._longest = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Print a line, unless the last one is recent or the work is finished."""
        now = self._clock()
        if self._first is None:
            self._first, self._printed, self._last = (now, done), now, now
        self._first = self._without_pause(self._first, now)
        if now - self._printed < _LINE_SECONDS or done >= total:
            return
        self._printed = now
        start, before = self._first
        line = f"{self._label}{done}/{total} {self._unit}"
        if done > before and now > start:
            rate = (done - before) / (now - start)
            line += f", {rate_text(rate, self._unit)}, {duration_text((total - done) / rate)} left"
        self._say(line)

    def _without_pause(self, first: tuple[float, int], now: float) -> tuple[float, int]:
        """Return the start, later by a pause: a step that took far longer than all before it."""
        step, self._last = now - self._last, now
        if self._longest and step > max(_LINE_SECONDS, self._longest * _PAUSE_STEPS):
            return first[0] + step, first[1]
        self._longest = max(self._longest, step)
        return first


def rate_text(rate: float, unit: str) -> str:
    """Return steps per second, or seconds per step if a step takes longer than a second.

    Args:
        rate: Steps per second, above 0.
        unit: Name of the steps, in the plural.

    Example:
        >>> rate_text(2.5, "frames"), rate_text(0.25, "frames")
        ('2.5 frames/s', '4.0 s/frame')
    """
    return f"{rate:.1f} {unit}/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit[:-1]}"


def duration_text(seconds: float) -> str:
    """Return a duration with the precision that an estimate has.

    Example:
        >>> duration_text(50), duration_text(600), duration_text(9000)
        ('50 s', '10 min', '2 h 30 min')
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min"


def can_show_bars(session: Session, report: ReportOptions) -> bool:
    """Return whether bars are wanted and would not be mixed with JSON on the same terminal."""
    is_mixed = report.json and session.stdout.isatty()
    return session.stderr.isatty() and not report.quiet and not is_mixed


@contextmanager
def download_progress(stderr: TextIO, name: str) -> Generator[ByteProgress]:
    """Show a bar for a download while the block runs, if there is a terminal for it."""
    bars = _bars(
        stderr,
        LabelColumn(),
        BarColumn(),
        _BytesColumn(binary_units=True),
        _SpeedColumn(),
        _TimeLeftColumn(),
        disable=not stderr.isatty(),
    )
    task = bars.add_task(name, total=None)
    with bars:
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _step_bars(stderr: TextIO, *, has_label: bool = True) -> Progress:
    return _bars(
        stderr,
        *([LabelColumn()] if has_label else []),
        BarColumn(bar_width=None),
        _CountColumn(),
        _RateColumn(),
        _TimeLeftColumn(),
    )


def _bars(stderr: TextIO, *columns: ProgressColumn, disable: bool = False) -> Progress:
    # Rich would otherwise redirect standard output, which carries the results, to its console.
    return Progress(
        *columns,
        console=EscapingConsole(stderr),
        transient=True,
        expand=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=disable,
    )
