"""`upscale train RECIPE`: a whole upscale_training, begun, gone on with, checked or translated."""

from __future__ import annotations

import difflib
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upscale.cli.session import Action, Session
from upscale.cli.shared_options import Verbose, switch, text
from upscale.errors import ExitCode, UsageError
from upscale.options import Options, load_options

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress, TaskID
    from upscale_training.loop import Event, Logged
    from upscale_training.recipe import Recipe

_WHAT, _RUN = "What is trained", "Run"
_RECIPES = (".yaml", ".yml")

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def train(
    context: typer.Context,
    *,
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", show_default=False, help="A file, or see --recipes."),
    ] = None,
    output: Annotated[
        Path | None,
        text("-o", "--output", metavar="FOLDER", panel=_RUN, help="Default: the recipe's name."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        text("--set", metavar="KEY=VALUE", panel=_WHAT, help="As data.patch=128; repeatable."),
    ] = None,
    stage: Annotated[
        str | None, text("--stage", metavar="NAME", panel=_WHAT, help="Only this one.")
    ] = None,
    device: Annotated[
        str | None,
        text("--device", metavar="DEVICE", panel=_RUN, help="auto, cpu, cuda, cuda:N or mps."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--restart",
            rich_help_panel=_RUN,
            help="Go on from what is in the folder, or throw it away.",
        ),
    ] = True,
    check: Annotated[
        bool, switch("--check", panel=_WHAT, help="Make everything ready, and train nothing.")
    ] = False,
    recipes: Annotated[
        bool, switch("--recipes", panel=_WHAT, help="List the recipes that are included.")
    ] = False,
    translate: Annotated[
        Path | None,
        text(
            "--translate",
            metavar="OPTIONS",
            panel=_WHAT,
            help="Print an option file of Real-ESRGAN or BasicSR as a recipe.",
        ),
    ] = None,
    json: Annotated[
        bool | None, switch("--json", panel=_RUN, help="Print one JSON object an event.")
    ] = None,
    quiet: Annotated[
        bool | None, switch("--quiet", panel=_RUN, help="Print nothing but results and errors.")
    ] = None,
    verbose: Verbose = None,
) -> Action:
    """Train a network from a folder of good photographs.

    A run that was ended, in whatever way, goes on exactly when the same command is given again.
    Ctrl-C and SIGTERM save first. Several GPUs: torchrun --nproc-per-node N -m upscale train ...
    """
    flags = {"device": device, "json": json, "quiet": quiet}
    if (recipe is not None) + recipes + (translate is not None) != 1:
        raise UsageError("train: give a recipe, or --recipes, or --translate")

    def action(session: Session) -> int:
        options = load_options(flags, session.environ)
        if recipes:
            return _list(session, options)
        if translate is not None:
            return _translate(session, translate)
        from upscale_training.recipe.reading import read_recipe

        found = read_recipe(_file(str(recipe)), changes or [])
        if check:
            return _check(session, found, options)
        folder = output or Path(found.name)
        return _train(session, found, folder, options, resume=resume, stage=stage)

    return action


def _list(session: Session, options: Options) -> int:
    from upscale_training.recipes import bundled

    found = bundled()
    width = max(map(len, found))
    for name, path in found.items():
        line = json.dumps({"name": name, "file": str(path)})
        session.out(line if options.report.json else f"{name:{width}}  {path}")
    return ExitCode.DONE


def _translate(session: Session, file: Path) -> int:
    from upscale_training.recipe.translate import translate
    from upscale_training.recipe.writing import to_yaml

    recipe, notes = translate(file)
    for note in notes:
        session.say(f"note: {note}")
    session.out(to_yaml(recipe).rstrip())
    return ExitCode.DONE


def _file(recipe: str) -> Path:
    """The file of a recipe that is a path or the name of one that is included."""
    from upscale_training.recipes import bundled

    path, included = Path(recipe), bundled()
    if recipe in included and not path.is_file():
        return included[recipe]
    if path.suffix.lower() in _RECIPES or path.is_file():
        return path
    near = difflib.get_close_matches(recipe, included, n=1)
    hint = f"did you mean {near[0]}?" if near else "see upscale train --recipes"
    raise UsageError(f"{recipe}: no recipe of this name or file; {hint}")


def _check(session: Session, recipe: Recipe, options: Options) -> int:
    from upscale_training.loop.preflight import check

    facts = check(recipe, options.engine.device)
    if options.report.json:
        session.out(json.dumps(facts))
        return ExitCode.DONE
    width = max(map(len, facts))
    for key, value in facts.items():
        session.out(f"{key:{width}}  {value}")
    return ExitCode.DONE


