"""`upscale dataset`: images looked through, copied, cut, listed and packed for upscale_training."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from upscale.cli.session import Action, Session
from upscale.cli.shared_options import Verbose
from upscale.errors import ExitCode, ImageError, TrainingError, UsageError

if TYPE_CHECKING:
    from upscale_training.data.derive import Made, Maker
    from upscale_training.data.index import Line
    from upscale_training.data.scan import Facts, Verdict

    from upscale.cli.progress_bars import Bars

T = TypeVar("T")
Steps = Generator[tuple[str, T | Exception]]
Record = Callable[[T], Mapping[str, object]]

_BAR = "dataset"

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Of images, and folders of images.")]
NewFolder = Annotated[
    Path,
    typer.Option("-o", "--output", metavar="FOLDER", help="A new one, or one of such a run."),
]
Only = Annotated[
    Path | None,
    typer.Option("--index", metavar="INDEX", help="Only these images, as scan lists them."),
]
Jobs = Annotated[
    int,
    typer.Option("-j", "--jobs", metavar="N", min=1, envvar="UPSCALE_JOBS", show_envvar=False,
                 help="Processes."),
]  # fmt: skip
Json = Annotated[
    bool,
    typer.Option("--json", metavar="", envvar="UPSCALE_JSON", show_envvar=False,
                 help="Print one JSON object an image."),
]  # fmt: skip
Quiet = Annotated[
    bool,
    typer.Option("--quiet", metavar="", envvar="UPSCALE_QUIET", show_envvar=False,
                 help="Print nothing but errors."),
]  # fmt: skip
Overwrite = Annotated[
    bool, typer.Option("--overwrite", metavar="", help="Replace the index if it exists.")
]
_CORES = os.cpu_count() or 1


@app.callback()
def dataset() -> None:
    """Prepare images for upscale_training.

    An image that cannot be read is named at the end and passed over.
    A run that was ended goes on when the same command is given again.
    """


@app.command()
def scan(
    folder: Folder,
    *,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="INDEX", help="List the usable images in a file."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="Keep all that was found, as JSON lines; the next scan reads only what is new.",
        ),
    ] = None,
    smallest: Annotated[
        int,
        typer.Option("--smallest", metavar="PIXELS", min=1, help="The least of the shorter side."),
    ] = 1,
    near: Annotated[
        int,
        typer.Option(
            "--near",
            metavar="BITS",
            min=0,
            max=32,
            help="Of 64 that tell how an image looks, so many differ between look-alikes.",
        ),
    ] = 6,
    overwrite: Overwrite = False,
    jobs: Jobs = _CORES,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = None,
) -> Action:
    """Find images that are damaged, too small, or there twice.

    Look-alikes are named only; the others are left out of the index.
    """
    return lambda session: _scan(
        _Run(session, folder, json, quiet),
        (output, report),
        (smallest, near),
        jobs=jobs,
        overwrite=overwrite,
    )


@app.command()
def multiscale(
    folder: Folder,
    *,
    output: NewFolder,
    only: Only = None,
    jobs: Jobs = _CORES,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = None,
) -> Action:
    """Make smaller copies: 0.75, 0.5 and 1/3 of the size, and 400 pixels at the shorter side."""

    def action(session: Session) -> int:
        from upscale_training.data.multiscale import Copies

        return _derive(_Run(session, folder, json, quiet, only), Copies(), output, jobs)

    return action


@app.command()
def crop(
    folder: Folder,
    *,
    output: NewFolder,
    size: Annotated[
        int, typer.Option("--size", metavar="PIXELS", min=1, help="Side of a piece.")
    ] = 480,
    step: Annotated[
        int, typer.Option("--step", metavar="PIXELS", min=1, help="From a piece to the next.")
    ] = 240,
    threshold: Annotated[
        int,
        typer.Option(
            "--threshold", metavar="PIXELS", min=0, help="At the edge, leave out up to so many."
        ),
    ] = 0,
    only: Only = None,
    jobs: Jobs = _CORES,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = None,
) -> Action:
    """Cut images into overlapping pieces, which are quicker to read."""

    def action(session: Session) -> int:
        from upscale_training.data.crop import Pieces

        pieces = Pieces(size, step, threshold)
        return _derive(_Run(session, folder, json, quiet, only), pieces, output, jobs)

    return action


@app.command()
def index(
    folder: Folder,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="INDEX", help="A text file.")],
    low: Annotated[
        Path | None,
        typer.Option("--low", metavar="FOLDER", help="Of bad partners: list pairs that fit."),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option("--scale", metavar="N", min=1, help="How many times smaller those are."),
    ] = None,
    overwrite: Overwrite = False,
    jobs: Jobs = _CORES,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = None,
) -> Action:
    """List images with their sizes, as BasicSR's meta_info files do."""
    if (low is None) != (scale is None):
        raise UsageError("dataset index: --low and --scale belong together")
    return lambda session: _index(
        _Run(session, folder, json, quiet), output, low, scale or 1, jobs=jobs, overwrite=overwrite
    )


