"""Pages to compare images on: files as they are, or a crop through several networks."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from time import perf_counter

import numpy as np

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
from upscale.files.atomic import check_target_free, write_atomically
from upscale.files.printable import printable
from upscale.images import DEFAULT_MAX_PIXELS, Image, is_image_name, read_image
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
from upscale.jobs.image import ImageUpscaler, upscale_image
from upscale.jobs.inputs import Finder, Source, file_key
from upscale.jobs.plan import ModelFacts
from upscale.options import Crop, SizeOptions

MARGIN = 64
"""Pixels around a crop that the network sees, too.

A network's view is hundreds of pixels wide, so that it makes something else of a bare crop than of
the same place in the whole image. Measured on crops of two photographs with realesrgan-x4plus, as
the largest and the mean difference in levels of 255: 208 and 6.6 without a margin, 28 and 0.8 with
32 pixels, 4 and 0.06 with 64. realesr-animevideov3 is exact from 32 on.
"""

_PAGE_SUFFIXES = (".html", ".htm")
_ADDED_BY_US = re.compile(r"_(x\d+(\.\d+)?|\d+x\d+)$")


def check_target(target: Path, inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse a page that could not or must not be written, before any work.

    Raises:
        UsageError: Its name is not that of a page.
        OutputError: It exists and may not be replaced, is a folder, or is one of the inputs.
    """
    if target.suffix.lower() not in _PAGE_SUFFIXES:
        raise UsageError(f"-o {printable(target)}: a comparison is a page: end its name in .html")
    check_target_free(target, overwrite=overwrite)
    if file_key(target) in {file_key(path) for path in inputs}:
        raise OutputError(f"{printable(target)}: would replace an input; give another -o")


def write_page(target: Path, title: str, sets: Iterable[ImageSet], *, overwrite: bool) -> int:
    """Write a page, whole or not at all, and return how many sets it shows; none leaves no page.

    Raises:
        OutputError: It exists, or cannot be written.
    """
    coming = iter(sets)
    first = next(coming, None)
    if first is None:
        return 0
    count = 0

    def counted() -> Iterator[ImageSet]:
        nonlocal count
        for one in chain([first], coming):
            count += 1
            yield one

    write_atomically(
        target, lambda file: file.writelines(page_parts(title, counted())), overwrite=overwrite
    )
    return count


# --- files -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileSet:
    """Files that show one image."""

    name: str
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Matched:
    """What belongs together, and the files without a partner."""

    sets: tuple[FileSet, ...]
    alone: tuple[Path, ...] = ()


def match_inputs(inputs: Sequence[Path]) -> Matched:
    """Find out which files show one image.

    Files that are named are versions of one image. Files in folders belong together when their
    paths in the folders are equal without the suffix, or else without what our default names add
    (`photo.png` and `photo_x4.jpg`); each folder must have one.

    Raises:
        UsageError: Fewer than two inputs, or files among folders.
        ImageError: A folder cannot be read.
    """
    if len(inputs) < 2:
        raise UsageError("compare needs two images or two folders at least")
    folders = [path for path in inputs if path.is_dir()]
    if not folders:
        return Matched((FileSet(inputs[0].stem, tuple(inputs)),))
    if len(folders) < len(inputs):
        raise UsageError(f"{printable(folders[0])}: is a folder: give files only, or folders only")
    return _match_folders(folders)


def read_sets(matched: Matched, failed: Callable[[Exception], None]) -> Iterator[ImageSet]:
    """Yield the sets of which every file can be read; tell `failed` of the others."""
    for found in matched.sets:
        labels = _labels(found.paths)
        try:
            versions = tuple(map(version_of_file, found.paths, labels))
        except UpscaleError as error:
            failed(error)
        else:
            yield ImageSet(found.name, versions)


def _match_folders(folders: Sequence[Path]) -> Matched:
    inputs = {os.path.realpath(folder) for folder in folders}
    left = [_images_in(folder, inputs) for folder in folders]
    sets: list[FileSet] = []
    for shorten in (str, without_our_suffix):
        groups = [_grouped(paths, shorten) for paths in left]
        common = [key for key in groups[0] if all(key in group for group in groups)]
        sets += [FileSet(key, tuple(p for group in groups for p in group[key])) for key in common]
        left = [{p: k for p, k in paths.items() if shorten(k) not in common} for paths in left]
    return Matched(
        tuple(sorted(sets, key=lambda found: found.name)),
        tuple(path for paths in left for path in paths),
    )