def _train(
    session: Session,
    recipe: Recipe,
    folder: Path,
    options: Options,
    *,
    resume: bool,
    stage: str | None,
) -> int:
    from upscale_training.loop import train

    try:
        with _View(session, options).printable() as view:
            train(
                recipe,
                folder,
                device=options.engine.device,
                resume=resume,
                stage=stage,
                events=view.listen,
            )
    except KeyboardInterrupt:
        session.say(f"{folder}: the same command goes on from where this ended")
        raise
    return ExitCode.DONE


class _View:
    """Shows what happens: results on standard output, everything else on standard error."""

    def __init__(self, session: Session, options: Options) -> None:
        self._session, self._report = session, options.report
        self._bars: _Bars | None = None

    @contextmanager
    def printable(self) -> Generator[_View]:
        """Show bars on a terminal as long as the block runs."""
        lines_meet_bars = self._report.json and self._session.stdout.isatty()
        if self._session.stderr.isatty() and not self._report.quiet and not lines_meet_bars:
            self._bars = _Bars(self._session)
        try:
            yield self
        finally:
            if self._bars is not None:
                self._bars.close()

    def listen(self, event: Event) -> None:
        """Show one event."""
        from upscale_training.loop import Stepped, as_record

        if self._bars is not None:
            self._bars.listen(event)
        if isinstance(event, Stepped):
            return
        if self._report.json:
            self._session.out(json.dumps(as_record(event)))
        else:
            self._print_result(event)
        line = None if self._report.quiet else self._line(event)
        if line is not None and self._bars is not None:
            self._bars.say(line)
        elif line is not None:
            self._session.say(line)

    def _print_result(self, event: Event) -> None:
        from upscale_training.loop import Exported

        if isinstance(event, Exported):
            self._session.out(str(event.path))

    def _line(self, event: Event) -> str | None:
        """What is said of an event; on a terminal bars say what moves."""
        from upscale_training import loop

        line = None
        match event:
            case loop.StageStarted(stage, step, steps):
                begins = f"goes on after {step} of {steps}" if step else f"begins: {steps}"
                line = f"{stage}: {begins} iterations"
            case loop.Logged(stage, step, steps) if not self._bars or self._session.verbose:
                line = f"{stage} {step}/{steps}: {_progress(event)}"
            case loop.Baseline(figures):
                line = f"bicubic: {_figures(figures)}"
            case loop.Validated(stage, step, figures):
                line = f"{stage} {step}: {_figures(figures)}"
            case loop.Saved(stage, step, path) if self._session.verbose:
                line = f"{stage} {step}: saved in {path}"
            case loop.Note(note):
                line = f"note: {note}"
            case _:
                pass
        return line


class _Bars:
    """The present stage's iterations, and below them losses, speed and shares of time."""

    def __init__(self, session: Session) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
        )

        self._progress: Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
        )
        self._task: TaskID = self._progress.add_task("preparing", total=None)
        self._live: Live = Live(
            self._progress,
            console=Console(file=session.stderr),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def listen(self, event: Event) -> None:
        """Move."""
        from rich.console import Group
        from rich.text import Text
        from upscale_training.loop import Logged, StageStarted, Stepped

        if isinstance(event, StageStarted | Stepped):
            self._progress.update(
                self._task, description=event.stage, completed=event.step, total=event.steps
            )
        elif isinstance(event, Logged):
            self._live.update(Group(self._progress, Text(_progress(event), overflow="fold")))

    def say(self, line: str) -> None:
        """Print a line above."""
        self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bars off the terminal."""
        self._live.stop()


def _progress(event: Logged) -> str:
    """Losses, speed and shares of time in one line."""
    losses = ", ".join(f"{name} {value:.4g}" for name, value in event.losses.items())
    left = timedelta(seconds=round(event.seconds_left))
    shares = ", ".join(f"{name} {share:.0%}" for name, share in event.shares.items())
    return f"{losses}; {event.images_per_second:.1f} images/s, {left} left; {shares}"


def _figures(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Each set's figures, with the set's name where there are several."""
    parts: list[str] = []
    for place, found in figures.items():
        name = f"{place} " if len(figures) > 1 else ""
        parts.append(name + ", ".join(f"{metric} {value:.4g}" for metric, value in found.items()))
    return "; ".join(parts)
