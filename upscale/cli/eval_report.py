"""What an evaluation shows: a table, JSON lines, a table in CSV, a page."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from upscale.cli.session import Session
from upscale.compare import Table, report_parts
from upscale.errors import ExitCode, OutputError, UsageError
from upscale.files.atomic import check_target_free, write_atomically
from upscale.files.printable import printable
from upscale.jobs.eval_items import Matches
from upscale.jobs.evaluation import (
    LoadedMetrics,
    Scores,
    best_versions,
    crop_sets,
    csv_table,
    format_score,
    mean_scores,
    measure,
)
from upscale.jobs.inputs import file_key

_LINE_WIDTH = 1000
"""Columns of the table where the output is no terminal, so that no line is broken."""

_ARROWS = {"more": "↑", "less": "↓"}
_PAGE_SUFFIXES = (".html", ".htm")


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where results go beside standard output.

    Attributes:
        as_json: Print JSON lines and no table.
        table: A file for a table in CSV, or None.
        page: A file for a page with crops, or None.
        title: Of the page.
        overwrite: Replace those that exist.
        kept: Whether the images outlast the program, so that their paths are worth telling.
    """

    as_json: bool
    table: Path | None
    page: Path | None
    title: str
    overwrite: bool
    kept: bool = True

    def check(self, inputs: Sequence[Path]) -> None:
        """Refuse, before any work, what could not or must not be written.

        Raises:
            UsageError: A name does not fit.
            OutputError: A file exists and may not be replaced, or is one of the inputs.
        """
        if self.page is not None and self.page.suffix.lower() not in _PAGE_SUFFIXES:
            raise UsageError(f"--html {printable(self.page)}: is a page: end its name in .html")
        if self.table is not None and self.table.suffix.lower() != ".csv":
            raise UsageError(f"-o {printable(self.table)}: is a table: end its name in .csv")
        read = {file_key(path) for path in inputs}
        for target in (self.table, self.page):
            if target is not None:
                check_target_free(target, overwrite=self.overwrite)
                if file_key(target) in read:
                    raise OutputError(f"{printable(target)}: would replace an input; name another")


def show_evaluation(
    session: Session, found: Matches, ready: LoadedMetrics, outputs: Outputs
) -> int:
    """Measure what was found, show it, and return the exit code."""
    outputs.check([path for one in found.items for path in (one.path, one.reference) if path])
    measurements: list[Scores] = []
    with progress(session, "measuring", len(found.items)) as advance:
        for subject in found.items:
            measurements.append(measure(subject, ready))
            if outputs.as_json:
                session.out(json.dumps(_record(measurements[-1], kept=outputs.kept)))
            advance()
    if outputs.as_json:
        _print_summary(session, measurements, ready)
    elif measurements:
        _print_table(session, measurements, ready)
    if outputs.table is not None:
        content = csv_table(measurements, ready)
        write_atomically(
            outputs.table, lambda file: file.writelines([content]), overwrite=outputs.overwrite
        )
    if outputs.page is not None and measurements:
        _write_page(outputs.page, measurements, ready, outputs)
    return _tell_problems(session, found, measurements, ready)


