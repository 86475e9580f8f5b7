"""The command `upscale compare`, and the default command's `--models`: HTML comparison pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from upscale.cli import shared_options as shared
from upscale.cli.session import Action, Session
from upscale.cli.shared_options import option, output, resolve_options
from upscale.errors import ExitCode, UsageError
from upscale.options import Options

DEFAULT_PAGE = "compare.html"
_MAX_LISTED_PATHS = 5

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def compare(
    context: typer.Context,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            help="Two or more versions of an image; or folders, whose images are matched by name "
            "(photo.png also matches photo_x4.jpg).",
        ),
    ],
    *,
    page: Annotated[
        Path, output("PAGE", f"HTML page to write. Default: {DEFAULT_PAGE}.")
    ] = Path(DEFAULT_PAGE),
    title: Annotated[
        str | None,
        option("--title", metavar="TEXT", panel=shared.OUTPUT,
               help="Title of the page. Default: the names of the inputs."),
    ] = None,
    overwrite: shared.Overwrite = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Write an HTML page that compares versions of an image with a slider.

    Drag the slider, zoom with 1 and 2, swap the images with Space. The page contains the image
    files with their metadata; formats that browsers cannot show are converted.
    """

    def action(session: Session) -> int:
        options = resolve_options(context, session)
        return _compare(session, inputs, page, title or _title(inputs), options.output.overwrite)

    return action


def _compare(
    session: Session, inputs: Sequence[Path], page: Path, title: str, overwrite: bool
) -> int:
    from upscale.jobs.comparison import check_target, match_inputs, read_sets, write_page

    matched = match_inputs(inputs)
    files = [path for group in matched.sets for path in group.paths]
    check_target(page, files, overwrite=overwrite)
    if matched.unmatched:
        count, names = _counted(matched.unmatched), _listed(matched.unmatched)
        session.say(f"note: {count} without a counterpart: {names}")
    failures: list[Exception] = []
    sets = read_sets(matched, failures.append)
    is_written = write_page(page, title, sets, overwrite=overwrite)
    for failure in failures:
        session.error(str(failure))
    if not matched.sets:
        session.error("no images match: their paths must be equal except for the extension")
    if not is_written:
        return ExitCode.FAILED
    session.out(session.shown_name(str(page)))
    return ExitCode.SOME_FAILED if failures else ExitCode.DONE


def compare_networks(session: Session, inputs: Sequence[str], options: Options) -> int:
    """Upscale with several networks, write a comparison page, and return the exit code."""
    from upscale.cli import image_batch
    from upscale.cli.batch_view import BatchView
    from upscale.jobs import find_model_info
    from upscale.jobs.comparison import (
        ComparedModel,
        check_target,
        compare_models,
        write_page,
    )
    from upscale.jobs.inputs import DEFAULT_MAX_INPUT, Finder

    _check_combinable(options)
    device = options.engine.devices[0]
    with BatchView(session, options.report) as view:
        needs_scale = options.size.needs_model_scale
        models = [
            ComparedModel(name, find_model_info(name, needs_scale))
            for name in options.compare.models
        ]
        finder = Finder(options.run.recursive, None, options.run.max_input or DEFAULT_MAX_INPUT)
        stdin = image_batch.stdin_reader(session, options)
        names = image_batch.all_inputs(inputs, options.run.files_from, stdin)
        if not names or "" in names:
            raise UsageError("no input: name images, folders, or - for standard input")
        sources = [source for name in names for source in finder.find(name, stdin)]
        page = _models_page(options, [source.label for source in sources])
        files = [source.data for source in sources if isinstance(source.data, Path)]
        check_target(page, files, overwrite=options.output.overwrite)
        sets, results = compare_models(
            finder,
            sources,
            models,
            options,
            make=lambda name: image_batch.make_upscaler(
                replace(options.engine, model=name, device=device), view
            ),
            device=device,
            listener=view.listen,
            faces=image_batch.face_factory(options, view),
        )
    title = f"{_title([Path(group.name) for group in sets])}: {len(models)} networks"
    is_written = write_page(page, title, sets, overwrite=options.output.overwrite)
    if is_written and not options.report.quiet:
        session.out(session.shown_name(str(page)))
    return int(image_batch.exit_code(results))


def _check_combinable(options: Options) -> None:
    flags = {
        "--dry-run": options.run.dry_run,
        "--json": options.report.json,
        "--skip-existing": options.output.skip_existing,
        "--faces-only": options.faces.faces_only,
    }
    for flag, is_set in flags.items():
        if is_set:
            raise UsageError(f"--models and {flag} exclude each other: choose one")


def _models_page(options: Options, labels: Sequence[str]) -> Path:
    """Return the path of the page: next to the input, or models.html for several inputs."""
    if options.output.output is not None:
        return Path(options.output.output)
    if len(labels) != 1:
        return Path("models.html")
    source = Path("stdin" if labels[0] == "-" else labels[0])
    return source.with_name(f"{source.stem}_models.html")


def _title(inputs: Sequence[Path]) -> str:
    names = [path.absolute().name or str(path) for path in inputs]
    if len(names) <= 2:
        return " and ".join(names)
    return f"{names[0]} and {len(names) - 1} others"


def _counted(paths: Sequence[Path]) -> str:
    return "1 image" if len(paths) == 1 else f"{len(paths)} images"


def _listed(paths: Sequence[Path]) -> str:
    more = len(paths) - _MAX_LISTED_PATHS
    first = ", ".join(map(str, paths[:_MAX_LISTED_PATHS]))
    return f"{first} and {more} more" if more > 0 else first