@app.command()
def lmdb(
    folder: Folder,
    *,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="NAME.lmdb", help="A new folder.")
    ],
    only: Only = None,
    jobs: Jobs = _CORES,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = None,
) -> Action:
    """Pack images into an LMDB, as BasicSR reads it."""
    return lambda session: _lmdb(_Run(session, folder, json, quiet, only), output, jobs)


@dataclass(slots=True)
class _Run:
    """One command over the images of a folder: what it shows, and what went wrong."""

    session: Session
    folder: Path
    json: bool
    quiet: bool
    only: Path | None = None
    names: list[str] = field(default_factory=list)
    failures: dict[str, Exception] = field(default_factory=dict)
    began: float = field(default_factory=perf_counter)

    def __post_init__(self) -> None:
        from upscale_training.data.index import images_below, read_index

        if self.only is None:
            self.names = images_below(self.folder)
        else:
            self.names = list(dict.fromkeys(line.name for line in read_index(self.only)))
        if not self.names:
            raise TrainingError(f"{self.folder}: holds no images; name a folder that does")

    def walk(self, steps: Steps[T], record: Record[T] | None = None) -> Generator[T]:
        """Take the steps with a bar, print a record of each, and yield what succeeded."""
        bars = self._bars()
        try:
            with closing(steps):
                for done, (name, result) in enumerate(steps, 1):
                    if bars is not None:
                        bars.advance(_BAR, done, len(self.names))
                    if isinstance(result, Exception):
                        self.failures[name] = result
                    else:
                        yield result
                    if record is not None:
                        failed = isinstance(result, Exception)
                        self.print(name, result if failed else record(result))
        finally:
            if bars is not None:
                bars.stop()

    def print(self, name: str, result: Exception | Mapping[str, object]) -> None:
        """Print what `--json` says of an image."""
        from upscale.jobs.events import error_text

        if isinstance(result, Exception):
            result = {"status": "failed", "error": error_text(result)}
        if self.json:
            shown = {"input": str(self.folder / name), "error": None, **result}
            self.session.out(json.dumps(shown))

    def end(self, result: Path | None, summary: str) -> int:
        """Print the summary and what failed, and return the exit code."""
        from upscale.jobs.events import error_text, traceback_text

        if result is not None and not self.json and not self.quiet:
            self.session.out(str(result))
        failed = len(self.failures)
        if not self.quiet:
            counted = [f"{len(self.names)} images", summary, f"{failed} failed" * bool(failed)]
            seconds = perf_counter() - self.began
            self.session.say(f"{', '.join(filter(None, counted))} in {seconds:.1f} s")
        for error in self.failures.values():
            self.session.error(error_text(error), traceback_text(error))
        if failed == len(self.names):
            return ExitCode.FAILED
        return ExitCode.SOME_FAILED if failed else ExitCode.DONE

    def _bars(self) -> Bars | None:
        lines_meet_bars = self.json and self.session.stdout.isatty()
        if self.quiet or lines_meet_bars or not self.session.stderr.isatty():
            return None
        from upscale.cli.progress_bars import Bars

        bars = Bars(self.session.stderr, 1, (_BAR,))
        bars.start_image(_BAR, "pictures")
        return bars


