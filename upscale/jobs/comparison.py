"""Comparison pages: existing files, or a crop that several networks have upscaled."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from upscale.compare import (
    Box,
    ImageSet,
    Version,
    choose_crop,
    page_parts,
    version_of_file,
    version_of_image,
)
from upscale.errors import ImageError, OutputError, UpscaleError, UsageError
from upscale.files.atomic import (
    check_target_free,
    remove_stale_temporaries,
    write_atomically,
)
from upscale.files.identity import is_same_file
from upscale.files.printable import printable
from upscale.images import DEFAULT_MAX_PIXELS, Image, is_image_name, read_image
from upscale.jobs.auto import AutoUpscaler
from upscale.jobs.colour import keeps_colour_of
from upscale.jobs.events import (
    Advanced,
    Finished,
    JobResult,
    Listener,
    Planned,
    Started,
    Status,
    error_text,
    traceback_text,
)
from upscale.jobs.faces import FaceFactory, FaceStep
from upscale.jobs.image import ImageUpscaler, upscale_image
from upscale.jobs.inputs import Finder, Source
from upscale.jobs.model_info import ModelInfo
from upscale.jobs.naming import strip_size_suffix
from upscale.jobs.networks import for_content
from upscale.options import Crop, Options, TextureOptions

if TYPE_CHECKING:
    from upscale.engine.choices import KeepColour
    from upscale.faces.enhancer import FaceEnhancer
    from upscale.selection import Choice

MARGIN = 64
"""Number of pixels around a crop that the network also receives.

The receptive field of a network is hundreds of pixels wide, so a bare crop gives another result
than the same place in the whole image. Measured on crops of two photographs with realesrgan-x4plus,
as largest and mean difference in levels of 255: 208 and 6.6 without a margin, 28 and 0.8 with 32
pixels, 4 and 0.06 with 64. realesr-animevideov3 is exact from 32 on.
"""

_PAGE_SUFFIXES = (".html", ".htm")


def check_target(target: Path, inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Check before any work that a page can be written.

    Args:
        target: File of the page.
        inputs: Files that the page must not replace.
        overwrite: Whether an existing page may be replaced.

    Raises:
        UsageError: The name does not end in .html.
        OutputError: The target exists and may not be replaced, is a folder, or is an input.
    """
    if target.suffix.lower() not in _PAGE_SUFFIXES:
        raise UsageError(
            f"-o {printable(target)}: a comparison is an HTML page: end its name in .html"
        )
    check_target_free(target, overwrite=overwrite)
    if any(is_same_file(target, path) for path in inputs):
        raise OutputError(f"{printable(target)}: would replace an input; pass another -o")


def write_page(target: Path, title: str, sets: Iterable[ImageSet], *, overwrite: bool) -> int:
    """Write a page atomically and return its number of sets; without sets no page is written.

    Raises:
        OutputError: The target exists, or cannot be written.
    """
    remaining = iter(sets)
    first = next(remaining, None)
    if first is None:
        return 0
    count = 0

    def count_sets() -> Iterator[ImageSet]:
        nonlocal count
        for image_set in chain([first], remaining):
            count += 1
            yield image_set

    remove_stale_temporaries(target.parent)
    write_atomically(
        target, lambda file: file.writelines(page_parts(title, count_sets())), overwrite=overwrite
    )
    return count


# --- files -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileSet:
    """Files that show the same image."""

    name: str
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class MatchedFiles:
    """The result of matching files.

    Attributes:
        sets: Files that belong together.
        unmatched: Files that have no counterpart.
    """

    sets: tuple[FileSet, ...]
    unmatched: tuple[Path, ...] = ()


