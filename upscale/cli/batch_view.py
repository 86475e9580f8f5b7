"""What a batch shows: results on standard output, bars and messages on standard error."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING

from upscale.cli.session import Session
from upscale.jobs import Advanced, Event, Finished, JobResult, Planned, Started, Status
from upscale.options import ReportOptions

if TYPE_CHECKING:
    from upscale.cli.progress_bars import Bars


class BatchView:
    """Listens to a batch; as a context manager it takes its bars away and ends with a summary."""

    def __init__(self, session: Session, report: ReportOptions) -> None:
        self._session = session
        self._report = report
        self._bars: Bars | None = None
        self._counts: Counter[Status] = Counter()
        self._failures: dict[str, str | None] = {}
        self._passed_over = 0
        self._total: int | None = None
        self._began = perf_counter()

    def __enter__(self) -> BatchView:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
        if self._total is not None:
            self._summarise()

    def listen(self, event: Event) -> None:
        """Show one event of the batch."""
        match event:
            case Planned():
                self._plan(event)
            case Started():
                if self._bars is not None:
                    self._bars.start_image(event.device, Path(event.input).name)
            case Advanced():
                if self._bars is not None:
                    self._bars.advance(event.device, event.done, event.total)
            case Finished():
                self._finish(event.result)

    @contextmanager
    def fetching(self, name: str) -> Generator[Callable[[int, int | None], None]]:
        """Show that a network is fetched before the first image."""
        if self._report.quiet:
            yield lambda done, total: None
            return
        from upscale.cli.progress_bars import fetching

        with self._bars_away():
            self._session.say(f"fetching {name}, once")
            with fetching(self._session.stderr, name) as progress:
                yield progress

    def _plan(self, event: Planned) -> None:
        self._total, self._passed_over = event.total, event.ignored
        if event.total and not self._report.quiet and self._session.stderr.isatty():
            from upscale.cli.progress_bars import Bars

            self._bars = Bars(self._session.stderr, event.total, event.devices)

    def _finish(self, result: JobResult) -> None:
        self._counts[result.status] += 1
        if result.error is not None:
            self._failures.setdefault(result.error, result.trace)
        if self._bars is not None:
            self._bars.finish_image(self._counts[Status.FAILED])
        line, messages = self._line(result), self._messages(result)
        # many small images would wait for bars that go and come
        meets_bars = messages or (line is not None and self._session.stdout.isatty())
        with self._bars_away() if meets_bars else nullcontext():
            if line is not None:
                self._session.out(line)
            for message in messages:
                self._session.say(message)

    @contextmanager
    def _bars_away(self) -> Generator[None]:
        """Take the bars off the terminal while a line is printed to the same place."""
        if self._bars is None:
            yield
            return
        self._bars.stop()
        yield
        self._bars.resume()

    def _line(self, result: JobResult) -> str | None:
        """Return what standard output gets of a result."""
        if self._report.json:
            return json.dumps(result.record())
        if self._report.quiet or result.output is None:
            return None
        if result.status is Status.PLANNED:
            return f"{result.output}  {_sizes(result)}"
        return result.output if result.status is Status.DONE and result.output != "-" else None

    def _messages(self, result: JobResult) -> list[str]:
        """Return what standard error gets of a result; failures are for the summary."""
        told = self._single or self._report.verbose
        if self._report.quiet or (result.status is Status.SKIPPED and not told):
            return []
        messages = [f"note: {result.input}: {note}" for note in result.notes]
        if result.status is Status.SKIPPED:
            reason = "" if result.notes else f", {result.output} exists"
            messages.append(f"{result.input}: skipped{reason}")
        elif result.status is Status.DONE and told:
            messages.append(_describe(result))
        return messages

    @property
    def _single(self) -> bool:
        return self._total == 1 and not self._passed_over

    def _summarise(self) -> None:
        """Print the counts (of several images), then what failed: that must not scroll away."""
        if not self._single and not self._report.quiet:
            self._session.say(self._summary())
        for text, trace in self._failures.items():
            self._session.error(text, trace)
        if self._total == 0:
            self._session.error("no images found; -r looks into folders of folders")

    def _summary(self) -> str:
        parts = [f"{self._counts[status]} {status}" for status in Status if self._counts[status]]
        if self._passed_over:
            files = "file" if self._passed_over == 1 else "files"
            parts.append(f"{self._passed_over} other {files} passed over")
        unfinished = (self._total or 0) - self._counts.total()
        if unfinished:
            parts.append(f"{unfinished} not started")
        return f"{', '.join(parts) or 'nothing to do'} in {perf_counter() - self._began:.1f} s"


def _sizes(result: JobResult) -> str:
    if result.size_in is None or result.size_out is None:
        return ""
    return "{}x{} -> {}x{}".format(*result.size_in, *result.size_out)


def _describe(result: JobResult) -> str:
    tile = f"tile {result.tile}" if result.tile else "no tiles"
    how = f"{result.model}, {result.device} {result.precision}, {tile}"
    if result.resize is not None:
        how += f", resized: {result.resize}"
    return f"{result.input}: {_sizes(result)} in {result.seconds or 0:.1f} s ({how})"
