"""Build and load the networks of a stage."""

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
from upscale_training.loop.randomness import seed_all
from upscale_training.loop.trained_network import TrainedNetwork
from upscale_training.losses import FeatureLoss
from upscale_training.recipe import PerceptualSettings, Recipe

Generator = Network[Any]
N = TypeVar("N", bound=nn.Module)

_WEIGHTS = 5
"""Stream of random numbers besides those of `upscale_training.loop.pairs`."""


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """The networks of a stage on their device.

    Attributes:
        generator: The network to train.
        average: Moving average of its weights.
        discriminator: The discriminator, or None.
        features: The perceptual and style loss, or None.
    """

    generator: TrainedNetwork
    average: MovingAverage[Generator]
    discriminator: TrainedNetwork | None
    features: FeatureLoss | None

    def scale_learning_rates(self, factor: float) -> None:
        """Set all learning rates to those of the recipe times a factor."""
        for network in self._trained():
            network.scale_learning_rate(factor)

    def is_finite(self) -> bool:
        """Return whether all weights are finite."""
        modules = [self.average.network, *(each.network for each in self._trained())]
        sums = [tensor.detach().float().sum() for one in modules for tensor in one.parameters()]
        return bool(torch.stack(sums).isfinite().all())

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on, except the average."""
        discriminator = None if self.discriminator is None else self.discriminator.state_dict()
        return {"generator": self.generator.state_dict(), "judge": discriminator}

    def load_state_dict(self, state: Mapping[str, Any], average: Mapping[str, Tensor]) -> None:
        """Restore a state that `state_dict` returned, and averaged weights."""
        self.generator.load_state_dict(state["generator"])
        if self.discriminator is not None:
            self.discriminator.load_state_dict(state["judge"])
        self.average.load_state_dict(average)

    def _trained(self) -> list[TrainedNetwork]:
        return [each for each in (self.generator, self.discriminator) if each is not None]


def make_networks(
    recipe: Recipe, stage_index: int, processes: Processes, start: str | Path | None
) -> tuple[Networks, list[str]]:
    """Build the networks of a stage.

    Args:
        recipe: Recipe of the run.
        stage_index: Index of the stage.
        processes: Processes of the run.
        start: Initial weights of the generator; None for random weights.

    Returns:
        The networks, and notes about their initial weights, one line each.

    Raises:
        TrainingError: Weights do not fit.
        UpscaleError: A file cannot be read.
    """
    stage, computing, notes = recipe.stages[stage_index], recipe.computing, list[str]()
    # The seed does not depend on the rank, so that all processes start with the same weights.
    seed_all(recipe.seed, _WEIGHTS, stage_index)
    network = fresh_generator(recipe.network.spec)
    if start is not None:
        notes.append(start_generator(network, start))
    discriminator, gan = None, stage.gan
    if gan is not None:
        bare = fresh_discriminator(gan.discriminator, recipe.data.patch)
        if gan.discriminator.start is not None:
            notes.append(start_discriminator(bare, gan.discriminator.start))
        bare = _on_device(processes.synchronised(bare), recipe, processes)
        settings = gan.optimiser or stage.optimiser
        discriminator = TrainedNetwork(
            bare, settings, processes, scaled=computing.precision == "fp16"
        )
    network = _on_device(network, recipe, processes)
    average = MovingAverage[Generator](network, stage.ema)
    if computing.checkpoint_activations:
        _checkpoint_activations(network)
    scaled = computing.precision == "fp16"
    generator = TrainedNetwork(
        network, stage.optimiser, processes, scaled=scaled, compiled=computing.compile
    )
    features = None
    if stage.perceptual is not None:
        features = _on_device(feature_loss(stage.perceptual), recipe, processes)
    return Networks(generator, average, discriminator, features), notes


def feature_loss(settings: PerceptualSettings) -> FeatureLoss:
    """Build the perceptual and style loss; errors are those of `load_backbone`."""
    return FeatureLoss(
        load_backbone(settings.backbone, settings.layers, normalise=settings.normalise),
        settings.layers,
        perceptual_weight=settings.weight,
        style_weight=settings.style,
        distance=settings.distance,
        relative=settings.relative,
    )


def layout(recipe: Recipe) -> torch.memory_format:
    """Return the memory layout of networks and images."""
    return torch.channels_last if recipe.computing.channels_last else torch.contiguous_format


def _on_device(network: N, recipe: Recipe, processes: Processes) -> N:
    return cast(Any, network).to(processes.device, memory_format=layout(recipe))


def _checkpoint_activations(network: Generator) -> None:
    """Make the body recompute its activations in the backward pass, block by block.

    The modules are not wrapped, so the weights keep their names.
    """
    body = cast(nn.Sequential, network.get_submodule("body"))
    layers = list(body)
    blocks = len(layers) if isinstance(network, RRDBNet) else isqrt(len(layers))
    run = partial(checkpoint_sequential, layers, blocks, use_reentrant=False)
    body.forward = cast(Any, run)
