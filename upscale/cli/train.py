"""The command `upscale train RECIPE`: run, resume, check or translate a training."""

from __future__ import annotations

import difflib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upscale.cli import shared_options as shared
from upscale.cli.session import Action, Session
from upscale.cli.shared_options import option, output, resolve_options, switch
from upscale.errors import ExitCode, UsageError
from upscale.options import Options

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress, TaskID
    from upscale_training.loop import Event, Logged
    from upscale_training.recipe import Recipe

_TRAINING, _OTHER = "Training", "Instead of training"
_RECIPE_SUFFIXES = (".yaml", ".yml")

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def train(
    context: typer.Context,
    *,
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", show_default=False,
                       help="Recipe file, or the name of an included recipe (see --recipes)."),
    ] = None,
    folder: Annotated[
        Path | None,
        output("FOLDER", "Folder for checkpoints and logs. Default: the name of the recipe."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        option("--set", metavar="KEY=VALUE", panel=_TRAINING,
               help="Override a recipe setting, for example data.patch=128. Can be repeated."),
    ] = None,
    stage: Annotated[
        str | None,
        option("--stage", metavar="NAME", panel=_TRAINING, help="Run only this stage."),
    ] = None,
    resume: Annotated[
        bool,
        switch("--resume/--restart", panel=_TRAINING,
               help="Resume the run in the output folder, or discard it. Default: resume."),
    ] = True,
    allow_changes: Annotated[
        bool,
        switch("--allow-changes", panel=_TRAINING,
               help="Resume although settings that affect the weights have changed, such as the "
               "learning rate or the data."),
    ] = False,
    check: Annotated[
        bool,
        switch("--check", panel=_OTHER, help="Load the data and networks, and print a summary."),
    ] = False,
    recipes: Annotated[
        bool, switch("--recipes", panel=_OTHER, help="List the included recipes.")
    ] = False,
    translate: Annotated[
        Path | None,
        option("--translate", metavar="OPTIONS", panel=_OTHER,
               help="Convert an option file of Real-ESRGAN or BasicSR to a recipe and print it."),
    ] = None,
    device: shared.Device = None,
    json: shared.Json = None,
    quiet: shared.Quiet = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Train a network as described by a recipe.

    Interrupted? Run the same command again to resume with identical results. Ctrl-C and SIGTERM
    save a checkpoint first. For several GPUs: torchrun --nproc-per-node N -m upscale train ...
    """
    if (recipe is not None) + recipes + (translate is not None) != 1:
        raise UsageError("train: name a recipe, or use either --recipes or --translate")

    def action(session: Session) -> int:
        options = resolve_options(context, session)
        if recipes:
            return _list_recipes(session, options)
        if translate is not None:
            return _translate(session, translate)
        from upscale_training.recipe.reading import read_recipe

        file, included = _recipe_file(str(recipe))
        # An included recipe lies among the program's own files, where nobody has images.
        base = Path() if included else file.parent
        settings = read_recipe(file, changes or [], folder=base)
        if check:
            return _check(session, settings, options)
        target = folder or Path(settings.name)
        return _train(
            session, settings, target, options,
            resume=resume, allow_changes=allow_changes, stage=stage,
        )  # fmt: skip

    return action


def _list_recipes(session: Session, options: Options) -> int:
    from upscale_training.recipes import bundled

    recipes = bundled()
    width = max(map(len, recipes))
    for name, path in recipes.items():
        if options.report.json:
            session.out_json({"name": name, "file": str(path)})
        else:
            session.out(f"{name:{width}}  {path}")
    return ExitCode.DONE


def _translate(session: Session, file: Path) -> int:
    from upscale_training.recipe.translate import translate
    from upscale_training.recipe.writing import to_yaml

    recipe, notes = translate(file)
    for note in notes:
        session.say(f"note: {note}")
    session.out(to_yaml(recipe).rstrip())
    return ExitCode.DONE


def _recipe_file(recipe: str) -> tuple[Path, bool]:
    """Return the file of a recipe by its path or name, and whether it is an included one."""
    from upscale_training.recipes import bundled

    path, included = Path(recipe), bundled()
    if recipe in included and not path.is_file():
        return included[recipe], True
    if path.suffix.lower() in _RECIPE_SUFFIXES or path.is_file():
        return path, False
    similar = difflib.get_close_matches(recipe, included, n=1)
    hint = f"did you mean {similar[0]}?" if similar else f"choose from {', '.join(included)}"
    raise UsageError(f"{recipe}: is neither a recipe file nor an included recipe; {hint}")


def _check(session: Session, recipe: Recipe, options: Options) -> int:
    from upscale_training.loop.preflight import check

    facts = check(recipe, options.engine.device)
    if options.report.json:
        session.out_json(facts)
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
    allow_changes: bool,
    stage: str | None,
) -> int:
    from upscale_training.loop import train

    try:
        with _TrainingView(session, options).bars() as view:
            train(
                recipe,
                folder,
                device=options.engine.device,
                resume=resume,
                allow_changes=allow_changes,
                stage=stage,
                events=view.listen,
            )
    except KeyboardInterrupt:
        session.say(f"{folder}: run the same command again to resume")
        raise
    return ExitCode.DONE


class _TrainingView:
    """Prints the events of a training: results to standard output, the rest to standard error."""

    def __init__(self, session: Session, options: Options) -> None:
        self._session, self._report = session, options.report
        self._bars: _Bars | None = None

    @contextmanager
    def bars(self) -> Generator[_TrainingView]:
        """Show progress bars while the block runs, if there is a terminal for them."""
        from upscale.cli.progress_bars import can_show_bars

        if can_show_bars(self._session, self._report):
            self._bars = _Bars(self._session)
        try:
            yield self
        finally:
            if self._bars is not None:
                self._bars.close()

    def listen(self, event: Event) -> None:
        """Print one event."""
        from upscale_training.loop import Stepped, as_record

        if self._bars is not None:
            self._bars.listen(event)
        if isinstance(event, Stepped):
            return
        if self._report.json:
            self._session.out_json(as_record(event))
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
        """Return the message of an event, if there is one; progress bars replace some messages."""
        from upscale_training import loop

        line = None
        match event:
            case loop.StageStarted(stage, 0, steps):
                line = f"{stage}: starting, {steps} iterations"
            case loop.StageStarted(stage, step, steps):
                line = f"{stage}: resuming after {step} of {steps} iterations"
            case loop.Logged(stage, step, steps) if not self._bars or self._session.verbose:
                line = f"{stage} {step}/{steps}: {_progress(event)}"
            case loop.Baseline(scores):
                line = f"bicubic: {_scores_text(scores)}"
            case loop.Validated(stage, step, scores):
                line = f"{stage} {step}: {_scores_text(scores)}"
            case loop.Saved(stage, step, path) if self._session.verbose:
                line = f"{stage} {step}: saved to {path}"
            case loop.Changed(stage, step, changes):
                line = f"{stage} {step}: resuming with changes: {'; '.join(changes)}"
            case loop.Note(note):
                line = f"note: {note}"
            case _:
                pass
        return line


class _Bars:
    """A bar for the iterations of the current stage, and a line with losses and speed below it."""

    def __init__(self, session: Session) -> None:
        from rich.live import Live
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TaskProgressColumn,
        )

        from upscale.cli.console import EscapingConsole, LabelColumn

        self._progress: Progress = Progress(
            LabelColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
        )
        self._task: TaskID = self._progress.add_task("preparing", total=None)
        self._live: Live = Live(
            self._progress,
            console=EscapingConsole(session.stderr),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def listen(self, event: Event) -> None:
        """Update the bar from one event."""
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
        """Print a line above the bar."""
        self._live.console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        self._live.stop()


def _progress(event: Logged) -> str:
    """Return losses, speed and shares of time as one line."""
    losses = ", ".join(f"{name} {value:.4g}" for name, value in event.losses.items())
    left = timedelta(seconds=round(event.seconds_left))
    shares = ", ".join(f"{name} {share:.0%}" for name, share in event.shares.items())
    return f"{losses}; {event.images_per_second:.1f} images/s, {left} left; {shares}"


def _scores_text(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Return the scores of each validation set, with its name if there are several."""
    parts: list[str] = []
    for name, values in scores.items():
        label = f"{name} " if len(scores) > 1 else ""
        metrics = ", ".join(f"{metric} {value:.4g}" for metric, value in values.items())
        parts.append(label + metrics)
    return "; ".join(parts)