def match_inputs(inputs: Sequence[Path]) -> MatchedFiles:
    """Find the files that show the same image.

    Files that the user names are versions of one image. Files in folders belong together if their
    paths in the folders are equal without the suffix, or without what the default names append
    (`photo.png` and `photo_x4.jpg`); every folder must contain one.

    Raises:
        UsageError: There are fewer than two inputs, or both files and folders.
        ImageError: A folder cannot be read.
    """
    if len(inputs) < 2:
        raise UsageError("compare needs at least two images or two folders")
    folders = [path for path in inputs if path.is_dir()]
    if not folders:
        return MatchedFiles((FileSet(inputs[0].stem, tuple(inputs)),))
    if len(folders) < len(inputs):
        raise UsageError(f"{printable(folders[0])}: is a folder: name files only, or folders only")
    return _match_folders(folders)


def read_sets(matched: MatchedFiles, failed: Callable[[Exception], None]) -> Iterator[ImageSet]:
    """Yield the sets whose files can all be read; call `failed` with the error of each other."""
    for file_set in matched.sets:
        labels = _labels(file_set.paths)
        try:
            versions = tuple(map(version_of_file, file_set.paths, labels))
        except UpscaleError as error:
            failed(error)
        else:
            yield ImageSet(file_set.name, versions)


def _match_folders(folders: Sequence[Path]) -> MatchedFiles:
    inputs = {os.path.realpath(folder) for folder in folders}
    remaining = [_images_in(folder, inputs) for folder in folders]
    sets: list[FileSet] = []
    for shorten in (str, strip_size_suffix):
        groups = [_grouped(paths, shorten) for paths in remaining]
        common = [key for key in groups[0] if all(key in group for group in groups)]
        sets += [FileSet(key, tuple(p for group in groups for p in group[key])) for key in common]
        remaining = [
            {p: k for p, k in paths.items() if shorten(k) not in common} for paths in remaining
        ]
    return MatchedFiles(
        tuple(sorted(sets, key=lambda file_set: file_set.name)),
        tuple(path for paths in remaining for path in paths),
    )


def _images_in(root: Path, inputs: set[str]) -> dict[Path, str]:
    """Return the images below a folder with their keys; other inputs inside it are skipped."""

    def fail(error: OSError) -> None:
        raise ImageError(f"{printable(error.filename)}: {error.strerror}") from error

    images: dict[Path, str] = {}
    for folder, subfolders, files in os.walk(root, onerror=fail):
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and os.path.realpath(Path(folder, name)) not in inputs
        )
        for name in sorted(files):
            path = Path(folder, name)
            if not name.startswith(".") and is_image_name(path):
                images[path] = path.relative_to(root).with_suffix("").as_posix()
    return images