def _scan(
    run: _Run,
    files: tuple[Path | None, Path | None],
    limits: tuple[int, int],
    *,
    jobs: int,
    overwrite: bool,
) -> int:
    from upscale_training.data.index import Line, write_index
    from upscale_training.data.scan import Report, judge, scan

    from upscale.files.atomic import check_target_free

    output, report = files
    if output is not None:
        check_target_free(output, overwrite=overwrite)
    kept = None if report is None else Report(report)
    known = {} if kept is None else kept.known
    found: list[Facts] = []
    for facts in run.walk(scan(run.folder, run.names, jobs, known)):
        found.append(facts)
        if kept is not None and facts is not known.get(facts.name):
            kept.add(facts)
    verdicts = judge(found, *limits)
    if kept is not None:
        kept.finish(verdicts)
    usable = [verdict.facts for verdict in verdicts if verdict.usable]
    if output is not None and usable:
        lines = (Line(facts.name, (facts.width or 0, facts.height or 0)) for facts in usable)
        write_index(output, lines, overwrite=overwrite)
    _print_verdicts(run, verdicts)
    return run.end(output if usable else None, f"{len(usable)} usable")


def _print_verdicts(run: _Run, verdicts: Sequence[Verdict]) -> None:
    for name, error in run.failures.items():
        run.print(name, error)
    for verdict in verdicts:
        facts = verdict.facts
        status = "done" if facts.error is None else "failed"
        run.print(facts.name, {"status": status, **verdict.record()})
        if facts.error is not None:
            run.failures[facts.name] = ImageError(facts.error)
        elif verdict.remark is not None and not run.json and not run.quiet:
            run.session.out(f"{facts.name}: {verdict.remark}")


def _derive(run: _Run, maker: Maker[T], output: Path, jobs: int) -> int:
    from upscale_training.data.derive import derive

    def record(made: Made) -> dict[str, object]:
        return {"status": _status(made.written), "written": made.written, "kept": made.kept}

    made = list(run.walk(derive(maker, run.folder, run.names, output, jobs), record))
    written, kept = sum(one.written for one in made), sum(one.kept for one in made)
    return run.end(output, _summary(written, kept))


def _index(
    run: _Run, output: Path, low: Path | None, scale: int, *, jobs: int, overwrite: bool
) -> int:
    from upscale_training.data.index import write_index
    from upscale_training.data.listing import list_images, list_pairs

    from upscale.files.atomic import check_target_free

    check_target_free(output, overwrite=overwrite)
    if low is None:
        steps = list_images(run.folder, run.names, jobs)
    else:
        steps = list_pairs(run.folder, low, scale, run.names, jobs)

    def record(line: Line) -> dict[str, object]:
        return {"status": "done", "size": line.size, "low": line.low}

    lines = list(run.walk(steps, record))
    if lines:
        write_index(output, lines, overwrite=overwrite)
    return run.end(output if lines else None, f"{len(lines)} listed")


def _lmdb(run: _Run, output: Path, jobs: int) -> int:
    from upscale_training.data.lmdb import build_lmdb

    steps = build_lmdb(run.folder, run.names, output, jobs)
    added = list(run.walk(steps, lambda written: {"status": _status(written)}))
    return run.end(output, _summary(sum(added), len(added) - sum(added)))


def _status(written: int) -> str:
    return "done" if written else "skipped"


def _summary(written: int, kept: int) -> str:
    return f"{written} written" + (f", {kept} there already" if kept else "")
