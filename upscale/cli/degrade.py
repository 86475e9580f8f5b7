"""The command `upscale degrade`: preview training degradations, or write a test set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from upscale.cli import shared_options as shared
from upscale.cli.session import Action, Session
from upscale.cli.shared_options import option, output, resolve_options
from upscale.errors import ExitCode, OutputError, UpscaleError, UsageError
from upscale.options import Options

if TYPE_CHECKING:
    from upscale_training.data.pixels import Pixels
    from upscale_training.degraded_sample import DegradationSampler, DegradedSample
    from upscale_training.test_set import Pair

    from upscale.compare.crop import Box

SAMPLES = 16
DEFAULT_CHAIN = "real-esrgan"
_DEGRADATION = "Degradation"
_SEPARATOR = "  ·  "

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def degrade(
    context: typer.Context,
    *,
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE",
                       help="High-resolution image. With --dataset: images and folders."),
    ],
    grid: Annotated[
        Path | None,
        output("GRID", "Image to write: a grid of degraded samples. Default: photo_degraded.png "
               "for photo.jpg."),
    ] = None,
    samples: Annotated[
        int | None,
        option("--samples", metavar="N", min=1, panel=shared.OUTPUT,
               help=f"Number of samples in the grid. Default: {SAMPLES}."),
    ] = None,
    crop: Annotated[
        str | None,
        option("--crop", metavar="X,Y,WIDTH,HEIGHT", panel=shared.OUTPUT,
               help="Part of the image to degrade. Default: the part with the most detail."),
    ] = None,
    dataset: Annotated[
        Path | None,
        option("--dataset", metavar="FOLDER", panel=shared.OUTPUT,
               help="Write a test set instead of a grid: the whole images to FOLDER/gt, their "
               "degraded versions to FOLDER/lq."),
    ] = None,
    overwrite: shared.Overwrite = None,
    chain: Annotated[
        str | None,
        option("--chain", metavar="NAME|RECIPE", panel=_DEGRADATION,
               help=f"Degradation chain: {shared.CHAINS}. Default: {DEFAULT_CHAIN}."),
    ] = None,
    mode: Annotated[
        Literal["corrected", "official"] | None,
        option("--mode", metavar="MODE", panel=_DEGRADATION,
               help="corrected, or official to reproduce Real-ESRGAN's code exactly. Default: "
               "corrected, or the recipe's mode."),
    ] = None,
    scale: Annotated[
        int | None,
        option("-s", "--scale", metavar="N", min=1, panel=_DEGRADATION,
               help="Downscale by a factor of N. Default: 4, or the recipe's scale."),
    ] = None,
    seed: Annotated[
        int | None,
        option("--seed", metavar="N", min=0, panel=_DEGRADATION,
               help="Seed of the random numbers; the same seed gives the same pixels. Default: 0, "
               "or the recipe's seed."),
    ] = None,
    replay: Annotated[
        Path | None,
        option("--replay", metavar="FILE", panel=_DEGRADATION,
               help="Apply the degradations in FILE, as printed by --json, instead of random "
               "ones."),
    ] = None,
    json: shared.Json = None,
    quiet: shared.Quiet = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Degrade high-resolution images as in training, to inspect the results or to test networks.

    With --json, each degradation is printed as one JSON object, and a grid is written only if -o
    is given. Sample 1 is degraded like the first sample of a training run with the same seed.
    """
    sampling = {"--samples": samples, "--seed": seed, "--chain": chain, "--mode": mode, "-s": scale}
    if dataset is not None:
        _check_absent("--dataset", {"--samples": samples, "--crop": crop, "-o": grid})
    if replay is not None:
        _check_absent("--replay", {"--dataset": dataset} | sampling)

    def make_sampler() -> DegradationSampler:
        from upscale_training.degraded_sample import find_sampler

        return find_sampler(chain or DEFAULT_CHAIN, mode=mode, scale=scale, seed=seed)

    def action(session: Session) -> int:
        options = resolve_options(context, session)
        if dataset is not None:
            return _write_set(session, inputs, dataset, make_sampler(), options)
        if len(inputs) > 1:
            raise UsageError("a grid shows one image; use --dataset for several images")
        target = grid
        if grid is None and not options.report.json:
            target = inputs[0].with_name(f"{inputs[0].stem}_degraded.png")
        name = Path(chain or DEFAULT_CHAIN).name
        plan = _replayed(replay) if replay else _sampled(make_sampler(), name, samples or SAMPLES)
        return _run_plan(session, inputs[0], target, plan, options)

    return action


def _check_absent(flag: str, others: Mapping[str, object]) -> None:
    for other, value in others.items():
        if value is not None:
            raise UsageError(f"{flag} and {other} exclude each other: choose one")


@dataclass(frozen=True, slots=True)
class _Plan:
    """The contents of a grid.

    Attributes:
        samples: Degradations of the same part of the image.
        title: Line above the grid.
        crop: Part of the image as x, y, width and height in pixels; None if it is not fixed.
    """

    samples: Sequence[DegradedSample]
    title: str
    crop: tuple[int, int, int, int] | None = None


