"""The networks of a stage, made and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential

from upscale.models import Network, RRDBNet
from upscale_training.backbone_files import load_backbone
from upscale_training.loop.distributed import Processes
from upscale_training.loop.ema import MovingAverage
from upscale_training.loop.initialisation import (
    fresh_discriminator,
    fresh_generator,
    start_discriminator,
    start_generator,
)
from upscale_training.loop.learner import Learner
from upscale_training.loop.randomness import seed_all
from upscale_training.losses import FeatureLoss
from upscale_training.recipe import OptimiserSettings, PerceptualSettings, Recipe

Generator = Network[Any]
N = TypeVar("N", bound=nn.Module)

_WEIGHTS = 5
"""Stream of random numbers beside those of `upscale_training.loop.pairs`."""


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """The networks of a stage, on their device.

    Attributes:
        generator: what is trained.
        average: of its weights.
        judge: the discriminator, where there is one.
        features: the perceptual and style loss, where there is one.
    """

    generator: Learner
    average: MovingAverage[Generator]
    judge: Learner | None
    features: FeatureLoss | None

    def set_rate(self, factor: float) -> None:
        """Set all learning rates to a part of the recipe's."""
        for learner in self._learners():
            learner.set_rate(factor)

    def sound(self) -> bool:
        """Whether all weights are finite."""
        modules = [self.average.network, *(learner.network for learner in self._learners())]
        sums = [tensor.detach().float().sum() for one in modules for tensor in one.parameters()]
        return bool(torch.stack(sums).isfinite().all())

    def state_dict(self) -> dict[str, Any]:
        """Everything of them that the next step depends on, but for the average."""
        judge = None if self.judge is None else self.judge.state_dict()
        return {"generator": self.generator.state_dict(), "judge": judge}

    def load_state_dict(self, state: Mapping[str, Any], average: Mapping[str, Tensor]) -> None:
        """Continue where `state_dict` was taken."""
        self.generator.load_state_dict(state["generator"])
        if self.judge is not None:
            self.judge.load_state_dict(state["judge"])
        self.average.load_state_dict(average)

    def _learners(self) -> list[Learner]:
        return [self.generator] if self.judge is None else [self.generator, self.judge]


def make_networks(
    recipe: Recipe, place: int, processes: Processes, start: str | Path | None
) -> tuple[Networks, list[str]]:
    """Make the networks of a stage.

    Args:
        recipe: of the run.
        place: of the stage.
        processes: of the run.
        start: weights that the generator begins with.

    Returns:
        The networks, and what they begin with, a line each.

    Raises:
        TrainingError: weights do not fit.
        UpscaleError: a file cannot be read.
    """
    stage, computing, notes = recipe.stages[place], recipe.computing, list[str]()
    # Of the seed alone, so that all processes begin alike.
    seed_all(recipe.seed, _WEIGHTS, place)
    network = fresh_generator(recipe.network.spec)
    if start is not None:
        notes.append(start_generator(network, start))
    judge, gan = None, stage.gan
    if gan is not None:
        plain = fresh_discriminator(gan.discriminator, recipe.data.patch)
        if gan.discriminator.start is not None:
            notes.append(start_discriminator(plain, gan.discriminator.start))
        judge = _judge(plain, gan.optimiser or stage.optimiser, recipe, processes)
    network = _placed(network, recipe, processes)
    average = MovingAverage[Generator](network, stage.ema)
    if computing.checkpoint_activations:
        _forget_activations(network)
    scaled = computing.precision == "fp16"
    generator = Learner(
        network, stage.optimiser, processes, scaled=scaled, compiled=computing.compile
    )
    features = None
    if stage.perceptual is not None:
        features = _placed(feature_loss(stage.perceptual), recipe, processes)
    return Networks(generator, average, judge, features), notes


def feature_loss(settings: PerceptualSettings) -> FeatureLoss:
    """Make the perceptual and style loss.

    Raises:
        CheckpointError, DependencyError, UsageError: see `load_backbone`.
    """
    return FeatureLoss(
        load_backbone(settings.backbone, settings.layers, normalise=settings.normalise),
        settings.layers,
        perceptual_weight=settings.weight,
        style_weight=settings.style,
        distance=settings.distance,
        relative=settings.relative,
    )


def layout(recipe: Recipe) -> torch.memory_format:
    """The memory layout of networks and images."""
    return torch.channels_last if recipe.computing.channels_last else torch.contiguous_format


def _judge(
    judge: nn.Module, settings: OptimiserSettings, recipe: Recipe, processes: Processes
) -> Learner:
    judge = _placed(processes.synchronised(judge), recipe, processes)
    return Learner(judge, settings, processes, scaled=recipe.computing.precision == "fp16")


def _placed(network: N, recipe: Recipe, processes: Processes) -> N:
    return cast(Any, network).to(processes.device, memory_format=layout(recipe))


def _forget_activations(network: Generator) -> None:
    """Have the body's activations computed again in the backward pass, block by block.

    Its layers stay where they are, so that the weights keep their names.
    """
    body = cast(nn.Sequential, network.get_submodule("body"))
    layers = list(body)
    blocks = len(layers) if isinstance(network, RRDBNet) else isqrt(len(layers))
    run = partial(checkpoint_sequential, layers, blocks, use_reentrant=False)
    body.forward = cast(Any, run)
