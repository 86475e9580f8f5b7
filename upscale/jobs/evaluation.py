"""Evaluation: score images with metrics, against their references where there are any."""

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
from upscale.images.metadata.calibration import is_nearly_srgb, states
from upscale.images.metadata.icc import in_srgb, is_srgb
from upscale.jobs.eval_items import EvalItem
from upscale.jobs.events import error_text
from upscale.jobs.naming import strip_size_suffix
from upscale.metrics import Measure, Metric, MetricError, Resources, metric_names, metrics

Pixels = NDArray[Any]

_LARGEST_SCALE = 8
_SMALLEST_RATIO = 10
"""Smallest side of an image, relative to the pixels that its reference may have more than it."""


# --- metrics ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoadedMetrics:
    """Metrics that are ready for use.

    Attributes:
        metrics: Metrics in the order of tables.
        measures: Functions that compute them, by name.
        missing: Reasons why metrics could not be loaded, by name.
        border: Number of pixels to ignore on every side.
    """

    metrics: tuple[Metric, ...]
    measures: Mapping[str, Measure]
    missing: Mapping[str, str]
    border: int = 0


def load_metrics(
    names: Sequence[str], *, paired: bool, border: int = 0, resources: Resources
) -> LoadedMetrics:
    """Load metrics.

    Args:
        names: Names of the metrics; empty for all that are available.
        paired: Whether there are references.
        border: Number of pixels to ignore on every side.
        resources: Files and device of perceptual metrics.

    Raises:
        UsageError: A name is unknown, or its metric needs references and there are none.
        DependencyError: A metric in `names` lacks a file.
        CheckpointError: A file of a metric in `names` is a different file.
    """
    known = metrics()
    for name in names:
        _check_name(name, paired=paired)
    requested = [known[name] for name in names] or [
        metric for metric in known.values() if paired or not metric.paired
    ]
    measures: dict[str, Measure] = {}
    missing: dict[str, str] = {}
    for metric in requested:
        try:
            measures[metric.name] = metric.load(resources)
        except (DependencyError, CheckpointError) as error:
            if names:
                raise type(error)(f"{metric.name}: {error}") from error
            missing[metric.name] = str(error)
    loaded = tuple(metric for metric in requested if metric.name in measures)
    return LoadedMetrics(loaded, measures, missing, border)


def _check_name(name: str, *, paired: bool) -> None:
    known = metric_names()
    if name not in known:
        similar = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {similar[0]}?" if similar else f"known metrics: {', '.join(known)}"
        raise UsageError(f"--metrics: unknown metric {name!r}; {hint}")
    if metrics()[name].paired and not paired:
        raise UsageError(f"--metrics: {name} needs a reference: pass --reference")


# --- scores ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one image.

    Attributes:
        item: The image.
        values: Scores by metric; metrics that could not be computed are left out.
        notes: Remarks on the scores.
        error: Reason why there are no scores, or None.
    """

    item: EvalItem
    values: Mapping[str, float]
    notes: tuple[str, ...] = ()
    error: str | None = None


def measure(item: EvalItem, loaded: LoadedMetrics) -> Scores:
    """Compute the metrics of one image; errors become part of the result."""
    try:
        pixels, reference, notes = _read_pixels(item)
    except (UpscaleError, MemoryError, OSError) as error:
        return Scores(item, {}, error=error_text(error))
    values: dict[str, float] = {}
    infinite: list[str] = []
    for metric in loaded.metrics:
        try:
            value = loaded.measures[metric.name](pixels, reference, loaded.border)
        except MetricError as error:
            notes.append(f"{metric.title}: {error}")
        except MemoryError:
            notes.append(f"{metric.title}: not enough memory")
        else:
            values[metric.name] = value
            if math.isinf(value):
                infinite.append(metric.title)
            elif math.isnan(value):
                notes.append(f"{metric.title}: not a number, because the image contains NaN")
    if infinite:
        notes.insert(0, f"{' and '.join(infinite)}: infinite, because the images are equal")
    return Scores(item, values, tuple(notes))


def scores_by_chain(scores: Iterable[Scores]) -> dict[str, list[Scores]]:
    """Return the scores of each degradation chain; the key is empty for images without one."""
    chains: dict[str, list[Scores]] = {}
    for one in scores:
        chains.setdefault(one.item.chain, []).append(one)
    return chains


def mean_scores(scores: Iterable[Scores]) -> dict[str, dict[str, float]]:
    """Return each version's mean of each metric, over the images that have a score."""
    by_version: dict[str, dict[str, list[float]]] = {}
    for one in scores:
        by_metric = by_version.setdefault(one.item.version, {})
        for name, value in one.values.items():
            by_metric.setdefault(name, []).append(value)
    return {
        version: {name: fmean(values) for name, values in by_metric.items()}
        for version, by_metric in by_version.items()
    }


def best_versions(means: Mapping[str, Mapping[str, float]], metric: Metric) -> set[str]:
    """Return the versions with the best mean of a metric; empty if all are equal."""
    values = {
        version: by_metric[metric.name]
        for version, by_metric in means.items()
        if metric.name in by_metric
    }
    if len(set(values.values())) < 2:
        return set()
    best = (max if metric.better == "more" else min)(values.values())
    return {version for version, value in values.items() if value == best}


