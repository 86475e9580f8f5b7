"""Images measured by metrics, beside their references where there are any."""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscale.compare import (
    Box,
    ImageSet,
    choose_crop,
    choose_difference,
    version_of_image,
)
from upscale.errors import CheckpointError, DependencyError, ImageError, UpscaleError, UsageError
from upscale.files.printable import printable
from upscale.images import Image, read_image
from upscale.images.metadata.icc import in_srgb, is_srgb
from upscale.jobs.comparison import without_our_suffix
from upscale.jobs.eval_items import EvalItem
from upscale.jobs.events import error_text
from upscale.metrics import MetricError
from upscale.metrics.registry import Measure, Metric, Resources, metrics

Pixels = NDArray[Any]


# --- metrics ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoadedMetrics:
    """Metrics to measure by.

    Attributes:
        metrics: In the order of tables.
        measures: By their names.
        missing: Why others are not here, by their names.
        border: Pixels on every side that do not count.
    """

    metrics: tuple[Metric, ...]
    measures: Mapping[str, Measure]
    missing: Mapping[str, str]
    border: int = 0


def prepare(
    names: Sequence[str], *, paired: bool, border: int = 0, resources: Resources
) -> LoadedMetrics:
    """Get metrics ready.

    Args:
        names: Those to use; none means all that there are.
        paired: Whether there are references.
        border: Pixels on every side that do not count.
        resources: What perceptual metrics need.

    Raises:
        UsageError: A name is unknown, or needs references where there are none.
        DependencyError: A metric that was named lacks a file.
        CheckpointError: A file is not what it should be.
    """
    known = metrics()
    for name in names:
        _check_name(name, known, paired=paired)
    wanted = [known[name] for name in names] or [
        metric for metric in known.values() if paired or not metric.paired
    ]
    measures: dict[str, Measure] = {}
    missing: dict[str, str] = {}
    for metric in wanted:
        try:
            measures[metric.name] = metric.load(resources)
        except (DependencyError, CheckpointError) as error:
            if names:
                raise type(error)(f"{metric.name}: {error}") from error
            missing[metric.name] = str(error)
    ready = tuple(metric for metric in wanted if metric.name in measures)
    return LoadedMetrics(ready, measures, missing, border)


def _check_name(name: str, known: Mapping[str, Metric], *, paired: bool) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise UsageError(f"--metrics: there is no {name!r}; {hint}")
    if known[name].paired and not paired:
        raise UsageError(f"--metrics: {name} compares with a reference: give --reference")


