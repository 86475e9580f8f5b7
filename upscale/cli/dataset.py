"""The command `upscale dataset`: check, copy, crop, register, measure, list and pack images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from upscale.cli import shared_options as shared
from upscale.cli.session import Action, Session
from upscale.cli.shared_options import option, output, resolve_options
from upscale.errors import ExitCode, ImageError, TrainingError, UsageError
from upscale.options import ReportOptions, parse_bytes

if TYPE_CHECKING:
    from upscale_training.data.derive import DeriveResult, ImageTransform
    from upscale_training.data.index import IndexEntry
    from upscale_training.data.noise import NoiseCollector
    from upscale_training.data.register import Registration
    from upscale_training.data.scan import ImageInfo, ScanResult

T = TypeVar("T")
Steps = Generator[tuple[str, T | Exception]]
"""Names of images, each with its result or error."""
ToRecord = Callable[[T], Mapping[str, object]]
"""Converts a result to the values that `--json` prints."""

_CROP, _CHECKS, _COPIES, _PATCHES, _KERNELS = "Crops", "Checks", "Copies", "Patches", "Kernels"
_SHARDS = "Shards"
_CORES = os.cpu_count() or 1

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Folder of images, searched with its subfolders.")
]
NewFolder = Annotated[
    Path,
    output("FOLDER", "Output folder. If it exists, the work of an earlier run is resumed."),
]
Index = Annotated[
    Path | None,
    option("--index", metavar="INDEX", panel=shared.INPUT,
           help="Use only the images in this index file, as written by scan or index."),
]  # fmt: skip
Processes = Annotated[
    int,
    option("-j", "--jobs", metavar="N", min=1, envvar="UPSCALE_JOBS", show_envvar=False,
           panel=shared.INPUT, help="Number of processes. Default: the number of CPU cores."),
]  # fmt: skip


@app.callback()
def dataset() -> None:
    """Prepare images for training.

    Images that cannot be read are skipped and listed at the end. Interrupted? Run the same command
    again to resume.
    """


@app.command()
def scan(
    context: typer.Context,
    folder: Folder,
    *,
    target: Annotated[
        Path | None, output("INDEX", "Write a list of the usable images to this file.")
    ] = None,
    cache: Annotated[
        Path | None,
        option("--report", metavar="FILE", panel="Output",
               help="Save all results as JSON lines. The next scan reads only new and changed "
               "images."),
    ] = None,
    min_side: Annotated[
        int,
        option("--smallest", metavar="PIXELS", min=1, panel=_CHECKS, show_default=True,
               help="Minimum length of the shorter side."),
    ] = 1,
    max_distance: Annotated[
        int,
        option("--near", metavar="BITS", min=0, max=32, panel=_CHECKS, show_default=True,
               help="Report images as similar if their 64-bit perceptual hashes differ in at most "
               "this number of bits."),
    ] = 6,
    overwrite: shared.Overwrite = None,
    processes: Processes = _CORES,
    json: shared.Json = None,
    quiet: shared.Quiet = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Find images that are damaged, too small or duplicates.

    These are left out of the index. Images that are only similar are reported and kept.
    """

    def action(session: Session) -> int:
        options = resolve_options(context, session)
        run = _Run(session, folder, options.report)
        overwrite = options.output.overwrite
        return _scan(run, (target, cache), (min_side, max_distance), processes, overwrite=overwrite)

    return action