def _sampled(sampler: DegradationSampler, chain: str, count: int) -> _Plan:
    title = (chain, sampler.recipe.mode, f"x{sampler.scale}", f"seed {sampler.seed}")
    samples = [sampler.sample(number) for number in range(count)]
    return _Plan(samples, _SEPARATOR.join(title))


def _replayed(file: Path) -> _Plan:
    from upscale_training.degraded_sample import read_descriptions

    descriptions = read_descriptions(file)
    samples = [description.sample for description in descriptions]
    return _Plan(samples, f"replayed from {file.name}", descriptions[0].crop)


def _run_plan(
    session: Session, source: Path, target: Path | None, plan: _Plan, options: Options
) -> int:
    """Print the degradations as JSON, write the grid, or both."""
    from upscale_training.data.pixels import read_rgb

    if target is not None:
        _check_target(target, source, overwrite=options.output.overwrite)
    box, pixels = _cut(source, read_rgb(source), plan, options)
    if options.report.json:
        for number, sample in enumerate(plan.samples, 1):
            facts = {"input": str(source), "sample": number, "crop": box}
            session.out_json(facts | sample.as_dict())
    if target is not None:
        _write_grid(target, source, box, pixels, plan, overwrite=options.output.overwrite)
        if not options.report.json and not options.report.quiet:
            session.out(session.shown_name(str(target)))
    return ExitCode.DONE


def _check_target(target: Path, source: Path, *, overwrite: bool) -> None:
    from upscale.files.atomic import check_target_free
    from upscale.files.identity import is_same_file
    from upscale.files.printable import printable
    from upscale.images import format_of

    format_of(target.name)
    check_target_free(target, overwrite=overwrite)
    if is_same_file(target, source):
        raise OutputError(f"{printable(target)}: would replace the input image; use another -o")


def _cut(source: Path, pixels: Pixels, plan: _Plan, options: Options) -> tuple[Box, Pixels]:
    """Return the part to degrade: the requested, the replayed, or the most detailed one."""
    from upscale_training.degraded_sample import divisible

    from upscale.compare.crop import Box, choose_crop
    from upscale.files.printable import printable

    crop = options.compare.crop if options.compare.crop != "auto" else None
    crop = crop or plan.crop
    box = Box(*crop) if crop else choose_crop(pixels)
    height, width = pixels.shape[:2]
    if min(box) < 0 or not box.fits_in((width, height)):
        raise UsageError(
            f"--crop: {tuple(box)} is not inside {printable(source)}, which is {width}x{height}"
        )
    part = pixels[box.y : box.y + box.height, box.x : box.x + box.width]
    part = divisible(part, plan.samples[0].degradation.scale, printable(source))
    return Box(box.x, box.y, part.shape[1], part.shape[0]), part


def _write_grid(
    target: Path, source: Path, box: Box, pixels: Pixels, plan: _Plan, *, overwrite: bool
) -> None:
    from upscale_training.sample_grid import Cell, draw_grid

    from upscale.images import Image, format_of, write_file

    size = f"{box.width}x{box.height}"
    cells = [Cell("original", (size,), pixels)]
    for number, sample in enumerate(plan.samples, 1):
        words = [str(operation) for operation in sample.degradation.operations]
        cells.append(Cell(str(number), words, sample.make(pixels)))
    sharpened = ("sharpened first",) if plan.samples[0].sharpen else ()
    note = _SEPARATOR.join((plan.title, *sharpened, f"{size} at {box.x},{box.y}"))
    image = Image(draw_grid(source.name, note, cells))
    write_file(image, target, format=format_of(target.name), overwrite=overwrite)


def _write_set(
    session: Session,
    inputs: Sequence[Path],
    folder: Path,
    sampler: DegradationSampler,
    options: Options,
) -> int:
    from upscale_training.test_set import find_images, write_set

    from upscale.cli.progress_bars import step_progress

    images = find_images(inputs, folder)
    results: list[Pair | UpscaleError] = []
    with step_progress(session, "pairs", options.report) as progress:
        for source, result in write_set(folder, images, sampler):
            results.append(result)
            progress(len(results), len(images))
            if options.report.json:
                session.out_json({"input": str(source)} | _record(result))
    failures = [result for result in results if isinstance(result, UpscaleError)]
    if len(failures) < len(images) and not options.report.json and not options.report.quiet:
        session.out(session.shown_name(str(folder)))
    if not options.report.quiet:
        session.say(_summary(results))
    for failure in failures:
        session.error(str(failure))
    if len(failures) == len(images):
        return ExitCode.FAILED
    return ExitCode.SOME_FAILED if failures else ExitCode.DONE


def _summary(results: Sequence[Pair | UpscaleError]) -> str:
    is_kept = [result.kept for result in results if not isinstance(result, UpscaleError)]
    counts = {
        "written": is_kept.count(False),
        "already exist": is_kept.count(True),
        "failed": len(results) - len(is_kept),
    }
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    return f"{len(results)} pairs: {', '.join(parts)}"


def _record(result: Pair | UpscaleError) -> dict[str, Any]:
    """Return the JSON record of a pair."""
    if isinstance(result, UpscaleError):
        return {"status": "failed", "error": str(result)}
    return {"status": "skipped" if result.kept else "done"} | json.loads(result.line)