def _read_pixels(item: EvalItem) -> tuple[Pixels, Pixels | None, list[str]]:
    """Read an image and its reference; return notes on what was converted for comparison."""
    image = read_image(item.path)
    if item.reference is None:
        return _on_white(image), None, _alpha_notes(image)
    reference = read_image(item.reference)
    size, other = (image.width, image.height), (reference.width, reference.height)
    cut = size != other and _is_cut(size, other)
    if cut:
        reference = replace(
            reference,
            pixels=reference.pixels[: size[1], : size[0]],
            alpha=None if reference.alpha is None else reference.alpha[: size[1], : size[0]],
        )
    elif size != other:
        raise ImageError(
            f"{printable(item.path)}: is {size[0]}x{size[1]}, and its reference "
            f"{printable(item.reference)} is {other[0]}x{other[1]}: the sizes must be equal"
        )
    notes = _alpha_notes(image, reference)
    if cut:
        notes.append(
            f"the reference of {other[0]}x{other[1]} was cut to {size[0]}x{size[1]} at its right "
            "and bottom"
        )
    if not _same_colours(_profile(image), _profile(reference)):
        image, reference = in_srgb(image), in_srgb(reference)
        notes.append("the colour profiles differ, so both images were converted to sRGB")
    return _on_white(image), _on_white(reference), notes


def _is_cut(size: tuple[int, int], reference: tuple[int, int]) -> bool:
    """Whether an image lacks only the rest of a division of its reference by a scale.

    Benchmarks such as B100 contain 481x321 pixels, of which a network for x4 gives 480x320.
    """
    rests = [large - small for small, large in zip(size, reference, strict=True)]
    return all(
        0 <= rest < _LARGEST_SCALE and rest * _SMALLEST_RATIO <= small
        for rest, small in zip(rests, size, strict=True)
    )


def _profile(image: Image) -> bytes | None:
    """Return the profile; None where it only repeats how PNG files approximate sRGB."""
    metadata, calibration = image.metadata, image.metadata.calibration
    if metadata.icc and is_nearly_srgb(calibration) and states(calibration, metadata.icc):
        return None
    return metadata.icc


def _same_colours(profile: bytes | None, other: bytes | None) -> bool:
    """Whether two profiles give the same colours; no profile means sRGB."""
    return profile == other or all(one is None or is_srgb(one) for one in (profile, other))


def _alpha_notes(*images: Image) -> list[str]:
    if all(image.alpha is None for image in images):
        return []
    return ["transparent pixels were composited on white"]


def _on_white(image: Image) -> Pixels:
    """Return the pixels composited on white."""
    if image.alpha is None:
        return image.pixels
    full = 1.0 if image.pixels.dtype == np.float32 else float(np.iinfo(image.pixels.dtype).max)
    opacity = image.alpha[..., None].astype(np.float32) / np.float32(full)
    pixels = image.pixels.astype(np.float32) / np.float32(full)
    return pixels * opacity + (1 - opacity)


# --- reports ---------------------------------------------------------------------------------


def csv_table(scores: Sequence[Scores], loaded: LoadedMetrics) -> bytes:
    """Return a CSV table in UTF-8 with one line for each image and all digits.

    A column names the degradation chain if there is one.
    """
    names = [metric.name for metric in loaded.metrics]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    has_chains = any(one.item.chain for one in scores)
    chain_head = ["chain"] * has_chains
    writer.writerow(["picture", *chain_head, "version", "input", "reference", *names, "error"])
    for one in scores:
        writer.writerow(
            [
                one.item.image,
                *[one.item.chain] * has_chains,
                one.item.version,
                str(one.item.path),
                "" if one.item.reference is None else str(one.item.reference),
                *(one.values.get(name, "") for name in names),
                one.error or "",
            ]
        )
    return text.getvalue().encode("utf-8", "replace")


def format_score(value: float, metric: Metric) -> str:
    """Return a score with the number of decimals of its metric."""
    return f"{value:.{metric.digits}f}"


def crop_sets(scores: Sequence[Scores], loaded: LoadedMetrics) -> Iterator[ImageSet]:
    """Yield the same crop of all versions of each image, to be shown side by side.

    The crop shows where the versions differ most from the reference, which comes first. Without a
    reference, it shows where the first version has most detail.
    """
    groups: dict[str | Path, list[Scores]] = {}
    for one in scores:
        if one.error is None:
            name = strip_size_suffix(one.item.image)
            groups.setdefault(one.item.reference or name, []).append(one)
    for group in groups.values():
        yield _crop_set(group, loaded)


def _crop_set(group: Sequence[Scores], loaded: LoadedMetrics) -> ImageSet:
    item = group[0].item
    images = [read_image(one.item.path) for one in group]
    labels = [one.item.version or one.item.path.name for one in group]
    notes = [_score_note(one, loaded) for one in group]
    if item.reference is None:
        first = images[0]
        box = choose_crop(first.pixels, first.alpha)
    else:
        first = read_image(item.reference)
        box = choose_difference(_on_white(first), [_on_white(image) for image in images])
        images, labels, notes = [first, *images], ["reference", *labels], ["", *notes]
    size = first.width, first.height
    versions = (
        version_of_image(_cut(image, box, size), label, note)
        for image, label, note in zip(images, labels, notes, strict=True)
    )
    name = strip_size_suffix(item.image)
    return ImageSet(f"{name} ({item.chain})" if item.chain else name, tuple(versions))


def _score_note(scores: Scores, loaded: LoadedMetrics) -> str:
    return ", ".join(
        f"{metric.title} {format_score(scores.values[metric.name], metric)}"
        for metric in loaded.metrics
        if metric.name in scores.values
    )


def _cut(image: Image, box: Box, size: tuple[int, int]) -> Image:
    """Return the part of an image that corresponds to a box in an image of `size`."""
    across, down = image.width / size[0], image.height / size[1]
    left, top = int(box.x * across), int(box.y * down)
    width = max(1, round((box.x + box.width) * across) - left)
    height = max(1, round((box.y + box.height) * down) - top)
    part = Box(left, top, width, height)
    alpha = None if image.alpha is None else part.cut(image.alpha)
    return replace(image, pixels=part.cut(image.pixels), alpha=alpha)
