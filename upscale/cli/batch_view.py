"""Output of a batch: results on standard output, bars and messages on standard error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING

from upscale.cli.session import Session, json_line
from upscale.files.printable import printable
from upscale.jobs import Advanced, Event, Finished, JobResult, Planned, Started, Status
from upscale.options import ReportOptions

if TYPE_CHECKING:
    from upscale.cli.progress_bars import BatchBars


class BatchView:
    """Prints the events of a batch; as a context manager, it ends with a summary."""

    def __init__(self, session: Session, report: ReportOptions) -> None:
        """Prepare the output of a batch.

        Args:
            session: Streams.
            report: Options of what is printed.
        """
        self._session = session
        self._report = report
        self._bars: BatchBars | None = None
        self._counts: Counter[Status] = Counter()
        self._damaged = 0
        self._failures: dict[str, str | None] = {}
        self._ignored = 0
        self._elsewhere = 0
        self._total: int | None = None
        self._start_time = perf_counter()

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
            self._print_summary()

    def listen(self, event: Event) -> None:
        """Print one event of the batch."""
        match event:
            case Planned():
                self._start(event)
            case Started():
                if self._bars is not None:
                    self._bars.start_image(event.device, Path(event.input).name)
            case Advanced():
                if self._bars is not None:
                    self._bars.advance(event.device, event.done, event.total, event.unit)
            case Finished():
                self._finish(event.result)

    @contextmanager
    def download(self, name: str) -> Generator[Callable[[int, int | None], None]]:
        """Show the progress of a network's download, with the bars of the batch hidden."""
        if self._report.quiet:
            yield lambda done, total: None
            return
        from upscale.cli.progress_bars import download_progress

        with self._hidden_bars():
            self._session.say(f"downloading {name} (needed once)")
            with download_progress(self._session.stderr, name) as progress:
                yield progress

    def notes(self, notes: Sequence[str]) -> None:
        """Print remarks on the choice of the device, one line each."""
        if notes and not self._report.quiet:
            with self._hidden_bars():
                for note in notes:
                    self._session.say(f"note: {note}")

    def _start(self, event: Planned) -> None:
        self._total, self._ignored = event.total, event.ignored
        self._elsewhere = event.elsewhere
        if event.jobs and not self._report.quiet and self._session.stderr.isatty():
            from upscale.cli.progress_bars import BatchBars

            self._bars = BatchBars(self._session.stderr, event.total, event.devices)

    def _finish(self, result: JobResult) -> None:
        self._counts[result.status] += 1
        self._damaged += bool(result.damaged)
        if result.error is not None:
            self._failures.setdefault(result.error, result.trace)
        if self._bars is not None:
            self._bars.finish_image(self._counts[Status.FAILED])
        line, messages = self._line(result), self._messages(result)
        # hiding the bars takes time, which many small images would add up
        meets_bars = messages or (line is not None and self._session.stdout.isatty())
        with self._hidden_bars() if meets_bars else nullcontext():
            if line is not None:
                self._session.out(line)
            for message in messages:
                self._session.say(message)

    @contextmanager
    def _hidden_bars(self) -> Generator[None]:
        """Hide the bars while lines are printed to the same terminal."""
        if self._bars is None:
            yield
            return
        self._bars.stop()
        yield
        self._bars.resume()

    def _line(self, result: JobResult) -> str | None:
        """Return the line for standard output, if there is one."""
        if self._report.json:
            return json_line(result.record())
        if self._report.quiet or result.output is None:
            return None
        output = self._session.shown_name(result.output)
        if result.status is Status.PLANNED:
            return f"{output}  {_sizes(result)}"
        return output if result.status is Status.DONE and result.output != "-" else None

    def _messages(self, result: JobResult) -> list[str]:
        """Return the lines for standard error; failures are printed with the summary."""
        is_detailed = self._is_single or self._report.verbose
        if self._report.quiet or (result.status is Status.SKIPPED and not is_detailed):
            return []
        name = printable(result.input)
        messages = [f"note: {name}: {note}" for note in result.notes]
        messages += [f"note: {name}: is damaged: {clause}" for clause in result.damaged]
        if result.status is Status.SKIPPED:
            reason = "" if result.notes else f", {printable(result.output or '')} exists"
            messages.append(f"{name}: skipped{reason}")
        elif result.status is Status.DONE and is_detailed:
            messages.append(_describe(result))
            if self._report.verbose and result.convolutions is not None:
                messages.append(f"{name}: convolutions: {result.convolutions}")
        return messages

    @property
    def _is_single(self) -> bool:
        return self._total == 1 and not self._ignored and not self._elsewhere

    def _print_summary(self) -> None:
        """Print the counts and then the errors, which must not scroll out of view."""
        if not self._is_single and not self._report.quiet:
            self._session.say(self._summary())
        for text, trace in self._failures.items():
            self._session.error(text, trace)
        if self._total == 0 and not self._elsewhere:
            self._session.error("no images found; use -r to include subfolders")

    def _summary(self) -> str:
        parts: list[str] = []
        for status in Status:
            if count := self._counts[status]:
                is_done = status is Status.DONE and self._damaged
                suffix = f", {self._damaged} of them damaged" if is_done else ""
                parts.append(f"{count} {status}{suffix}")
        if self._ignored:
            files = "file" if self._ignored == 1 else "files"
            parts.append(f"{self._ignored} other {files} ignored")
        if self._elsewhere:
            parts.append(f"{self._elsewhere} left to other shards")
        unfinished = (self._total or 0) - self._counts.total()
        if unfinished:
            parts.append(f"{unfinished} not started")
        seconds = perf_counter() - self._start_time
        return f"{', '.join(parts) or 'nothing to do'} in {seconds:.1f} s"


def _sizes(result: JobResult) -> str:
    if result.size_in is None or result.size_out is None:
        return ""
    return "{}x{} -> {}x{}".format(*result.size_in, *result.size_out)


def _describe(result: JobResult) -> str:
    tile = f"tile {result.tile}" if result.tile else "no tiles"
    network = result.model
    if result.choice is not None:
        network += f": {result.choice.reason};"
    else:
        network += ","
    details = f"{network} {result.device} {result.precision}, {tile}"
    if result.resize is not None:
        details += f", resized: {result.resize}"
    if result.faces is not None:
        details += f", {result.faces} face{'s' * (result.faces != 1)}"
    return f"{printable(result.input)}: {_sizes(result)} in {result.seconds or 0:.1f} s ({details})"
