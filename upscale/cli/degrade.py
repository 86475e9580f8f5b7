"""`upscale degrade`: what upscale_training makes of a photograph, as a grid to look at or as a test set."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from upscale.cli.session import Action, Session
from upscale.cli.shared_options import Verbose, switch, text
from upscale.errors import ExitCode, OutputError, UpscaleError, UsageError
from upscale.options import Options, load_options

if TYPE_CHECKING:
    from upscale_training.data.pixels import Pixels
    from upscale_training.degraded_sample import DegradationSampler, DegradedSample
    from upscale_training.test_set import Pair

    from upscale.compare.crop import Box

SAMPLES = 16
DEFAULT_CHAIN = "real-esrgan"
_WHAT, _HOW, _RUN = "What is made", "How it is degraded", "Run"
_BETWEEN = "  ·  "

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def degrade(
    *,
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="One; for a data set several, and folders."),
    ],
    output: Annotated[
        Path | None,
        text("-o", "--output", metavar="GRID", panel=_WHAT, help="Default: photo_degraded.png."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            metavar="N",
            min=1,
            rich_help_panel=_WHAT,
            show_default=False,
            help=f"Degraded images in the grid; default: {SAMPLES}.",
        ),
    ] = None,
    crop: Annotated[
        str | None,
        text(
            "--crop",
            metavar="X,Y,WIDTH,HEIGHT",
            panel=_WHAT,
            help="Part of the image; default: that with the most detail.",
        ),
    ] = None,
    dataset: Annotated[
        Path | None,
        text(
            "--dataset",
            metavar="FOLDER",
            panel=_WHAT,
            help="Write pairs to FOLDER/gt and FOLDER/lq, whole images, instead of a grid.",
        ),
    ] = None,
    chain: Annotated[
        str | None,
        text(
            "--chain",
            metavar="NAME|RECIPE",
            panel=_HOW,
            help="real-esrgan (default), classical, generic, or a recipe's file.",
        ),
    ] = None,
    mode: Annotated[
        Literal["corrected", "official"] | None,
        text("--mode", metavar="MODE", panel=_HOW, help="corrected (default) or official."),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(
            "-s",
            "--scale",
            metavar="N",
            min=1,
            rich_help_panel=_HOW,
            show_default=False,
            help="What sides are divided by; default: 4, or the recipe's.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            min=0,
            rich_help_panel=_HOW,
            show_default=False,
            help="Of all draws; default: 0.",
        ),
    ] = None,
    replay: Annotated[
        Path | None,
        text("--replay", metavar="FILE", panel=_HOW, help="Draw nothing; do what --json printed."),
    ] = None,
    overwrite: Annotated[
        bool | None, switch("--overwrite", panel=_RUN, help="Replace the grid if it exists.")
    ] = None,
    json: Annotated[
        bool | None,
        switch("--json", panel=_RUN, help="Print one description a line; a grid only with -o."),
    ] = None,
    quiet: Annotated[
        bool | None, switch("--quiet", panel=_RUN, help="Print nothing but errors.")
    ] = None,
    verbose: Verbose = None,
) -> Action:
    """Degrade good images as upscale_training does, to look at the results or to test with them.

    The same seed gives the same pixels. Sample 1 is degraded as the first one in upscale_training.
    """
    drawing = {"--samples": samples, "--seed": seed, "--chain": chain, "--mode": mode, "-s": scale}
    flags = {"crop": crop, "overwrite": overwrite, "json": json, "quiet": quiet}
    if dataset is not None:
        _refuse("--dataset", {"--samples": samples, "--crop": crop, "-o": output})
    if replay is not None:
        _refuse("--replay", {"--dataset": dataset} | drawing)

    def found() -> DegradationSampler:
        from upscale_training.degraded_sample import find_sampler

        return find_sampler(chain or DEFAULT_CHAIN, mode=mode, scale=scale, seed=seed)

    def action(session: Session) -> int:
        options = load_options(flags, session.environ)
        if dataset is not None:
            return _write_set(session, inputs, dataset, found(), options)
        if len(inputs) > 1:
            raise UsageError("a grid shows one image; --dataset takes several")
        target = output
        if output is None and not options.report.json:
            target = inputs[0].with_name(f"{inputs[0].stem}_degraded.png")
        name = Path(chain or DEFAULT_CHAIN).name
        plan = _replayed(replay) if replay else _drawn(found(), name, samples or SAMPLES)
        return _show(session, inputs[0], target, plan, options)

    return action


def _refuse(flag: str, others: Mapping[str, object]) -> None:
    for other, value in others.items():
        if value is not None:
            raise UsageError(f"{flag} and {other} exclude each other")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a grid shows: what is done to a part of the image, and a line that tells it."""

    treatments: Sequence[DegradedSample]
    told: str
    crop: tuple[int, int, int, int] | None = None


def _drawn(draws: DegradationSampler, chain: str, samples: int) -> _Plan:
    told = (chain, draws.recipe.mode, f"x{draws.scale}", f"seed {draws.seed}")
    return _Plan([draws.treatment(number) for number in range(samples)], _BETWEEN.join(told))


def _replayed(file: Path) -> _Plan:
    from upscale_training.degraded_sample import read_descriptions

    found = read_descriptions(file)
    treatments = [each.treatment for each in found]
    return _Plan(treatments, f"replayed from {file.name}", found[0].crop)


