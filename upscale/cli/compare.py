"""`upscale compare`, and the default command's `--models`: pages to compare images on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from upscale.cli.session import Action, Session
from upscale.cli.shared_options import Verbose
from upscale.errors import ExitCode, UsageError
from upscale.options import Options

DEFAULT_PAGE = "compare.html"
_NAMED_AT_MOST = 5

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def compare(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="BEFORE AFTER...",
            help="Versions of one image, in any format; or folders, whose images are matched "
            "by their names (photo.png with photo_x4.jpg, too).",
        ),
    ],
    *,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="PAGE", help="An .html file.")
    ] = Path(DEFAULT_PAGE),
    title: Annotated[
        str | None, typer.Option("--title", metavar="TEXT", help="Default: the inputs' names.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", metavar="", help="Replace the page if it exists.")
    ] = False,
    verbose: Verbose = None,
) -> Action:
    """Write one page that shows images over each other, for any browser, without a network.

    A line divides the two; drag it, zoom with 1 and 2, flip with Space. The page holds the
    files themselves, with their metadata, where browsers can show them.
    """
    return lambda session: _compare(session, inputs, output, title, overwrite)


def _compare(
    session: Session, inputs: Sequence[Path], output: Path, title: str | None, overwrite: bool
) -> int:
    from upscale.jobs.comparison import check_target, match_inputs, read_sets, write_page

    matched = match_inputs(inputs)
    files = [path for found in matched.sets for path in found.paths]
    check_target(output, files, overwrite=overwrite)
    if matched.unmatched:
        count, names = _counted(matched.unmatched), _named(matched.unmatched)
        session.say(f"note: {count} without a partner: {names}")
    failures: list[Exception] = []
    sets = read_sets(matched, failures.append)
    shown = write_page(output, title or _title(inputs), sets, overwrite=overwrite)
    for failure in failures:
        session.error(str(failure))
    if not matched.sets:
        session.error("no image has a partner: their paths must be equal but for the suffix")
    if not shown:
        return ExitCode.FAILED
    session.out(str(output))
    return ExitCode.SOME_FAILED if failures else ExitCode.DONE


def compare_networks(session: Session, inputs: Sequence[str], options: Options) -> int:
    """Do what the default command was asked for with `--models`, and return the exit code."""
    from upscale.cli import image_batch
    from upscale.cli.batch_view import BatchView
    from upscale.jobs import find_model_info
    from upscale.jobs.comparison import (
        ComparedModel,
        check_target,
        compare_models,
        write_page,
    )
    from upscale.jobs.inputs import Finder

    _refuse_misleading(options)
    device = options.engine.devices[0]
    with BatchView(session, options.report) as view:
        needs_scale = options.size.needs_model_scale
        models = [
            ComparedModel(name, find_model_info(name, needs_scale))
            for name in options.compare.models
        ]
        finder = Finder(options.run.recursive, None)
        named = image_batch.all_inputs(session, inputs, options.run.files_from)
        if not named or "" in named:
            raise UsageError("no input: name images, folders, or - for standard input")
        sources = [one for name in named for one in finder.find(name, session.stdin.read)]
        target = _models_page(options, [source.label for source in sources])
        files = [source.data for source in sources if isinstance(source.data, Path)]
        check_target(target, files, overwrite=options.output.overwrite)
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
        )
    title = f"{_title([Path(one.name) for one in sets])}: {len(models)} networks"
    shown = write_page(target, title, sets, overwrite=options.output.overwrite)
    if shown and not options.report.quiet:
        session.out(str(target))
    return int(image_batch.exit_code(results))


def _refuse_misleading(options: Options) -> None:
    asked = {
        "--dry-run": options.run.dry_run,
        "--json": options.report.json,
        "--skip-existing": options.output.skip_existing,
    }
    for flag, wanted in asked.items():
        if wanted:
            raise UsageError(f"--models and {flag} exclude each other: --models writes one page")


def _models_page(options: Options, labels: Sequence[str]) -> Path:
    """Return the page's path: beside the input, or in the current folder for several."""
    if options.output.output is not None:
        return Path(options.output.output)
    if len(labels) != 1:
        return Path("models.html")
    only = Path("stdin" if labels[0] == "-" else labels[0])
    return only.with_name(f"{only.stem}_models.html")


def _title(inputs: Sequence[Path]) -> str:
    names = [path.absolute().name or str(path) for path in inputs]
    if len(names) <= 2:
        return " and ".join(names)
    return f"{names[0]} and {len(names) - 1} others"


def _counted(paths: Sequence[Path]) -> str:
    return "1 image" if len(paths) == 1 else f"{len(paths)} images"


def _named(paths: Sequence[Path]) -> str:
    more = len(paths) - _NAMED_AT_MOST
    return ", ".join(map(str, paths[:_NAMED_AT_MOST])) + (f" and {more} more" if more > 0 else "")
