"""One iteration, in the official order: the generator, the discriminator, the average."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from upscale_training.loop.distributed import Processes
from upscale_training.loop.meter import LossMeter
from upscale_training.loop.networks import Networks
from upscale_training.loop.pairs import PairBatch
from upscale_training.loop.timing import Stopwatch
from upscale_training.loop.trained_network import TrainedNetwork
from upscale_training.loop.watch import colour_statistics
from upscale_training.losses import AdversarialLoss, DistsLoss, FeatureLoss, PixelLoss
from upscale_training.recipe import (
    DistsSettings,
    GanSettings,
    PerceptualSettings,
    PixelSettings,
    Stage,
)

Losses = dict[str, Tensor]
Terms = Callable[[Tensor, PairBatch], Losses]
"""Returns weighted losses by name for the output of the generator and its pairs."""

Autocast = Callable[[], AbstractContextManager[Any]]


class TrainingStep:
    """One iteration of a stage.

    Args:
        stage: Stage with the losses.
        networks: Networks of the stage.
        processes: Processes of the run.
        meter: Meter that collects the losses.
        watch: Stopwatch for the phases `generator` and `discriminator`.
    """

    def __init__(
        self,
        stage: Stage,
        networks: Networks,
        processes: Processes,
        meter: LossMeter,
        watch: Stopwatch,
    ) -> None:
        self._generator, self._average = networks.generator, networks.average
        self._meter, self._watch = meter, watch
        autocast: Autocast = processes.fabric.autocast
        self._terms: list[Terms] = []
        average = networks.average.network
        if stage.pixel is not None:
            self._terms.append(_pixel_terms(stage.pixel, "pixel", average, autocast))
        self._terms += [
            _pixel_terms(settings, settings.kind, average, autocast) for settings in stage.more
        ]
        if stage.perceptual is not None and networks.features is not None:
            self._terms.append(_feature_terms(stage.perceptual, networks.features, autocast))
        if stage.dists is not None and networks.dists is not None:
            self._terms.append(_dists_terms(stage.dists, networks.dists))
        # Features of images that are cut at random have another shape each time.
        self._shapes_are_fixed = stage.perceptual is None or stage.perceptual.shift == 0
        self._gan: _GanStep | None = None
        if stage.gan is not None and networks.discriminator is not None:
            gan = stage.gan
            loss = AdversarialLoss(
                gan.kind, gan.relativistic, gan.weight, processes.mean, gan.penalty
            )
            self._gan = _GanStep(gan, loss, networks.discriminator, autocast)

    def __call__(self, batches: Sequence[PairBatch]) -> None:
        """Train on the batches of one iteration."""
        with measured_convolutions(self._shapes_are_fixed):
            with self._watch.phase("generator"):
                outputs = self._step_generator(batches)
            if self._gan is not None:
                with self._watch.phase("discriminator"):
                    self._gan.step_discriminator(batches, outputs, self._meter)
        with self._generator.evaluated():
            self._average.update(self._generator.network)

    def _step_generator(self, batches: Sequence[PairBatch]) -> list[Tensor]:
        """Take a step of the generator and return its outputs before the step."""
        if self._gan is None:
            return self._step_on(batches, self._terms)
        with self._gan.generator_terms() as terms:
            return self._step_on(batches, [*self._terms, terms])

    def _step_on(self, batches: Sequence[PairBatch], terms: Sequence[Terms]) -> list[Tensor]:
        outputs: list[Tensor] = []

        def loss(batch: PairBatch) -> Tensor:
            output = self._generator.run(batch.lr)
            outputs.append(output.detach())
            losses: Losses = {}
            for each in terms:
                losses |= each(output, batch)
            self._meter.add(losses | colour_statistics(output.detach(), batch.hr))
            return torch.stack(list(losses.values())).sum()

        self._generator.step(batches, loss)
        return outputs


@contextmanager
def measured_convolutions(enabled: bool) -> Generator[None]:
    """Let cuDNN measure which of its algorithms is fastest, once for each shape.

    This is worth it for the patches of training, whose shapes are fixed, and not for the images of
    validation or for degradations.

    Args:
        enabled: Whether to do so; otherwise the setting stays as it is.

    Example:
        >>> with measured_convolutions(True):
        ...     torch.backends.cudnn.benchmark
        True
        >>> torch.backends.cudnn.benchmark
        False
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or enabled
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@dataclass(frozen=True, slots=True, eq=False)
class _GanStep:
    """The adversarial part of an iteration."""

    settings: GanSettings
    loss: AdversarialLoss
    discriminator: TrainedNetwork
    autocast: Autocast

    @contextmanager
    def generator_terms(self) -> Generator[Terms]:
        """Provide the generator's term, while the discriminator collects no gradients.

        `no_grad` would not work: the gradient passes through the discriminator. Spectral norms take
        the same step for every batch of the iteration, as for one large batch.
        """
        vectors = self.discriminator.vectors()

        def terms(output: Tensor, batch: PairBatch) -> Losses:
            self.discriminator.set_vectors(vectors)
            target = batch.target(self.settings.sharpen)
            with self.autocast():
                return {"gan": self.loss.generator(self.discriminator.network, output, target)}

        self.discriminator.network.requires_grad_(False)
        yield terms
        self.discriminator.network.requires_grad_(True)

    def step_discriminator(
        self, batches: Sequence[PairBatch], outputs: Sequence[Tensor], meter: LossMeter
    ) -> None:
        """Take a step of the discriminator on the outputs of the generator."""
        vectors = self.discriminator.vectors()

        def loss(pair: tuple[PairBatch, Tensor]) -> Tensor:
            batch, output = pair
            self.discriminator.set_vectors(vectors)
            target = batch.target(self.settings.sharpen)
            terms = self.loss.discriminator(self.discriminator.run, target, output)
            meter.add({"real": terms.real, "fake": terms.fake})
            if terms.penalty is not None:
                meter.add({"penalty": terms.penalty})
            if terms.means is not None:
                meter.add({"mean_real": terms.means[0], "mean_fake": terms.means[1]})
            return terms.total

        self.discriminator.step(list(zip(batches, outputs, strict=True)), loss)


def _pixel_terms(
    settings: PixelSettings, name: str, average: nn.Module, autocast: Autocast
) -> Terms:
    loss = PixelLoss(settings.kind, settings.weight, settings.epsilon)

    def averaged(batch: PairBatch) -> Tensor | None:
        if not loss.needs_average:
            return None
        with torch.no_grad(), autocast():
            return average(batch.lr)

    return lambda output, batch: {
        name: loss(output, batch.target(settings.sharpen), averaged(batch))
    }


def _dists_terms(settings: DistsSettings, dists: DistsLoss) -> Terms:
    return lambda output, batch: {"dists": dists(output, batch.target(settings.sharpen))}


def _feature_terms(
    settings: PerceptualSettings, features: FeatureLoss, autocast: Autocast
) -> Terms:
    def terms(output: Tensor, batch: PairBatch) -> Losses:
        with autocast():
            losses = features(output, batch.target(settings.sharpen))
        named = {"perceptual": losses.perceptual, "style": losses.style}
        return {name: term for name, term in named.items() if term is not None}

    return terms
