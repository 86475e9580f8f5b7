"""Validation of the averaged weights on held-out images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from upscale.engine.loading import Model
from upscale.engine.upscaler import Upscaler
from upscale.errors import ImageError, TrainingError
from upscale.files.system_errors import raise_system_error
from upscale.metrics import MetricError
from upscale.models import Network
from upscale_training.data.index import stem_of
from upscale_training.data.pixels import Pixels
from upscale_training.data.sources import SourceEntries, SourceEntry, list_entries
from upscale_training.degradation.resizing import resize
from upscale_training.degraded_sample import DegradationSampler, divisible
from upscale_training.key_errors import named
from upscale_training.loop.distributed import Processes
from upscale_training.loop.events import Scores
from upscale_training.loop.metrics import ready_measures
from upscale_training.loop.validation_images import Preview, centre
from upscale_training.recipe import Recipe, Source, ValidationSet


@dataclass(frozen=True, slots=True, eq=False)
class ValidationImage:
    """A held-out image.

    Attributes:
        name: Number of the image in the set, and name of its file.
        lr: Array of shape (h, w, 3), uint8, RGB.
        hr: Array of shape (h * scale, w * scale, 3), uint8, RGB.
    """

    name: str
    lr: Pixels
    hr: Pixels


@dataclass(frozen=True, slots=True, eq=False)
class ValidationResult:
    """The result of a validation.

    Attributes:
        scores: Means over the images, by set and metric.
        previews: Images of each set, as many as the recipe shows, in order.
    """

    scores: Scores
    previews: list[Preview]


class Validation:
    """The validation sets of a recipe, whose images are distributed over the processes.

    Args:
        recipe: Recipe with a validation.
        processes: Processes of the run.
        note: Function that gets the reasons, once each, why metrics and images are skipped.

    Raises:
        TrainingError: A set has no images, or the metric that decides which
            state is best cannot be loaded.
        CheckpointError: The file of a metric is not the expected one.
    """

    def __init__(self, recipe: Recipe, processes: Processes, note: Callable[[str], None]) -> None:
        assert recipe.validation is not None
        self._recipe, self._settings = recipe, recipe.validation
        self._scale, self._processes = recipe.network.scale, processes
        border = self._settings.border
        self._border = self._scale if border is None else border
        self._measures, missing = ready_measures(self._settings.metrics, str(processes.device))
        self._note, self._noted = note, set[str]()
        self._note_once(missing)
        for best in (recipe.saving_of(stage).best_metric for stage in recipe.stages):
            if recipe.saving.keep_best and best not in self._measures:
                raise TrainingError(f"best_metric: {best} cannot be loaded: {missing[0]}")
        self._sets = [
            (each, self._entries(f"validation.sets.{index}", each))
            for index, each in enumerate(self._settings.sets)
        ]

    @property
    def images(self) -> dict[str, int]:
        """Number of images by the name of the set."""
        return {one.name: len(entries) for one, entries in self._sets}

    def matches(self, scores: Scores | None) -> bool:
        """Return whether scores are for these sets and metrics."""
        known = {name: set(metrics) for name, metrics in (scores or {}).items()}
        return known == {one.name: set(self._measures) for one, _ in self._sets}

    def baseline(self) -> Scores:
        """Return the scores of bicubic interpolation as in MATLAB, which papers report."""
        result = self._evaluate(lambda lr: upscale_bicubic(lr, self._scale), lambda: False)
        assert result is not None
        return result.scores

    def validate(self, network: Network[Any], stop: Callable[[], bool]) -> ValidationResult | None:
        """Measure the results of a network for whole images, in fp32 by the tile engine.

        Args:
            network: Network in evaluation mode.
            stop: Function that is called before each image; True stops the validation.

        Returns:
            The result, or None if any process was stopped.
        """
        upscaler = Upscaler(
            Model.from_network("ema", network), device=str(self._processes.device), precision="fp32"
        )
        return self._evaluate(upscaler.upscale, stop)

    def _entries(self, key: str, one: ValidationSet) -> SourceEntries:
        with named({f"{key}.high": one.high, f"{key}.low": one.low}):
            return list_entries(Source(one.high, one.low), self._scale)

    def _evaluate(
        self, upscale: Callable[[Pixels], Pixels], stop: Callable[[], bool]
    ) -> ValidationResult | None:
        own_scores: list[tuple[str, int, dict[str, float]]] = []
        self._damaged: list[str] = []
        own_previews: list[tuple[int, Preview]] = []
        for name, number, image in self._own_images():
            if stop():
                break
            result = upscale(image.lr)
            scores = self._measure(result, image)
            own_scores.append((name, number, scores))
            if number < self._settings.images:
                own_previews.append((number, self._preview(name, image, result, scores)))
        if self._processes.any(stop()):
            return None
        self._note_once(line for part in self._processes.gather(self._damaged) for line in part)
        all_scores = [each for part in self._processes.gather(own_scores) for each in part]
        previews = [each for part in self._processes.gather(own_previews) for each in part]
        previews.sort(key=lambda each: each[0])
        return ValidationResult(self._means(all_scores), [preview for _, preview in previews])

    def _own_images(self) -> Iterator[tuple[str, int, ValidationImage]]:
        """Yield the images of this process with the name of their set and their number in it."""
        for one, entries in self._sets:
            for number in range(self._processes.rank, len(entries), self._processes.world):
                try:
                    image = self._read(one, entries[number], number)
                except ImageError as error:
                    raise_system_error(error)
                    self._damaged.append(str(error))
                else:
                    yield one.name, number, image

    def _read(self, one: ValidationSet, entry: SourceEntry, number: int) -> ValidationImage:
        name = entry.hr.key or stem_of(Path(entry.hr.path).relative_to(one.high).as_posix())
        hr, lr = entry.read_cut(self._scale)
        if lr is None:
            hr = divisible(hr, self._scale, str(entry.hr))
            lr = self._sampler(one).sample(name).make(hr)
        return ValidationImage(f"{number:03d}-{PurePosixPath(name).name}", lr, hr)

    def _sampler(self, one: ValidationSet) -> DegradationSampler:
        """Return the sampler of LR images; `upscale degrade --dataset` makes the same ones."""
        recipe = self._recipe.degradation
        chain = recipe.chain if one.chain is None else one.chain
        # HR images are not sharpened first, because they are the ground truth.
        return DegradationSampler(
            replace(recipe, chain=chain, sharpen=False), self._scale, one.seed
        )

    def _measure(self, result: Pixels, image: ValidationImage) -> dict[str, float]:
        try:
            return {
                name: measure(result, image.hr, self._border)
                for name, measure in self._measures.items()
            }
        except MetricError as error:
            self._damaged.append(f"{image.name}: {error}")
            return {}

    def _preview(
        self, set_name: str, image: ValidationImage, result: Pixels, scores: dict[str, float]
    ) -> Preview:
        scale = self._scale
        large = (upscale_bicubic(image.lr, scale), result, image.hr)
        bicubic, output, hr = (centre(each, scale, scale) for each in large)
        words = [f"{name} {value:.4g}" for name, value in scores.items()]
        lr = centre(image.lr, 1, scale)
        return Preview(set_name, image.name, lr, bicubic, output, hr, words)

    def _note_once(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line not in self._noted:
                self._note(line)
                self._noted.add(line)

    def _means(self, scores: list[tuple[str, int, dict[str, float]]]) -> Scores:
        """Return means in the order of the images, which do not depend on the processes."""
        ordered = sorted(scores, key=lambda one: one[1])
        means: dict[str, dict[str, float]] = {}
        for one, _ in self._sets:
            own = [values for name, _, values in ordered if name == one.name and values]
            if not own:
                raise TrainingError(f"{one.high}: contains no image that validation can use")
            means[one.name] = {
                metric: sum(each[metric] for each in own) / len(own) for metric in own[0]
            }
        return means


def upscale_bicubic(lr: Pixels, scale: int) -> Pixels:
    """Upscale an image (h, w, 3) by bicubic interpolation as in MATLAB."""
    height, width = lr.shape[:2]
    image = torch.from_numpy(lr.transpose(2, 0, 1).copy())[None].float()
    large = resize(image, (height * scale, width * scale), "bicubic")[0]
    levels = large.round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).numpy())