# --- measuring -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was found of one image.

    Attributes:
        subject: Which.
        values: Figures by the names of metrics; those that could not be taken are not here.
        notes: What has to be known of them.
        error: Why there are none at all.
    """

    subject: EvalItem
    values: Mapping[str, float]
    notes: tuple[str, ...] = ()
    error: str | None = None


def measure(subject: EvalItem, ready: LoadedMetrics) -> Measurement:
    """Measure one image; whatever goes wrong is in the result."""
    try:
        pixels, reference, notes = _pixels(subject)
    except (UpscaleError, MemoryError, OSError) as error:
        return Measurement(subject, {}, error=error_text(error))
    values: dict[str, float] = {}
    for metric in ready.metrics:
        try:
            value = ready.measures[metric.name](pixels, reference, ready.border)
        except MetricError as error:
            notes.append(f"{metric.title}: {error}")
        except MemoryError:
            notes.append(f"{metric.title}: memory does not suffice")
        else:
            values[metric.name] = value
            if not math.isfinite(value):
                notes.append(f"{metric.title}: {_told(value)}")
    return Measurement(subject, values, tuple(notes))


def _told(value: float) -> str:
    if math.isinf(value):
        return "is infinite, because the images are equal"
    return "is no number, because samples are none"


def means(measurements: Iterable[Measurement]) -> dict[str, dict[str, float]]:
    """The mean of each metric over the images of each version that have it."""
    taken: dict[str, dict[str, list[float]]] = {}
    for one in measurements:
        figures = taken.setdefault(one.subject.version, {})
        for name, value in one.values.items():
            figures.setdefault(name, []).append(value)
    return {
        version: {name: fmean(values) for name, values in figures.items()}
        for version, figures in taken.items()
    }


def best_versions(found: Mapping[str, Mapping[str, float]], metric: Metric) -> set[str]:
    """The versions with the best mean of a metric; none where there is nothing to choose from."""
    values = {
        version: figures[metric.name]
        for version, figures in found.items()
        if metric.name in figures
    }
    if len(set(values.values())) < 2:
        return set()
    best = (max if metric.better == "more" else min)(values.values())
    return {version for version, value in values.items() if value == best}


def _pixels(subject: EvalItem) -> tuple[Pixels, Pixels | None, list[str]]:
    """Read an image and its reference, and say what was done to compare them."""
    image = read_image(subject.path)
    if subject.reference is None:
        return _opaque(image), None, _alpha_notes(image)
    reference = read_image(subject.reference)
    size, other = (image.width, image.height), (reference.width, reference.height)
    if size != other:
        raise ImageError(
            f"{printable(subject.path)}: is {size[0]}x{size[1]}, and its reference "
            f"{printable(subject.reference)} is {other[0]}x{other[1]}: the sizes must be equal"
        )
    notes = _alpha_notes(image, reference)
    if not _alike(image.metadata.icc, reference.metadata.icc):
        image, reference = in_srgb(image), in_srgb(reference)
        notes.append("their profiles differ, so both were converted to sRGB")
    return _opaque(image), _opaque(reference), notes


def _alike(profile: bytes | None, other: bytes | None) -> bool:
    """Whether two profiles give the same colours; none is sRGB."""
    return profile == other or all(one is None or is_srgb(one) for one in (profile, other))


def _alpha_notes(*images: Image) -> list[str]:
    if all(image.alpha is None for image in images):
        return []
    return ["what is transparent was measured on white"]


def _opaque(image: Image) -> Pixels:
    """Pixels as they look on white."""
    if image.alpha is None:
        return image.pixels
    full = 1.0 if image.pixels.dtype == np.float32 else float(np.iinfo(image.pixels.dtype).max)
    cover = image.alpha[..., None].astype(np.float32) / np.float32(full)
    pixels = image.pixels.astype(np.float32) / np.float32(full)
    return pixels * cover + (1 - cover)


# --- results ---------------------------------------------------------------------------------


def table_of(measurements: Sequence[Measurement], ready: LoadedMetrics) -> bytes:
    """Return a table in CSV, UTF-8: a line for each image, all digits."""
    names = [metric.name for metric in ready.metrics]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["picture", "version", "input", "reference", *names, "error"])
    for one in measurements:
        subject = one.subject
        writer.writerow(
            [
                subject.image,
                subject.version,
                str(subject.path),
                "" if subject.reference is None else str(subject.reference),
                *(one.values.get(name, "") for name in names),
                one.error or "",
            ]
        )
    return text.getvalue().encode("utf-8", "replace")


def figure_text(value: float, metric: Metric) -> str:
    """A figure as tables show it."""
    return f"{value:.{metric.digits}f}"


def crops(measurements: Sequence[Measurement], ready: LoadedMetrics) -> Iterator[ImageSet]:
    """Yield, for each image, the same crop of its versions, to be shown side by side.

    It is where they differ most from the reference, which comes first; without one, where the
    first version has most detail.
    """
    groups: dict[str | Path, list[Measurement]] = {}
    for one in measurements:
        if one.error is None:
            name = without_our_suffix(one.subject.image)
            groups.setdefault(one.subject.reference or name, []).append(one)
    for group in groups.values():
        yield _crop_set(group, ready)


def _crop_set(group: Sequence[Measurement], ready: LoadedMetrics) -> ImageSet:
    subject = group[0].subject
    images = [read_image(one.subject.path) for one in group]
    labels = [one.subject.version or one.subject.path.name for one in group]
    notes = [_figures(one, ready) for one in group]
    if subject.reference is None:
        first = images[0]
        box = choose_crop(first.pixels, first.alpha)
    else:
        first = read_image(subject.reference)
        box = choose_difference(_opaque(first), [_opaque(image) for image in images])
        images, labels, notes = [first, *images], ["reference", *labels], ["", *notes]
    size = first.width, first.height
    versions = (
        version_of_image(_part(image, box, size), label, note)
        for image, label, note in zip(images, labels, notes, strict=True)
    )
    return ImageSet(without_our_suffix(subject.image), tuple(versions))


def _figures(one: Measurement, ready: LoadedMetrics) -> str:
    return ", ".join(
        f"{metric.title} {figure_text(one.values[metric.name], metric)}"
        for metric in ready.metrics
        if metric.name in one.values
    )


def _part(image: Image, box: Box, size: tuple[int, int]) -> Image:
    """The part that a box is of an image of `size`, in one that may have another."""
    across, down = image.width / size[0], image.height / size[1]
    left, top = int(box.x * across), int(box.y * down)
    right = max(left + 1, round((box.x + box.width) * across))
    bottom = max(top + 1, round((box.y + box.height) * down))
    cut = np.s_[top:bottom, left:right]
    alpha = None if image.alpha is None else image.alpha[cut]
    return replace(image, pixels=image.pixels[cut], alpha=alpha)