def without_our_suffix(key: str) -> str:
    """Return a name without what our default names add: `photo` of `photo_x4`."""
    return _ADDED_BY_US.sub("", key)


def _images_in(root: Path, inputs: set[str]) -> dict[Path, str]:
    """Return the images below a folder with their keys; other inputs within it are left out."""

    def fail(error: OSError) -> None:
        raise ImageError(f"{error.filename}: {error.strerror}") from error

    found: dict[Path, str] = {}
    for folder, below, files in os.walk(root, onerror=fail):
        below[:] = sorted(
            name
            for name in below
            if not name.startswith(".") and os.path.realpath(Path(folder, name)) not in inputs
        )
        for name in sorted(files):
            path = Path(folder, name)
            if not name.startswith(".") and is_image_name(path):
                found[path] = path.relative_to(root).with_suffix("").as_posix()
    return found


def _grouped(paths: Mapping[Path, str], shorten: Callable[[str], str]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path, key in paths.items():
        groups.setdefault(shorten(key), []).append(path)
    return groups


def _labels(paths: Sequence[Path]) -> list[str]:
    """Return the paths from the folder that they have in common, which the page need not name."""
    try:
        common = os.path.commonpath([path.parent.absolute() for path in paths])
    except ValueError:  # on several drives
        return [printable(path) for path in paths]
    return [printable(Path(os.path.relpath(path, common))) for path in paths]


# --- networks --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ComparedModel:
    """A network: as the user named it, and what is known of it."""

    asked: str
    facts: ModelFacts


@dataclass(frozen=True, slots=True)
class ModelsRequest:
    """What is tried: networks, the part of each image (None: all of it), and the size.

    The networks have one output size in common: where none is asked for, that of the largest scale.
    """

    models: tuple[ComparedModel, ...]
    crop: Crop | None
    size: SizeOptions
    max_pixels: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """A crop: its own pixels, what the network sees, and what of the result is shown."""

    source: Source
    crop: Image
    window: Image
    size_out: tuple[int, int]
    shown: Box


def compare_models(
    finder: Finder,
    sources: Sequence[Source],
    request: ModelsRequest,
    *,
    make: Callable[[str], ImageUpscaler],
    device: str,
    listener: Listener,
) -> tuple[list[ImageSet], list[JobResult]]:
    """Send a crop of every image through every network, one network after the other.

    A network that fails, for one image or for all, does not stop the others.

    Args:
        finder: What found the sources; its failures are results, too.
        sources: The images.
        request: What to try.
        make: Loads a network of the request by its name there.
        device: Where it runs, as the user named it.
        listener: Told of each network on each image as of a job of its own.

    Returns:
        A set for each image that a network could upscale, with its own pixels first; and the
        results.

    Raises:
        UsageError: The request is impossible for a network.
    """
    samples, failures = _take_samples(sources, request)
    failures += [_failure(str(error).partition(":")[0], "", error) for error in finder.failures]
    total = len(failures) + len(samples) * len(request.models)
    listener(Planned(total, finder.ignored, (device,)))
    for result in failures:
        listener(Finished(result))
    results = list(failures)
    versions = [[version_of_image(sample.crop, "input")] for sample in samples]
    for model in request.models if samples else ():
        trial = _Trial(model, make, device, listener)
        for sample, found in zip(samples, versions, strict=True):
            results.append(trial.run(sample, found))
            listener(Finished(results[-1]))
    sets = [
        ImageSet(sample.source.label, tuple(found))
        for sample, found in zip(samples, versions, strict=True)
        if len(found) > 1
    ]
    return sets, results


class _Trial:
    """One network, loaded once, or known not to be usable."""

    def __init__(
        self,
        model: ComparedModel,
        make: Callable[[str], ImageUpscaler],
        device: str,
        listener: Listener,
    ) -> None:
        self._model = model
        self._device = device
        self._listener = listener
        self._upscaler: ImageUpscaler | None = None
        self._unusable: UpscaleError | None = None
        try:
            self._upscaler = make(model.asked)
        except UsageError:
            raise
        except UpscaleError as error:
            self._unusable = error

    def run(self, sample: _Sample, versions: list[Version]) -> JobResult:
        """UpscaleFunction a sample and append the result to its versions."""
        label, name = sample.source.label, self._model.facts.name
        if self._upscaler is None:
            return _failure(label, name, self._unusable or UpscaleError("not loaded"))
        self._listener(Started(f"{sample.source.stem}, {name}", self._device))
        began = perf_counter()
        try:
            large, report = upscale_image(
                sample.window, sample.size_out, self._upscaler, self._advance
            )
        except UsageError:
            raise
        except Exception as error:  # one network's failure, whatever it is, is a result
            return _failure(label, name, error)
        seconds = perf_counter() - began
        note = f"{seconds:.1f} s, {report.device} {report.precision}"
        versions.append(version_of_image(_part(large, sample.shown), name, note))
        return JobResult(
            input=label,
            output=None,
            status=Status.DONE,
            model=name,
            size_in=(sample.crop.width, sample.crop.height),
            size_out=(sample.shown.width, sample.shown.height),
            tile=report.tile,
            device=report.device,
            precision=report.precision,
            seconds=seconds,
            resize=report.resize,
        )

    def _advance(self, done: int, total: int) -> None:
        self._listener(Advanced(self._device, done, total))


def _take_samples(
    sources: Sequence[Source], request: ModelsRequest
) -> tuple[list[_Sample], list[JobResult]]:
    """Read the images, and let go of all but the crops."""
    samples: list[_Sample] = []
    failures: list[JobResult] = []
    for source in sources:
        try:
            samples.append(_take_sample(source, request))
        except Exception as error:
            failures.append(_failure(source.label, "", error))
    return samples, failures


def _take_sample(source: Source, request: ModelsRequest) -> _Sample:
    image = read_image(source.data, max_pixels=request.max_pixels or DEFAULT_MAX_PIXELS)
    size = image.width, image.height
    crop = _crop_of(image, request.crop, source.label)
    window = crop.grown(MARGIN, size)
    large = request.size.resolve(size, max(model.facts.scale for model in request.models))
    ratios = large[0] / size[0], large[1] / size[1]
    size_out = (
        max(1, round(window.width * ratios[0])),
        max(1, round(window.height * ratios[1])),
    )
    left, width = _scaled(crop.x - window.x, crop.width, ratios[0], size_out[0])
    top, height = _scaled(crop.y - window.y, crop.height, ratios[1], size_out[1])
    shown = Box(left, top, width, height)
    return _Sample(source, _part(image, crop), _part(image, window), size_out, shown)


def _crop_of(image: Image, wanted: Crop | None, label: str) -> Box:
    size = image.width, image.height
    if wanted is None:
        return Box(0, 0, *size)
    if wanted == "auto":
        return choose_crop(image.pixels, image.alpha)
    box = Box(*wanted)
    if not box.lies_in(size):
        raise ImageError(f"{label}: is {size[0]}x{size[1]}, and --crop goes beyond its edge")
    return box


def _scaled(start: int, length: int, ratio: float, whole: int) -> tuple[int, int]:
    """Return start and length in an upscaled image, of at least one of its `whole` pixels."""
    first = min(round(start * ratio), whole - 1)
    return first, max(1, round((start + length) * ratio) - first)


def _part(image: Image, box: Box) -> Image:
    """Return a copy, so that the whole image can go."""
    cut = np.s_[box.y : box.y + box.height, box.x : box.x + box.width]
    alpha = None if image.alpha is None else image.alpha[cut].copy()
    return replace(image, pixels=image.pixels[cut].copy(), alpha=alpha)


def _failure(label: str, model: str, error: Exception) -> JobResult:
    return JobResult(
        input=label,
        output=None,
        status=Status.FAILED,
        model=model,
        error=error_text(error),
        trace=traceback_text(error),
    )
