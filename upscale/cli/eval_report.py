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
from upscale.files.atomic import (
    check_target_free,
    remove_stale_temporaries,
    write_atomically,
)
from upscale.files.identity import file_ids
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
    scores_by_chain,
)

if TYPE_CHECKING:
    from rich.table import Table as Grid

BETTER = {"more": "higher", "less": "lower"}
_ARROWS = {"more": "↑", "less": "↓"}
_MOST_NAMED = 1
"""A note on more images than this says how many, and not which."""

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
        ids = {file_id for path in inputs for file_id in file_ids(path)}
        for target in (self.table, self.page):
            if target is not None:
                check_target_free(target, overwrite=self.overwrite)
                if not file_ids(target).isdisjoint(ids):
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
    measurements = measure_all(session, matches, metrics, outputs)
    return report(session, matches, measurements, metrics, outputs)


def measure_all(
    session: Session, matches: Matches, metrics: LoadedMetrics, outputs: Outputs
) -> list[Scores]:
    """Measure images; print each as a line of JSON if that is asked for.

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
    return measurements


def report(
    session: Session,
    matches: Matches,
    measurements: Sequence[Scores],
    metrics: LoadedMetrics,
    outputs: Outputs,
) -> int:
    """Print and write the results of measurements, and return the exit code.

    Args:
        session: Streams.
        matches: Images with their references.
        measurements: Their scores.
        metrics: Metrics that were computed.
        outputs: Where the results go.
    """
    if outputs.as_json:
        _print_json_summary(session, measurements, metrics)
    elif _is_any_measured(measurements):
        _print_table(session, measurements, metrics)
    for target in (outputs.table, outputs.page):
        if target is not None:
            remove_stale_temporaries(target.parent)
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
        **_chain(item.chain),
        "version": item.version,
        "input": str(item.path) if kept else None,
        "reference": reference if kept else None,
        "values": _finite(measurement.values),
        "notes": list(measurement.notes),
        "error": measurement.error,
    }


def _chain(chain: str) -> dict[str, str]:
    return {"chain": chain} if chain else {}


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Replace values that JSON cannot express by None."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _print_json_summary(
    session: Session, measurements: Sequence[Scores], metrics: LoadedMetrics
) -> None:
    for chain, of_chain in scores_by_chain(measurements).items():
        for version, scores in mean_scores(of_chain).items():
            count = _count(of_chain, version)
            record = {"version": version, "images": count, "values": _finite(scores)}
            session.out_json({"kind": "mean", **_chain(chain), **record})
    used = {
        metric.name: {"better": metric.better, "implementation": metric.implementation}
        for metric in metrics.metrics
    }
    session.out_json({"kind": "metrics", "used": used, "missing": dict(metrics.missing)})


def _print_table(session: Session, measurements: Sequence[Scores], metrics: LoadedMetrics) -> None:
    from rich.table import Table as Grid

    from upscale.cli.console import results_console

    chains = scores_by_chain(measurements)
    labels = _Labels.of(chains)
    grid = Grid(box=None, pad_edge=False)
    for heading in ("image", *labels.cells("chain", "version")):
        grid.add_column(heading)
    for metric in metrics.metrics:
        grid.add_column(f"{metric.title} {_ARROWS[metric.better]}", justify="right")
    for measurement in measurements:
        if measurement.error is None:
            item = measurement.item
            name = printable(item.image if item.version else item.path)
            cells = _cells(measurement.values, metrics)
            grid.add_row(name, *labels.cells(item.chain, item.version), *cells)
    for chain, of_chain in chains.items():
        if any(_count(of_chain, version) > 1 for version in mean_scores(of_chain)):
            _add_means(grid, chain, of_chain, metrics, labels)
    results_console(session.stdout).print(grid)


@dataclass(frozen=True, slots=True)
class _Labels:
    """Columns that tell images of one name apart.

    Attributes:
        has_chains: Whether there is more than one degradation chain.
        has_versions: Whether there is more than one version.
    """

    has_chains: bool
    has_versions: bool

    @classmethod
    def of(cls, chains: Mapping[str, Sequence[Scores]]) -> _Labels:
        versions = {one.item.version for of_chain in chains.values() for one in of_chain}
        return cls(len(chains) > 1, len(versions) > 1)

    def cells(self, chain: str, version: str) -> list[str]:
        return [chain] * self.has_chains + [printable(version)] * self.has_versions


def _add_means(
    grid: Grid,
    chain: str,
    measurements: Sequence[Scores],
    metrics: LoadedMetrics,
    labels: _Labels,
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
        grid.add_row(name, *labels.cells(chain, version), *cells)


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
    chains = scores_by_chain(measurements)
    has_chains = len(chains) > 1
    head = ["mean", *["chain"] * has_chains, "images"]
    first = len(head)
    head += [f"{metric.title} {_ARROWS[metric.better]}" for metric in metrics.metrics]
    rows: list[list[str]] = []
    best: set[tuple[int, int]] = set()
    for chain, of_chain in chains.items():
        scores = mean_scores(of_chain)
        for version, values in scores.items():
            for column, metric in enumerate(metrics.metrics, first):
                if version in best_versions(scores, metric):
                    best.add((len(rows), column))
            labels = [version or "images", *[chain] * has_chains, str(_count(of_chain, version))]
            rows.append([*labels, *_cells(values, metrics)])
    table = Table(head, rows, frozenset(best), "↑ higher is better, ↓ lower is better, ● best")
    remarks = [f"{metric.title}: {metric.implementation}" for metric in metrics.metrics]
    remarks += [f"{name} was not measured: {reason}" for name, reason in metrics.missing.items()]
    parts = report_parts(outputs.title, table, crop_sets(measurements, metrics), remarks)
    write_atomically(target, lambda file: file.writelines(parts), overwrite=outputs.overwrite)


def _print_problems(
    session: Session, matches: Matches, measurements: Sequence[Scores], metrics: LoadedMetrics
) -> int:
    """Print notes and errors, and return the exit code."""
    for line in _note_lines(measurements):
        session.say(f"note: {line}")
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


def _note_lines(measurements: Sequence[Scores]) -> list[str]:
    """Return the notes; one that many images have becomes one line."""
    by_note: dict[str, list[Scores]] = {}
    for measurement in measurements:
        for note in measurement.notes:
            by_note.setdefault(note, []).append(measurement)
    lines: list[str] = []
    for note, of_note in by_note.items():
        if len(of_note) > _MOST_NAMED:
            lines.append(f"{len(of_note)} of {len(measurements)} images: {note}")
        else:
            lines += [f"{printable(one.item.path)}: {note}" for one in of_note]
    return lines
