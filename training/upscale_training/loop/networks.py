"""Build and load the networks of a stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from upscale.metrics.perceptual import load_dists
from upscale.models import RCAN, SPAN, Network, RealCUGAN, RealPLKSR, RRDBNet
from upscale.tiling.group import LayerGroup
from upscale_training.backbone_files import load_backbone
from upscale_training.key_errors import named
from upscale_training.loop.distributed import Processes
from upscale_training.loop.ema import MovingAverage
from upscale_training.loop.initialisation import (
    fresh_discriminator,
    fresh_generator,
    start_discriminator,
    start_generator,
)
from upscale_training.loop.optimisers import check_optimiser
from upscale_training.loop.randomness import seed_all
from upscale_training.loop.trained_network import TrainedNetwork
from upscale_training.losses import DistsLoss, FeatureLoss
from upscale_training.networks.spandrel_network import SpandrelNetwork
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
        dists: DISTS as a loss, or None.
    """

    generator: TrainedNetwork
    average: MovingAverage[Generator]
    discriminator: TrainedNetwork | None
    features: FeatureLoss | None
    dists: DistsLoss | None = None

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
        if self.discriminator is not None and state["judge"] is not None:
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
    network = _generator(recipe, start, notes)
    discriminator, gan = None, stage.gan
    if gan is not None:
        bare, optimiser = _discriminator(recipe, stage_index, notes)
        bare = _on_device(processes.synchronised(bare), recipe, processes)
        settings = gan.optimiser or stage.optimiser
        discriminator = TrainedNetwork(
            bare, settings, processes, scaled=computing.precision == "fp16"
        )
        if optimiser is not None:
            discriminator.load_optimiser(optimiser)
    network = _on_device(network, recipe, processes)
    average = MovingAverage[Generator](network, stage.ema)
    if computing.checkpoint_activations:
        _checkpoint_activations(network)
    scaled = computing.precision == "fp16"
    generator = TrainedNetwork(
        network, stage.optimiser, processes, scaled=scaled, compiled=computing.compile
    )
    features = _features(recipe, stage_index)
    if features is not None:
        features = _on_device(features, recipe, processes)
    dists = _dists(recipe, stage_index)
    if dists is not None:
        dists = _on_device(dists, recipe, processes)
    return Networks(generator, average, discriminator, features, dists), notes


def check_stage(recipe: Recipe, stage_index: int, *, fresh: bool) -> None:
    """Read the files that a stage needs, before a run that reaches it much later.

    Args:
        recipe: Recipe of the run.
        stage_index: Index of the stage.
        fresh: Whether the stage will start, so that it needs the files of initial weights, too.

    Raises:
        UpscaleError: A file cannot be used; the message names the key.
    """
    stage = recipe.stages[stage_index]
    with named({f"stages.{stage_index}.optimiser.kind": stage.optimiser.kind}):
        check_optimiser(stage.optimiser)
    if stage.gan is not None and stage.gan.optimiser is not None:
        with named({f"stages.{stage_index}.gan.optimiser.kind": stage.gan.optimiser.kind}):
            check_optimiser(stage.gan.optimiser)
    _features(recipe, stage_index)
    _dists(recipe, stage_index)
    if fresh and stage_index == 0:
        _generator(recipe, recipe.start, [])
    if fresh and recipe.stages[stage_index].gan is not None:
        _discriminator(recipe, stage_index, [])


def _generator(recipe: Recipe, start: str | Path | None, notes: list[str]) -> Generator:
    network = fresh_generator(recipe.network.spec)
    if start is not None:
        with named({"start": start}):
            notes.append(start_generator(network, start))
    return network


def _discriminator(
    recipe: Recipe, stage_index: int, notes: list[str]
) -> tuple[nn.Module, Mapping[str, Any] | None]:
    """Return the discriminator, and the state of its optimiser if that is known, too."""
    gan = recipe.stages[stage_index].gan
    assert gan is not None, "only stages with a discriminator ask for it"
    network = fresh_discriminator(gan.discriminator, recipe.data.patch)
    start = gan.discriminator.start
    if start is None:
        return network, None
    with named({f"stages.{stage_index}.gan.discriminator.start": start}):
        note, optimiser = start_discriminator(network, start)
    notes.append(note)
    return network, optimiser


def _features(recipe: Recipe, stage_index: int) -> FeatureLoss | None:
    settings = recipe.stages[stage_index].perceptual
    if settings is None:
        return None
    with named({f"stages.{stage_index}.perceptual.backbone": settings.backbone}):
        return feature_loss(settings)


def _dists(recipe: Recipe, stage_index: int) -> DistsLoss | None:
    settings = recipe.stages[stage_index].dists
    if settings is None:
        return None
    keys = {
        f"stages.{stage_index}.dists.{key}": getattr(settings, key)
        for key in ("backbone", "weights")
    }
    with named(keys):
        metric = load_dists(settings.backbone, settings.weights, "cpu")
    return DistsLoss(metric.network, settings.weight)


def feature_loss(settings: PerceptualSettings) -> FeatureLoss:
    """Build the perceptual and style loss; errors are those of `load_backbone`."""
    return FeatureLoss(
        load_backbone(settings.backbone, settings.layers, normalise=settings.normalise),
        settings.layers,
        perceptual_weight=settings.weight,
        style_weight=settings.style,
        distance=settings.distance,
        relative=settings.relative,
        shift=settings.shift,
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
    if isinstance(network, SPAN | RealPLKSR | SpandrelNetwork):
        for block in network.blocks:
            block.forward = cast(Any, partial(checkpoint, block.forward, use_reentrant=False))
        return
    if isinstance(network, RealCUGAN):
        # A partial follows the copy of the network whose weights are averaged; a closure would not.
        network.layer_groups = cast(Any, partial(_checkpointed, network.layer_groups))
        return
    body = cast(nn.Sequential, network.get_submodule("body"))
    layers = list(body)
    blocks = len(layers) if isinstance(network, RCAN | RRDBNet) else isqrt(len(layers))
    run = partial(checkpoint_sequential, layers, blocks, use_reentrant=False)
    body.forward = cast(Any, run)


def _checkpointed(layer_groups: Callable[[], tuple[LayerGroup, ...]]) -> tuple[LayerGroup, ...]:
    """Return layer groups that recompute their activations in the backward pass."""
    return tuple(
        replace(group, run=partial(checkpoint, group.run, use_reentrant=False))
        for group in layer_groups()
    )