@app.command()
def multiscale(
    context: typer.Context,
    folder: Folder,
    *,
    target: NewFolder,
    factors: Annotated[
        list[float] | None,
        option("--factor", metavar="F", min=0.01, max=0.99, panel=_COPIES,
               help="Write only a copy of F times the size, for example 0.5. May be repeated."),
    ] = None,
    index_file: Index = None,
    processes: Processes = _CORES,
    json: shared.Json = None,
    quiet: shared.Quiet = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Write downscaled copies: 0.75, 0.5 and 1/3 of the size, and a shorter side of 400 pixels."""

    def action(session: Session) -> int:
        from upscale_training.data.multiscale import MultiscaleCopier

        report = resolve_options(context, session).report
        copier = MultiscaleCopier(tuple(factors), None) if factors else MultiscaleCopier()
        return _derive(_Run(session, folder, report, index_file), copier, target, processes)

    return action


@app.command()
def crop(
    context: typer.Context,
    folder: Folder,
    *,
    target: NewFolder,
    size: Annotated[
        int,
        option("--size", metavar="PIXELS", min=1, panel=_CROP, show_default=True,
               help="Side of a crop."),
    ] = 480,
    step: Annotated[
        int,
        option("--step", metavar="PIXELS", min=1, panel=_CROP, show_default=True,
               help="Distance between neighbouring crops."),
    ] = 240,
    threshold: Annotated[
        int,
        option("--threshold", metavar="PIXELS", min=0, panel=_CROP, show_default=True,
               help="Add no further crop if at most this number of pixels remain at the edge."),
    ] = 0,
    index_file: Index = None,
    processes: Processes = _CORES,
    json: shared.Json = None,
    quiet: shared.Quiet = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Cut images into overlapping crops, which load faster during training."""

    def action(session: Session) -> int:
        from upscale_training.data.crop import SubImageCropper

        report = resolve_options(context, session).report
        cropper = SubImageCropper(size, step, threshold)
        return _derive(_Run(session, folder, report, index_file), cropper, target, processes)

    return action


@app.command()
def noise(
    context: typer.Context,
    folder: Folder,
    *,
    target: NewFolder,
    size: Annotated[
        int,
        option("--size", metavar="PIXELS", min=8, panel=_PATCHES, show_default=True,
               help="Side of a patch of noise."),
    ] = 256,
    variance: Annotated[
        float,
        option("--variance", metavar="V", min=0, panel=_PATCHES, show_default=True,
               help="Keep patches whose grey levels (0..255) have a variance below V."),
    ] = 20,
    mean: Annotated[
        float,
        option("--mean", metavar="LEVEL", min=0, max=255, panel=_PATCHES, show_default=True,
               help="Keep patches whose mean grey level (0..255) is above LEVEL."),
    ] = 0,
    index_file: Index = None,
    processes: Processes = _CORES,
    json: shared.Json = None,
    quiet: shared.Quiet = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Cut patches of noise from areas without content, for the step injected_noise of recipes.

    The photos should come from one camera: a network trained with the patches removes the noise of
    that camera.
    """

    def action(session: Session) -> int:
        from upscale_training.data.noise import NoiseCollector

        report = resolve_options(context, session).report
        collector = NoiseCollector(size, variance, mean)
        return _noise(_Run(session, folder, report, index_file), collector, target, processes)

    return action


@app.command()
def index(
    context: typer.Context,
    folder: Folder,
    *,
    target: Annotated[Path, output("INDEX", "Text file to write.")],
    low: Annotated[
        Path | None,
        option("--low", metavar="FOLDER", panel=shared.INPUT,
               help="List pairs: FOLDER contains the low-resolution (LR) images, with the same "
               "names."),
    ] = None,
    factor: Annotated[
        int | None,
        option("--scale", metavar="N", min=1, panel=shared.INPUT,
               help="Scale between the LR and the HR images."),
    ] = None,
    overwrite: shared.Overwrite = None,
    processes: Processes = _CORES,
    json: shared.Json = None,
    quiet: shared.Quiet = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """List images with their sizes, in the meta_info format of BasicSR."""
    if (low is None) != (factor is None):
        raise UsageError("dataset index: --low and --scale must be used together")

    def action(session: Session) -> int:
        options = resolve_options(context, session)
        run = _Run(session, folder, options.report)
        pairs = None if low is None or factor is None else (low, factor)
        return _index(run, target, pairs, processes, overwrite=options.output.overwrite)

    return action


@app.command()
def kernels(
    context: typer.Context,
    folder: Folder,
    *,
    target: NewFolder,
    scale: Annotated[
        int,
        option("-s", "--scale", metavar="2|4", min=2, max=4, panel=_KERNELS, show_default=True,
               help="Scale that the kernels downscale by."),
    ] = 2,
    iterations: Annotated[
        int,
        option("--iterations", metavar="N", min=1, panel=_KERNELS, show_default=True,
               help="Iterations of each training."),
    ] = 1500,
    runs: Annotated[
        int,
        option("--runs", metavar="N", min=1, panel=_KERNELS, show_default=True,
               help="Number of trainings on each image, whose median is the kernel."),
    ] = 5,
    seed: Annotated[
        int,
        option("--seed", metavar="N", min=0, panel=_KERNELS, show_default=True,
               help="Seed of all random numbers."),
    ] = 0,
    index_file: Index = None,
    processes: Processes = _CORES,
    device: shared.Device = None,
    json: shared.Json = None,
    quiet: shared.Quiet = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Estimate the kernel of each image with KernelGAN, and write it to NAME.npy.

    The kernel is the one that makes downscaled patches of an image look like its own patches: a
    camera's blur, for example. An image takes about one and a half minutes on one core.
    """
    if scale == 3:
        raise UsageError("dataset kernels: --scale 3: choose 2 or 4")

    def action(session: Session) -> int:
        from upscale_training.data.kernels import estimate_kernels
        from upscale_training.kernel_gan import EstimateSettings

        from upscale.engine.device import pick_device

        options = resolve_options(context, session)
        chosen = pick_device(options.engine.device)
        settings = EstimateSettings(scale, iterations, seed, str(chosen), runs)
        run = _Run(session, folder, options.report, index_file)
        jobs = processes if chosen.type == "cpu" else 1
        steps = estimate_kernels(settings, folder, run.names, target, jobs)
        return run.finish(target, _summary_of(_written(run, steps)))

    return action


@app.command()
def lmdb(
    context: typer.Context,
    folder: Folder,
    *,
    target: Annotated[Path, output("NAME.lmdb", "LMDB folder to write.")],
    index_file: Index = None,
    processes: Processes = _CORES,
    json: shared.Json = None,
    quiet: shared.Quiet = None,
    verbose: shared.Verbose = None,
) -> Action:
    """Pack images into an LMDB database that BasicSR can read."""

    def action(session: Session) -> int:
        report = resolve_options(context, session).report
        return _lmdb(_Run(session, folder, report, index_file), target, processes)

    return action


@app.command()
def shards(
    context: typer.Context,
    folder: Folder,
    *,
    target: NewFolder,
    size: Annotated[
        str,
        option("--size", metavar="BYTES", panel=_SHARDS, show_default=True,
               help="Start a new shard when one has this size, for example 500MB or 1GB."),
    ] = "1GB",
    index_file: Index = None,
    processes: Processes = _CORES,
    json: shared.Json = None,
    quiet: shared.Quiet = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Pack images into shards, tar archives in WebDataset's layout.

    Each image becomes KEY.png and KEY.json. Next to each shard, an index in the format of NVIDIA
    DALI lists the positions of its files.
    """

    def action(session: Session) -> int:
        report = resolve_options(context, session).report
        most = parse_bytes("--size", size.upper().removesuffix("B"))
        return _shards(_Run(session, folder, report, index_file), target, most, processes)

    return action


@app.command()
def register(
    context: typer.Context,
    phone: Annotated[
        Path, typer.Argument(metavar="PHONE", help="Folder of the photos of one camera.")
    ],
    camera: Annotated[
        Path,
        typer.Argument(metavar="CAMERA", help="Folder of the photos of a better camera, with the "
                       "same names."),
    ],
    *,
    target: NewFolder,
    size: Annotated[
        int,
        option("--size", metavar="PIXELS", min=16, panel=_CROP, show_default=True,
               help="Side of a patch."),
    ] = 100,
    threshold: Annotated[
        float,
        option("--correlation", metavar="0..1", min=0, max=1, panel=_CROP, show_default=True,
               help="Drop pairs whose normalised cross-correlation is lower than this."),
    ] = 0.9,
    processes: Processes = _CORES,
    json: shared.Json = None,
    quiet: shared.Quiet = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Cut pairs of patches from photos of the same scenes by two cameras.

    The photos of the better camera are warped onto those of the other one. The folders phone and
    camera of the output get patches of the same names and of the same size.
    """

    def action(session: Session) -> int:
        from upscale_training.data.register import Registration

        report = resolve_options(context, session).report
        settings = Registration(size, threshold)
        return _register(_Run(session, phone, report), camera, settings, target, processes)

    return action


@dataclass(slots=True)
class _Run:
    """One command over the images of a folder, with its output and its failures.

    Attributes:
        session: Streams.
        folder: Folder of the images.
        report: Options of what is printed.
        index: Index of the images to use; None for all images.
        names: Paths of the images, relative to the folder.
        failures: Errors by name.
        start: Time at the start, in seconds.
    """

    session: Session
    folder: Path
    report: ReportOptions
    index: Path | None = None
    names: list[str] = field(default_factory=list)
    failures: dict[str, Exception] = field(default_factory=dict)
    start: float = field(default_factory=perf_counter)

    def __post_init__(self) -> None:
        from upscale_training.data.index import images_below, read_index

        if self.index is None:
            self.names = images_below(self.folder)
        else:
            self.names = list(dict.fromkeys(line.name for line in read_index(self.index)))
        if not self.names:
            raise TrainingError(f"{self.folder}: contains no images; name another folder")

    def collect(self, steps: Steps[T], to_record: ToRecord[T] | None = None) -> Generator[T]:
        """Run the steps with a progress bar, print a record of each, and yield the results.

        Args:
            steps: Names of images with their results or errors.
            to_record: Converts a result to the values that `--json` prints; None prints nothing.
        """
        from upscale.cli.progress_bars import step_progress

        with closing(steps), step_progress(self.session, "images", self.report) as progress:
            for done, (name, result) in enumerate(steps, 1):
                progress(done, len(self.names))
                if isinstance(result, Exception):
                    self.failures[name] = result
                else:
                    yield result
                if to_record is not None:
                    failed = isinstance(result, Exception)
                    self.print_record(name, result if failed else to_record(result))

    def print_record(self, name: str, result: Exception | Mapping[str, object]) -> None:
        """Print the JSON record of an image, with `--json`."""
        from upscale.jobs.events import error_text

        if isinstance(result, Exception):
            result = {"status": "failed", "error": error_text(result)}
        if self.report.json:
            self.session.out_json({"input": str(self.folder / name), "error": None, **result})

    def finish(self, target: Path | None, summary: str) -> int:
        """Print the output's path, the summary and the errors, and return the exit code."""
        from upscale.jobs.events import error_text, traceback_text

        if target is not None and not self.report.json and not self.report.quiet:
            self.session.out(str(target))
        failed = len(self.failures)
        if not self.report.quiet:
            counts = [f"{len(self.names)} images", summary, f"{failed} failed" * bool(failed)]
            seconds = perf_counter() - self.start
            self.session.say(f"{', '.join(filter(None, counts))} in {seconds:.1f} s")
        for error in self.failures.values():
            self.session.error(error_text(error), traceback_text(error))
        if failed == len(self.names):
            return ExitCode.FAILED
        return ExitCode.SOME_FAILED if failed else ExitCode.DONE


def _scan(
    run: _Run,
    files: tuple[Path | None, Path | None],
    limits: tuple[int, int],
    processes: int,
    *,
    overwrite: bool,
) -> int:
    """Check the images; `files` are the index and the cache of results, either may be None."""
    from upscale_training.data.index import IndexEntry, write_index
    from upscale_training.data.scan import ScanReport, assess, scan

    from upscale.files.atomic import check_target_free

    target, cache_file = files
    if target is not None:
        check_target_free(target, overwrite=overwrite)
    cache = None if cache_file is None else ScanReport(cache_file)
    known = {} if cache is None else cache.known
    infos: list[ImageInfo] = []
    for info in run.collect(scan(run.folder, run.names, processes, known)):
        infos.append(info)
        if cache is not None and info is not known.get(info.name):
            cache.add(info)
    results = assess(infos, *limits)
    if cache is not None:
        cache.finish(results)
    usable = [result.info for result in results if result.usable]
    if target is not None and usable:
        lines = (IndexEntry(info.name, (info.width or 0, info.height or 0)) for info in usable)
        write_index(target, lines, overwrite=overwrite)
    _print_results(run, results)
    return run.finish(target if usable else None, f"{len(usable)} usable")


def _print_results(run: _Run, results: Sequence[ScanResult]) -> None:
    for name, error in run.failures.items():
        run.print_record(name, error)
    for result in results:
        info = result.info
        status = "done" if info.error is None else "failed"
        run.print_record(info.name, {"status": status, **result.record()})
        if info.error is not None:
            run.failures[info.name] = ImageError(info.error)
        elif result.remark is not None and not run.report.json and not run.report.quiet:
            run.session.out(f"{info.name}: {result.remark}")


def _derive(run: _Run, transform: ImageTransform[T], target: Path, processes: int) -> int:
    results = _derived(run, transform, target, processes)
    return run.finish(target, _summary_of(results))


def _derived(
    run: _Run, transform: ImageTransform[T], target: Path, processes: int
) -> list[DeriveResult]:
    """Write the outputs of all images, and return the results of those that can be read."""
    from upscale_training.data.derive import derive

    return _written(run, derive(transform, run.folder, run.names, target, processes))


def _register(run: _Run, camera: Path, settings: Registration, target: Path, processes: int) -> int:
    from upscale_training.data.register import register

    steps = register(run.folder, camera, run.names, target, settings=settings, jobs=processes)
    return run.finish(target, _summary_of(_written(run, steps)))


def _written(run: _Run, steps: Steps[DeriveResult]) -> list[DeriveResult]:
    """Print the numbers of outputs of each image as they come, and return them."""

    def to_record(result: DeriveResult) -> dict[str, object]:
        return {"status": _status(result.written), **asdict(result)}

    return list(run.collect(steps, to_record))


def _noise(run: _Run, collector: NoiseCollector, target: Path, processes: int) -> int:
    """Collect patches; fail if there are none, because a recipe could not use the folder."""
    from upscale_training.data.parallel import release_folder

    results = _derived(run, collector, target, processes)
    omitted = sum((Counter(result.omitted) for result in results), Counter[str]())
    reasons = [f"{count} {reason}" for reason, count in sorted(omitted.items())]
    code = run.finish(target, ", ".join([_summary_of(results), *reasons]))
    if results and not any(result.written or result.kept for result in results):
        release_folder(target)
        cause = ", ".join(reasons) or f"no image has {collector.size} pixels on both sides"
        raise TrainingError(
            f"{run.folder}: no patch of noise was found ({cause}); raise --variance, lower --size "
            "or --mean, or add photos with sky, walls or other plain areas"
        )
    return code


def _index(
    run: _Run, target: Path, pairs: tuple[Path, int] | None, processes: int, *, overwrite: bool
) -> int:
    from upscale_training.data.index import write_index
    from upscale_training.data.listing import list_images, list_pairs

    from upscale.files.atomic import check_target_free

    check_target_free(target, overwrite=overwrite)
    if pairs is None:
        steps = list_images(run.folder, run.names, processes)
    else:
        steps = list_pairs(run.folder, *pairs, run.names, processes)

    def to_record(line: IndexEntry) -> dict[str, object]:
        return {"status": "done", "size": line.size, "low": line.lr}

    lines = list(run.collect(steps, to_record))
    if lines:
        write_index(target, lines, overwrite=overwrite)
    return run.finish(target if lines else None, f"{len(lines)} listed")


def _lmdb(run: _Run, target: Path, processes: int) -> int:
    from upscale_training.data.lmdb import build_lmdb

    steps = build_lmdb(run.folder, run.names, target, processes)
    is_added = list(run.collect(steps, lambda written: {"status": _status(written)}))
    return run.finish(target, _summary(sum(is_added), len(is_added) - sum(is_added)))


def _shards(run: _Run, target: Path, size: int, processes: int) -> int:
    from upscale_training.data.shard_writer import build_shards

    steps = build_shards(run.folder, run.names, target, processes, size=size)
    is_added = list(run.collect(steps, lambda written: {"status": _status(written)}))
    return run.finish(target, _summary(sum(is_added), len(is_added) - sum(is_added)))


def _summary_of(results: Sequence[DeriveResult]) -> str:
    return _summary(sum(each.written for each in results), sum(each.kept for each in results))


def _status(written: int) -> str:
    return "done" if written else "skipped"


def _summary(written: int, kept: int) -> str:
    return f"{written} written" + (f", {kept} already exist" if kept else "")
