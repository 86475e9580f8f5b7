"""How good the averaged weights are on images that were held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from upscale.engine.loading import Model
from upscale.engine.upscaler import Upscaler
from upscale.errors import ImageError, TrainingError
from upscale.metrics import UnfitError
from upscale.models import Network
from upscale_training.data.index import stem_of
from upscale_training.data.sources import Entry, entries
from upscale_training.degradation.resizing import resize
from upscale_training.degraded_sample import DegradationSampler, divisible
from upscale_training.loop.distributed import Processes
from upscale_training.loop.events import Figures
from upscale_training.loop.metrics import ready_measures
from upscale_training.loop.validation_images import Shown, middle
from upscale_training.recipe import Recipe, Source, ValidationSet

Pixels = NDArray[np.uint8]
"""(H, W, 3), RGB."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """An image that was held out.

    Attributes:
        name: its number in the set, and that of its file.
        low: the bad image.
        high: the good one, scale times as large.
    """

    name: str
    low: Pixels
    high: Pixels


@dataclass(frozen=True, slots=True, eq=False)
class ValidationResult:
    """What a validation found.

    Attributes:
        figures: means over the images.
        shown: of each set, as many images as the recipe shows, in order.
    """

    figures: Figures
    shown: list[Shown]


class Validation:
    """The validation sets of a recipe, whose images several processes share.

    Args:
        recipe: with a validation.
        processes: of the run.
        tell: is given, once each, why metrics and images are left out.

    Raises:
        TrainingError: a set has no images, a metric is unknown, or the one that decides what is
            best is not ready.
        CheckpointError: a metric's file is not what it should be.
    """

    def __init__(self, recipe: Recipe, processes: Processes, tell: Callable[[str], None]) -> None:
        assert recipe.validation is not None
        self._recipe, self._settings = recipe, recipe.validation
        self._scale, self._processes = recipe.network.scale, processes
        border = self._settings.border
        self._border = self._scale if border is None else border
        self._measures, missing = ready_measures(self._settings.metrics, str(processes.device))
        self._tell, self._told = tell, set[str]()
        self._explain(missing)
        best = recipe.saving.best_metric
        if recipe.saving.keep_best and best not in self._measures:
            raise TrainingError(f"saving.best_metric: {best} is not ready: {missing[0]}")
        self._entries = [
            (each, entries(Source(each.high, each.low), self._scale))
            for each in self._settings.sets
        ]

    @property
    def images(self) -> dict[str, int]:
        """How many images each set has."""
        return {place.name: len(found) for place, found in self._entries}

    def measures(self, figures: Figures | None) -> bool:
        """Whether figures are of these sets and metrics."""
        known = {place: set(found) for place, found in (figures or {}).items()}
        return known == {place.name: set(self._measures) for place, _ in self._entries}

    def baseline(self) -> Figures:
        """What bicubic interpolation gets: MATLAB's, as papers give it."""
        found = self._judge(lambda low: upscaled(low, self._scale), lambda: False)
        assert found is not None
        return found.figures

    def judge(self, network: Network[Any], stop: Callable[[], bool]) -> ValidationResult | None:
        """Measure what a network makes of whole images, through the tile engine, in fp32.

        Args:
            network: in evaluation mode.
            stop: asked after each image.

        Returns:
            None where any process was stopped.
        """
        spec = network.spec
        model = Model("ema", network, network.scale, spec.in_channels, True, spec.describe())
        upscaler = Upscaler(model, device=str(self._processes.device), precision="fp32")
        return self._judge(upscaler.upscale, stop)

    def _judge(
        self, make: Callable[[Pixels], Pixels], stop: Callable[[], bool]
    ) -> ValidationResult | None:
        figures: list[tuple[str, int, dict[str, float]]] = []
        self._damaged: list[str] = []
        shown: list[tuple[int, Shown]] = []
        for place, number, held in self._held():
            if stop():
                break
            result = make(held.low)
            measured = self._measured(result, held)
            figures.append((place.name, number, measured))
            if number < self._settings.images:
                shown.append((number, self._shown(place.name, held, result, measured)))
        if self._processes.any(stop()):
            return None
        self._explain(line for share in self._processes.gather(self._damaged) for line in share)
        together = [found for share in self._processes.gather(figures) for found in share]
        images = [found for share in self._processes.gather(shown) for found in share]
        images.sort(key=lambda found: found[0])
        return ValidationResult(self._means(together), [image for _, image in images])

    def _held(self) -> Iterator[tuple[ValidationSet, int, Held]]:
        """This process's images, with their sets and their numbers there."""
        for place, found in self._entries:
            for number in range(self._processes.rank, len(found), self._processes.world):
                try:
                    held = self._read(place, found[number], number)
                except ImageError as error:
                    self._damaged.append(str(error))
                else:
                    yield place, number, held

    def _read(self, place: ValidationSet, entry: Entry, number: int) -> Held:
        name = entry.high.key or stem_of(Path(entry.high.path).relative_to(place.high).as_posix())
        high, low = entry.read(self._scale)
        if low is None:
            high = divisible(high, self._scale, str(entry.high))
            low = self._draws(place).treatment(name).make(high)
        return Held(f"{number:03d}-{PurePosixPath(name).name}", low, high)

    def _draws(self, place: ValidationSet) -> DegradationSampler:
        """What bad images come from: the same as `upscale degrade --dataset` makes."""
        recipe = self._recipe.degradation
        chain = recipe.chain if place.chain is None else place.chain
        # Not sharpened first, for the good images are the truth.
        return DegradationSampler(
            replace(recipe, chain=chain, sharpen=False), self._scale, place.seed
        )

    def _measured(self, result: Pixels, held: Held) -> dict[str, float]:
        try:
            return {
                name: measure(result, held.high, self._border)
                for name, measure in self._measures.items()
            }
        except UnfitError as error:
            self._damaged.append(f"{held.name}: {error}")
            return {}

    def _shown(self, place: str, held: Held, result: Pixels, measured: dict[str, float]) -> Shown:
        scale = self._scale
        large = (upscaled(held.low, scale), result, held.high)
        bicubic, ours, truth = (middle(each, scale, scale) for each in large)
        words = [f"{name} {value:.4g}" for name, value in measured.items()]
        return Shown(place, held.name, middle(held.low, 1, scale), bicubic, ours, truth, words)

    def _explain(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line not in self._told:
                self._tell(line)
                self._told.add(line)

    def _means(self, found: list[tuple[str, int, dict[str, float]]]) -> Figures:
        """Means in the order of the images, so that processes make no difference."""
        ordered = sorted(found, key=lambda one: one[1])
        means: dict[str, dict[str, float]] = {}
        for place, _ in self._entries:
            own = [measured for name, _, measured in ordered if name == place.name and measured]
            if not own:
                raise TrainingError(f"{place.high}: no image of it can be used in validation")
            means[place.name] = {
                metric: sum(each[metric] for each in own) / len(own) for metric in own[0]
            }
        return means


def upscaled(low: Pixels, scale: int) -> Pixels:
    """Bicubic interpolation, MATLAB's."""
    height, width = low.shape[:2]
    image = torch.from_numpy(low.transpose(2, 0, 1).copy())[None].float()
    large = resize(image, (height * scale, width * scale), "bicubic")[0]
    levels = large.round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).numpy())