def _show(
    session: Session, source: Path, target: Path | None, plan: _Plan, options: Options
) -> int:
    """Print the descriptions, or write the grid, or both."""
    from upscale_training.data.pixels import read_rgb

    if target is not None:
        _check_target(target, source, overwrite=options.output.overwrite)
    box, good = _cut(source, read_rgb(source), plan, options)
    if options.report.json:
        for number, treatment in enumerate(plan.treatments, 1):
            facts = {"input": str(source), "sample": number, "crop": box}
            session.out(json.dumps(facts | treatment.as_dict()))
    if target is not None:
        _write_grid(target, source, box, good, plan, overwrite=options.output.overwrite)
        if not options.report.json and not options.report.quiet:
            session.out(str(target))
    return ExitCode.DONE


def _check_target(target: Path, source: Path, *, overwrite: bool) -> None:
    from upscale.files.atomic import check_target_free
    from upscale.files.printable import printable
    from upscale.images import format_of
    from upscale.jobs.inputs import file_key

    format_of(target.name)
    check_target_free(target, overwrite=overwrite)
    if file_key(target) == file_key(source):
        raise OutputError(f"{printable(target)}: would replace the image; give another -o")


def _cut(source: Path, pixels: Pixels, plan: _Plan, options: Options) -> tuple[Box, Pixels]:
    """Cut out what is degraded: what was asked for, what was replayed, or the most detailed."""
    from upscale_training.degraded_sample import divisible

    from upscale.compare.crop import Box, choose_crop
    from upscale.files.printable import printable

    asked = options.compare.crop if options.compare.crop != "auto" else None
    asked = asked or plan.crop
    box = Box(*asked) if asked else choose_crop(pixels)
    height, width = pixels.shape[:2]
    if min(box) < 0 or not box.fits_in((width, height)):
        raise UsageError(f"--crop: {printable(source)} is {width}x{height} and has no {tuple(box)}")
    part = pixels[box.y : box.y + box.height, box.x : box.x + box.width]
    part = divisible(part, plan.treatments[0].degradation.scale, printable(source))
    return Box(box.x, box.y, part.shape[1], part.shape[0]), part


def _write_grid(
    target: Path, source: Path, box: Box, good: Pixels, plan: _Plan, *, overwrite: bool
) -> None:
    from upscale_training.sample_grid import Cell, draw_grid

    from upscale.images import Image, format_of, write_file

    size = f"{box.width}x{box.height}"
    cells = [Cell("original", (size,), good)]
    for number, treatment in enumerate(plan.treatments, 1):
        words = [str(operation) for operation in treatment.degradation.operations]
        cells.append(Cell(str(number), words, treatment.make(good)))
    sharpened = ("sharpened first",) if plan.treatments[0].sharpen else ()
    note = _BETWEEN.join((plan.told, *sharpened, f"{size} at {box.x},{box.y}"))
    grid = draw_grid(source.name, note, cells)
    write_file(Image(grid), target, format=format_of(target.name), overwrite=overwrite)


def _write_set(
    session: Session,
    inputs: Sequence[Path],
    folder: Path,
    draws: DegradationSampler,
    options: Options,
) -> int:
    from upscale_training.test_set import find_images, write_set

    images = find_images(inputs, folder)
    results: list[Pair | UpscaleError] = []
    with _bar(session, options) as bar:
        steps = write_set(folder, images, draws)
        for source, result in steps:
            results.append(result)
            bar(len(results), len(images))
            if options.report.json:
                session.out(json.dumps({"input": str(source)} | _record(result)))
    failures = [result for result in results if isinstance(result, UpscaleError)]
    if len(failures) < len(images) and not options.report.json and not options.report.quiet:
        session.out(str(folder))
    if not options.report.quiet:
        session.say(_summary(results))
    for failure in failures:
        session.error(str(failure))
    if len(failures) == len(images):
        return ExitCode.FAILED
    return ExitCode.SOME_FAILED if failures else ExitCode.DONE


def _summary(results: Sequence[Pair | UpscaleError]) -> str:
    kept = [result.kept for result in results if not isinstance(result, UpscaleError)]
    counts = {"written": kept.count(False), "there already": kept.count(True)}
    counts |= {"failed": len(results) - len(kept)}
    named = [f"{count} {name}" for name, count in counts.items() if count]
    return f"{len(results)} pairs: {', '.join(named)}"


def _record(result: Pair | UpscaleError) -> dict[str, Any]:
    """What `--json` says of an image of a set."""
    if isinstance(result, UpscaleError):
        return {"status": "failed", "error": str(result)}
    return {"status": "skipped" if result.kept else "done"} | json.loads(result.line)


@contextmanager
def _bar(session: Session, options: Options) -> Generator[Callable[[int, int], None]]:
    """Show how many images are done, on a terminal."""
    lines_meet_bar = options.report.json and session.stdout.isatty()
    if options.report.quiet or lines_meet_bar or not session.stderr.isatty():
        yield lambda done, total: None
        return
    from upscale.cli.progress_bars import Bars

    bars = Bars(session.stderr, 1, ("",))
    bars.start_image("", "pairs")
    try:
        yield lambda done, total: bars.advance("", done, total)
    finally:
        bars.stop()
