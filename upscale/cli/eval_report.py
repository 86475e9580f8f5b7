"""Output of an evaluation: a table, JSON lines, a CSV file and an HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from upscale.cli.progress_bars import step_progress
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

if TYPE_CHECKING:
    from rich.table import Table as Grid

_LINE_WIDTH = 1000
"""Width of the table if the output is not a terminal, so that no line is wrapped."""

BETTER = {"more": "higher", "less": "lower"}
_ARROWS = {"more": "↑", "less": "↓"}
_PAGE_SUFFIXES = (".html", ".htm")


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the results go besides standard output.

    Attributes:
        table: CSV file, or None.
        page: HTML page with crops, or None.
        title: Title of the page.
        as_json: Print JSON lines instead of a table.
        overwrite: Overwrite existing files.
        kept: Whether the measured images still exist after the run, so that paths are printed.
    """

    table: Path | None
    page: Path | None
    title: str
    as_json: bool
    overwrite: bool
    kept: bool = True

    def check(self, inputs: Sequence[Path]) -> None:
        """Check, before any work, that the files can be written.

        Args:
            inputs: Files that are read and must not be overwritten.

        Raises:
            UsageError: A file name has the wrong extension.
            OutputError: A file exists and is not to be overwritten, or is one of the inputs.
        """
        if self.page is not None and self.page.suffix.lower() not in _PAGE_SUFFIXES:
            raise UsageError(f"--html {printable(self.page)}: the file name must end in .html")
        if self.table is not None and self.table.suffix.lower() != ".csv":
            raise UsageError(f"-o {printable(self.table)}: the file name must end in .csv")
        keys = {file_key(path) for path in inputs}
        for target in (self.table, self.page):
            if target is not None:
                check_target_free(target, overwrite=self.overwrite)
                if file_key(target) in keys:
                    raise OutputError(f"{printable(target)}: is an input; use another file name")


def run_evaluation(
    session: Session, matches: Matches, metrics: LoadedMetrics, outputs: Outputs
) -> int:
    """Measure images, print and write the results, and return the exit code.

    Args:
        session: Streams.
        matches: Images with their references.
        metrics: Metrics to compute.
        outputs: Where the results go.
    """
    items = matches.items
    outputs.check([path for item in items for path in (item.path, item.reference) if path])
    measurements: list[Scores] = []
    with step_progress(session, "images", label="measuring") as progress:
        for item in items:
            measurements.append(measure(item, metrics))
            if outputs.as_json:
                session.out_json(_record(measurements[-1], kept=outputs.kept))
            progress(len(measurements), len(items))
    if outputs.as_json:
        _print_json_summary(session, measurements, metrics)
    elif _is_any_measured(measurements):
        _print_table(session, measurements, metrics)
    if outputs.table is not None:
        content = csv_table(measurements, metrics)
        write_atomically(
            outputs.table, lambda file: file.writelines([content]), overwrite=outputs.overwrite
        )
    if outputs.page is not None and measurements:
        _write_page(outputs.page, measurements, metrics, outputs)
    return _print_problems(session, matches, measurements, metrics)


def _record(measurement: Scores, *, kept: bool) -> dict[str, object]:
    item = measurement.item
    reference = None if item.reference is None else str(item.reference)
    return {
        "kind": "picture",
        "image": item.image,
        "version": item.version,
        "input": str(item.path) if kept else None,
        "reference": reference if kept else None,
        "values": _finite(measurement.values),
        "notes": list(measurement.notes),
        "error": measurement.error,
    }


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Replace values that JSON cannot express by None."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _print_json_summary(
    session: Session, measurements: Sequence[Scores], metrics: LoadedMetrics
) -> None:
    for version, scores in mean_scores(measurements).items():
        session.out_json(
            {
                "kind": "mean",
                "version": version,
                "images": _count(measurements, version),
                "values": _finite(scores),
            }
        )
    used = {
        metric.name: {"better": metric.better, "implementation": metric.implementation}
        for metric in metrics.metrics
    }
    session.out_json({"kind": "metrics", "used": used, "missing": dict(metrics.missing)})