def _grouped(paths: Mapping[Path, str], shorten: Callable[[str], str]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path, key in paths.items():
        groups.setdefault(shorten(key), []).append(path)
    return groups


def _labels(paths: Sequence[Path]) -> list[str]:
    """Return the paths relative to their common folder, which the page need not disclose."""
    try:
        common = os.path.commonpath([path.parent.absolute() for path in paths])
    except ValueError:  # the files are on several drives
        return [printable(path) for path in paths]
    return [printable(Path(os.path.relpath(path, common))) for path in paths]


# --- networks --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ComparedModel:
    """A network to compare.

    Attributes:
        argument: Name or path as the user gave it.
        info: Properties of the model.
    """

    argument: str
    info: ModelInfo


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """A crop of an image.

    Attributes:
        source: The image.
        crop: Pixels of the crop.
        window: Pixels that the network receives: the crop and its margin.
        size_out: (width, height) of the upscaled window.
        shown: Part of the upscaled window that the page shows.
        keeps_colour: Whether a network that the user named keeps the colours of the whole image;
            None for normal maps.
    """

    source: Source
    crop: Image
    window: Image
    size_out: tuple[int, int]
    shown: Box
    keeps_colour: bool | None


def compare_models(
    finder: Finder,
    sources: Sequence[Source],
    models: Sequence[ComparedModel],
    options: Options,
    *,
    make: Callable[[str], ImageUpscaler | AutoUpscaler],
    device: str,
    listener: Listener,
    faces: FaceFactory | None = None,
) -> tuple[list[ImageSet], list[JobResult]]:
    """Upscale a crop of every image with every network, one network after the other.

    All networks give the same output size: the requested one, or that of the largest scale. A
    network that fails, for one image or for all, does not stop the others.

    Args:
        finder: Finder of the sources; its failures become results.
        sources: Images.
        models: Networks to compare.
        options: Crop, size and pixel limit.
        make: Function that loads a network by its `argument`.
        device: Device that runs the networks, as the user named it.
        listener: Function that is called with the events of each network on each image.
        faces: Factory of what restores faces; None to restore none.

    Returns:
        A set for each image that a network has upscaled, with the image's own pixels first; and
        the results.

    Raises:
        UsageError: The request is impossible for a network.
    """
    samples, failures = _take_samples(sources, models, options)
    failures += [_failure(str(error).partition(":")[0], "", error) for error in finder.failures]
    total = len(failures) + len(samples) * len(models)
    listener(Planned(total, finder.ignored, (device,), total))
    for result in failures:
        listener(Finished(result))
    results = list(failures)
    texture = options.texture
    if options.compare.crop is not None:
        texture = replace(texture, seamless="")  # a part of an image does not repeat
    enhancer = faces(device) if faces is not None and samples else None
    versions = [[version_of_image(sample.crop, "input")] for sample in samples]
    for model in models if samples else ():
        max_pixels = options.run.max_pixels or DEFAULT_MAX_PIXELS
        run = _ModelRun(
            model,
            make,
            device,
            listener,
            texture,
            max_pixels=max_pixels,
            keep_colour=options.engine.keep_colour,
            enhancer=enhancer,
        )
        for sample, sample_versions in zip(samples, versions, strict=True):
            results.append(run.upscale(sample, sample_versions))
            listener(Finished(results[-1]))
    sets = [
        ImageSet(sample.source.label, tuple(sample_versions))
        for sample, sample_versions in zip(samples, versions, strict=True)
        if len(sample_versions) > 1
    ]
    return sets, results


class _ModelRun:
    """One network, loaded once, or the error of loading it."""

    def __init__(
        self,
        model: ComparedModel,
        make: Callable[[str], ImageUpscaler | AutoUpscaler],
        device: str,
        listener: Listener,
        texture: TextureOptions,
        *,
        max_pixels: int,
        keep_colour: KeepColour,
        enhancer: FaceEnhancer | None,
    ) -> None:
        self._name = model.info.name
        self._texture = texture
        self._device = device
        self._listener = listener
        self._max_pixels = max_pixels
        self._keep_colour: KeepColour = keep_colour
        self._enhancer = enhancer
        self._upscaler: ImageUpscaler | AutoUpscaler | UpscaleError
        try:
            self._upscaler = make(model.argument)
        except UsageError:
            raise
        except UpscaleError as error:
            self._upscaler = error

    def upscale(self, sample: _Sample, versions: list[Version]) -> JobResult:
        """Upscale a sample and append the result to its versions."""
        label = sample.source.label
        if isinstance(self._upscaler, UpscaleError):
            return _failure(label, self._name, self._upscaler)
        self._listener(Started(f"{sample.source.stem}, {self._name}", self._device))
        began = perf_counter()
        try:
            upscaler, choice = self._chosen(self._upscaler, sample.source)
            keeps = sample.keeps_colour
            if choice is not None and self._keep_colour == "auto" and keeps is not None:
                keeps = choice.is_clean
            faces = None if self._enhancer is None else FaceStep(self._enhancer)
            large, report = upscale_image(
                sample.window,
                sample.size_out,
                upscaler,
                self._advance,
                self._texture,
                keep_colour=bool(keeps),
                faces=faces,
            )
        except UsageError:
            raise
        except Exception as error:  # every failure of a network becomes its result
            return _failure(label, self._name, error)
        seconds = perf_counter() - began
        note = f"{seconds:.1f} s, {report.device} {report.precision}"
        if choice is not None:
            note = f"{report.model}: {choice.reason}; {note}"
        versions.append(version_of_image(_cut(large, sample.shown), self._name, note))
        return JobResult(
            input=label,
            output=None,
            status=Status.DONE,
            model=report.model if choice else self._name,
            choice=choice,
            size_in=(sample.crop.width, sample.crop.height),
            size_out=(sample.shown.width, sample.shown.height),
            tile=report.tile,
            device=report.device,
            precision=report.precision,
            seconds=seconds,
            resize=report.resize,
            faces=faces and faces.count,
        )

    def _chosen(
        self, upscaler: ImageUpscaler | AutoUpscaler, source: Source
    ) -> tuple[ImageUpscaler, Choice | None]:
        """Return the network for an image, chosen by the whole of it, not by a crop."""
        image = read_image(source.data, max_pixels=self._max_pixels)
        if not isinstance(upscaler, AutoUpscaler):
            return for_content(upscaler, image), None
        choice = upscaler.choose_for(image, self._texture)
        return upscaler.upscaler_for(choice), choice

    def _advance(self, done: int, total: int) -> None:
        self._listener(Advanced(self._device, done, total))


def _take_samples(
    sources: Sequence[Source], models: Sequence[ComparedModel], options: Options
) -> tuple[list[_Sample], list[JobResult]]:
    """Read the images and keep only their crops in memory."""
    samples: list[_Sample] = []
    failures: list[JobResult] = []
    scale = max(model.info.scale for model in models)
    for source in sources:
        try:
            samples.append(_take_sample(source, scale, options))
        except Exception as error:
            failures.append(_failure(source.label, "", error))
    return samples, failures


def _take_sample(source: Source, scale: float, options: Options) -> _Sample:
    image = read_image(source.data, max_pixels=options.run.max_pixels or DEFAULT_MAX_PIXELS)
    size = image.width, image.height
    crop = _crop_box(image, options.compare.crop, source.label)
    window = crop.expanded(MARGIN, size)
    large = options.size.resolve(size, scale)
    ratios = large[0] / size[0], large[1] / size[1]
    size_out = (
        max(1, round(window.width * ratios[0])),
        max(1, round(window.height * ratios[1])),
    )
    left, width = _scaled(crop.x - window.x, crop.width, ratios[0], size_out[0])
    top, height = _scaled(crop.y - window.y, crop.height, ratios[1], size_out[1])
    shown = Box(left, top, width, height)
    keeps = keeps_colour_of(image, options.engine.keep_colour, options.texture)
    return _Sample(source, _cut(image, crop), _cut(image, window), size_out, shown, keeps)


def _crop_box(image: Image, requested: Crop | None, label: str) -> Box:
    size = image.width, image.height
    if requested is None:
        return Box(0, 0, *size)
    if requested == "auto":
        return choose_crop(image.pixels, image.alpha)
    box = Box(*requested)
    if not box.fits_in(size):
        raise ImageError(f"{label}: is {size[0]}x{size[1]}, and --crop extends beyond its edge")
    return box


def _scaled(start: int, length: int, ratio: float, limit: int) -> tuple[int, int]:
    """Return start and length in an upscaled image, at least one of its `limit` pixels."""
    first = min(round(start * ratio), limit - 1)
    return first, max(1, round((start + length) * ratio) - first)


def _cut(image: Image, box: Box) -> Image:
    """Return a copy of a part, so that the whole image can be freed."""
    alpha = None if image.alpha is None else box.cut(image.alpha).copy()
    return replace(image, pixels=box.cut(image.pixels).copy(), alpha=alpha)


def _failure(label: str, model: str, error: Exception) -> JobResult:
    return JobResult(
        input=label,
        output=None,
        status=Status.FAILED,
        model=model,
        error=error_text(error),
        trace=traceback_text(error),
    )
