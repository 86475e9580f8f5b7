"""What a batch shows: results on standard output, bars and messages on standard error."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING

from upscale.cli.session import Session
from upscale.jobs import Advanced, Event, Finished, JobResult, Planned, Started, Status
from upscale.options import ReportOptions

if TYPE_CHECKING:
    from upscale.cli.bars import Bars


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
                    self._bars.start_picture(event.device, Path(event.input).name)
            case Advanced():
                if self._bars is not None:
                    self._bars.advance(event.device, event.done, event.total)
            case Finished():
                self._finish(event.result)

    @contextmanager
    def fetching(self, name: str) -> Generator[Callable[[int, int | None], None]]:
        """Show that a network is fetched before the first picture."""
        if self._report.quiet:
            yield lambda done, total: None
            return
        from upscale.cli.bars import fetching

        with self._bars_away():
            self._session.say(f"fetching {name}, once")
            with fetching(self._session.stderr, name) as progress:
                yield progress

    def _plan(self, event: Planned) -> None:
        self._total, self._passed_over = event.total, event.passed_over
        if event.total and not self._report.quiet and self._session.stderr.isatty():
            from upscale.cli.bars import Bars

            self._bars = Bars(self._session.stderr, event.total, event.devices)

    def _finish(self, result: JobResult) -> None:
        self._counts[result.status] += 1
        if result.error is not None:
            self._failures.setdefault(result.error, result.trace)
        if self._bars is not None:
            self._bars.finish_picture(self._counts[Status.FAILED])
        with self._bars_away():
            self._print_result(result)
            if not self._report.quiet:
                self._print_message(result)

    @contextmanager
    def _bars_away(self) -> Generator[None]:
        """Take the bars off the terminal while a line is printed to the same place."""
        if self._bars is None:
            yield
            return
        self._bars.stop()
        yield
        self._bars.resume()

    def _print_result(self, result: JobResult) -> None:
        if self._report.json:
            self._session.out(json.dumps(result.record()))
        elif self._report.quiet or result.output is None:
            return
        elif result.status is Status.DONE and result.output != "-":
            self._session.out(result.output)
        elif result.status is Status.PLANNED:
            self._session.out(f"{result.output}  {_sizes(result)}")

    def _print_message(self, result: JobResult) -> None:
        if result.status is Status.SKIPPED and not (self._single or self._report.verbose):
            return
        for note in result.notes:
            self._session.say(f"note: {result.input}: {note}")
        if result.status is Status.SKIPPED:
            self._session.say(f"{result.input}: skipped, {result.output} exists")
        if result.status is Status.DONE and (self._single or self._report.verbose):
            self._session.say(_describe(result))

    @property
    def _single(self) -> bool:
        return self._total == 1 and not self._passed_over

    def _summarise(self) -> None:
        """Print the counts (of several pictures), then what failed: that must not scroll away."""
        if not self._single and not self._report.quiet:
            self._session.say(self._summary())
        for text, trace in self._failures.items():
            self._session.error(text, trace)
        if self._total == 0:
            self._session.error("no pictures found; -r looks into folders of folders")

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