def _print_table(session: Session, measurements: Sequence[Scores], metrics: LoadedMetrics) -> None:
    from rich.console import Console
    from rich.table import Table as Grid

    scores = mean_scores(measurements)
    has_versions = len(scores) > 1
    grid = Grid(box=None, pad_edge=False)
    grid.add_column("image")
    if has_versions:
        grid.add_column("version")
    for metric in metrics.metrics:
        grid.add_column(f"{metric.title} {_ARROWS[metric.better]}", justify="right")
    for measurement in measurements:
        if measurement.error is None:
            item = measurement.item
            name = printable(item.image if item.version else item.path)
            cells = _cells(measurement.values, metrics)
            grid.add_row(name, *[printable(item.version)] * has_versions, *cells)
    if any(_count(measurements, version) > 1 for version in scores):
        _add_means(grid, measurements, metrics, has_versions=has_versions)
    width = None if session.stdout.isatty() else _LINE_WIDTH
    console = Console(file=session.stdout, width=width, highlight=False, markup=False)
    console.print(grid)


def _add_means(
    grid: Grid,
    measurements: Sequence[Scores],
    metrics: LoadedMetrics,
    *,
    has_versions: bool,
) -> None:
    from rich.text import Text

    scores = mean_scores(measurements)
    grid.add_section()
    best = {metric.name: best_versions(scores, metric) for metric in metrics.metrics}
    for version, values in scores.items():
        cells = [
            Text(cell, style="bold" if version in best[metric.name] else "")
            for metric, cell in zip(metrics.metrics, _cells(values, metrics), strict=True)
        ]
        name = f"mean of {_count(measurements, version)}"
        grid.add_row(name, *[printable(version)] * has_versions, *cells)


def _cells(values: Mapping[str, float], metrics: LoadedMetrics) -> list[str]:
    return [
        format_score(values[metric.name], metric) if metric.name in values else ""
        for metric in metrics.metrics
    ]


def _is_any_measured(measurements: Sequence[Scores]) -> bool:
    return any(measurement.error is None for measurement in measurements)


def _count(measurements: Sequence[Scores], version: str) -> int:
    """Return the number of images of a version that were measured."""
    return sum(
        measurement.error is None and measurement.item.version == version
        for measurement in measurements
    )


def _write_page(
    target: Path,
    measurements: Sequence[Scores],
    metrics: LoadedMetrics,
    outputs: Outputs,
) -> None:
    scores = mean_scores(measurements)
    best = [
        (row, column + 2)
        for column, metric in enumerate(metrics.metrics)
        for row, version in enumerate(scores)
        if version in best_versions(scores, metric)
    ]
    head = ["mean", "images"]
    head += [f"{metric.title} {_ARROWS[metric.better]}" for metric in metrics.metrics]
    rows = [
        [version or "images", str(_count(measurements, version)), *_cells(values, metrics)]
        for version, values in scores.items()
    ]
    table = Table(head, rows, frozenset(best), "↑ higher is better, ↓ lower is better, ● best")
    remarks = [f"{metric.title}: {metric.implementation}" for metric in metrics.metrics]
    remarks += [f"{name} was not measured: {reason}" for name, reason in metrics.missing.items()]
    parts = report_parts(outputs.title, table, crop_sets(measurements, metrics), remarks)
    write_atomically(target, lambda file: file.writelines(parts), overwrite=outputs.overwrite)


def _print_problems(
    session: Session, matches: Matches, measurements: Sequence[Scores], metrics: LoadedMetrics
) -> int:
    """Print notes and errors, and return the exit code."""
    for measurement in measurements:
        for note in measurement.notes:
            session.say(f"note: {printable(measurement.item.path)}: {note}")
    for name, reason in metrics.missing.items() if _is_any_measured(measurements) else ():
        session.say(f"note: {name} was not measured: {reason}")
    failures = [measurement.error for measurement in measurements if measurement.error is not None]
    failures += [str(error) for error in matches.problems]
    for failure in failures:
        session.error(failure)
    if not measurements and not failures:
        session.error("no images found; use -r to include subfolders")
    if len(measurements) + len(matches.problems) == len(failures):
        return ExitCode.FAILED
    return ExitCode.SOME_FAILED if failures else ExitCode.DONE