@contextmanager
def progress(session: Session, what: str, total: int) -> Generator[Callable[[], None]]:
    """Show a bar on a terminal; yields what is to be called after each step.

    It appears after the first step, which may have to show a download of its own.
    """
    if not session.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    bars = Progress(
        console=Console(file=session.stderr),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = bars.add_task(what, total=total)

    def advance() -> None:
        bars.start()
        bars.advance(task)

    try:
        yield advance
    finally:
        bars.stop()


def _record(one: Scores, *, kept: bool) -> dict[str, object]:
    subject = one.item
    reference = None if subject.reference is None else str(subject.reference)
    return {
        "kind": "picture",
        "picture": subject.image,
        "version": subject.version,
        "input": str(subject.path) if kept else None,
        "reference": reference if kept else None,
        "values": _numbers(one.values),
        "notes": list(one.notes),
        "error": one.error,
    }


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    """Figures as JSON can hold them: what is not finite is null."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _print_summary(
    session: Session, measurements: Sequence[Scores], ready: LoadedMetrics
) -> None:
    for version, figures in mean_scores(measurements).items():
        record = {
            "kind": "mean",
            "version": version,
            "pictures": _count(measurements, version),
            "values": _numbers(figures),
        }
        session.out(json.dumps(record))
    used = {
        metric.name: {"better": metric.better, "implementation": metric.implementation}
        for metric in ready.metrics
    }
    session.out(json.dumps({"kind": "metrics", "used": used, "missing": dict(ready.missing)}))


def _print_table(
    session: Session, measurements: Sequence[Scores], ready: LoadedMetrics
) -> None:
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    found = mean_scores(measurements)
    several = len(found) > 1
    grid = Grid(box=None, pad_edge=False)
    grid.add_column("image\nbetter is")
    if several:
        grid.add_column("of")
    for metric in ready.metrics:
        grid.add_column(f"{metric.title}\n{metric.better}", justify="right")
    for one in measurements:
        if one.error is None:
            name = printable(one.item.path) if not one.item.version else one.item.image
            grid.add_row(name, *[one.item.version] * several, *_cells(one.values, ready))
    if any(_count(measurements, version) > 1 for version in found):
        grid.add_section()
        best = {metric.name: best_versions(found, metric) for metric in ready.metrics}
        for version, figures in found.items():
            cells = [
                Text(cell, style="bold" if version in best[metric.name] else "")
                for metric, cell in zip(ready.metrics, _cells(figures, ready), strict=True)
            ]
            name = f"mean of {_count(measurements, version)}"
            grid.add_row(name, *[version] * several, *cells)
    width = None if session.stdout.isatty() else _LINE_WIDTH
    console = Console(file=session.stdout, width=width, highlight=False, markup=False)
    console.print(grid)


def _cells(values: Mapping[str, float], ready: LoadedMetrics) -> list[str]:
    return [
        format_score(values[metric.name], metric) if metric.name in values else ""
        for metric in ready.metrics
    ]


def _count(measurements: Sequence[Scores], version: str) -> int:
    """Images of a version that were measured."""
    return sum(one.error is None and one.item.version == version for one in measurements)


def _write_page(
    target: Path, measurements: Sequence[Scores], ready: LoadedMetrics, outputs: Outputs
) -> None:
    found = mean_scores(measurements)
    places = [
        (row, column + 2)
        for column, metric in enumerate(ready.metrics)
        for row, version in enumerate(found)
        if version in best_versions(found, metric)
    ]
    head = ["mean", "pictures"]
    head += [f"{metric.title} {_ARROWS[metric.better]}" for metric in ready.metrics]
    rows = [
        [version or "pictures", str(_count(measurements, version)), *_cells(figures, ready)]
        for version, figures in found.items()
    ]
    table = Table(head, rows, frozenset(places), "↑ more is better, ↓ less is better, ● the best")
    remarks = [f"{metric.title}: {metric.implementation}" for metric in ready.metrics]
    remarks += [f"{name} was not measured: {reason}" for name, reason in ready.missing.items()]
    parts = report_parts(outputs.title, table, crop_sets(measurements, ready), remarks)
    write_atomically(target, lambda file: file.writelines(parts), overwrite=outputs.overwrite)


def _tell_problems(
    session: Session, found: Matches, measurements: Sequence[Scores], ready: LoadedMetrics
) -> int:
    """Say what was not measured, and return the exit code."""
    for one in measurements:
        for note in one.notes:
            session.say(f"note: {printable(one.item.path)}: {note}")
    for name, reason in ready.missing.items():
        session.say(f"note: {name} was not measured: {reason}")
    failures = [one.error for one in measurements if one.error is not None]
    failures += [str(error) for error in found.problems]
    for failure in failures:
        session.error(failure)
    if not measurements and not failures:
        session.error("no images found; -r looks into folders of folders")
    if len(measurements) + len(found.problems) == len(failures):
        return ExitCode.FAILED
    return ExitCode.SOME_FAILED if failures else ExitCode.DONE
