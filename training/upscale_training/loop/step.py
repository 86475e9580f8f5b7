"""One iteration, in the official order: the generator, the discriminator, the average."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from upscale_training.loop.distributed import Processes
from upscale_training.loop.learner import Learner
from upscale_training.loop.meter import Meter
from upscale_training.loop.networks import Networks
from upscale_training.loop.pairs import Pair
from upscale_training.loop.timing import Stopwatch
from upscale_training.losses import AdversarialLoss, FeatureLoss, PixelLoss
from upscale_training.recipe import GanSettings, PerceptualSettings, PixelSettings, Stage

Losses = dict[str, Tensor]
Terms = Callable[[Tensor, Pair], Losses]
"""Weighted losses, by name, of what the generator made of a pair."""

Autocast = Callable[[], AbstractContextManager[Any]]


class Step:
    """What one iteration of a stage does.

    Args:
        stage: whose losses are taken.
        networks: of the stage.
        processes: of the run.
        meter: takes in the losses.
        watch: measures phases `generator` and `discriminator`.
    """

    def __init__(
        self,
        stage: Stage,
        networks: Networks,
        processes: Processes,
        meter: Meter,
        watch: Stopwatch,
    ) -> None:
        self._generator, self._average = networks.generator, networks.average
        self._meter, self._watch = meter, watch
        autocast: Autocast = processes.fabric.autocast
        self._terms: list[Terms] = []
        if stage.pixel is not None:
            self._terms.append(_pixel_terms(stage.pixel))
        if stage.perceptual is not None and networks.features is not None:
            self._terms.append(_feature_terms(stage.perceptual, networks.features, autocast))
        self._contest: _Contest | None = None
        if stage.gan is not None and networks.judge is not None:
            gan = stage.gan
            loss = AdversarialLoss(gan.kind, gan.relativistic, gan.weight, processes.mean)
            self._contest = _Contest(gan, loss, networks.judge, autocast)

    def __call__(self, pairs: Sequence[Pair]) -> None:
        """Learn from the batches of one iteration."""
        with self._watch.phase("generator"):
            results = self._improve_generator(pairs)
        if self._contest is not None:
            with self._watch.phase("discriminator"):
                self._contest.improve_judge(pairs, results, self._meter)
        self._average.update(self._generator.network)

    def _improve_generator(self, pairs: Sequence[Pair]) -> list[Tensor]:
        """Take a step; what the generator made before it."""
        if self._contest is None:
            return self._descend(pairs, self._terms)
        with self._contest.judging() as terms:
            return self._descend(pairs, [*self._terms, terms])

    def _descend(self, pairs: Sequence[Pair], terms: Sequence[Terms]) -> list[Tensor]:
        results: list[Tensor] = []

        def loss(pair: Pair) -> Tensor:
            result = self._generator.run(pair.low)
            results.append(result.detach())
            losses: Losses = {}
            for each in terms:
                losses |= each(result, pair)
            self._meter.add(losses)
            return torch.stack(list(losses.values())).sum()

        self._generator.improve(pairs, loss)
        return results


@dataclass(frozen=True, slots=True, eq=False)
class _Contest:
    """The generator and the discriminator against each other."""

    settings: GanSettings
    loss: AdversarialLoss
    judge: Learner
    autocast: Autocast

    @contextmanager
    def judging(self) -> Generator[Terms]:
        """Give the generator's term, while the discriminator takes no gradients.

        Not by `no_grad`: the gradient goes through the discriminator. Spectral norms take the same
        step for every batch of the iteration, as for one large batch.
        """
        vectors = self.judge.vectors()

        def terms(result: Tensor, pair: Pair) -> Losses:
            self.judge.set_vectors(vectors)
            truth = pair.truth(self.settings.sharpen)
            with self.autocast():
                return {"gan": self.loss.generator(self.judge.network, result, truth)}

        self.judge.network.requires_grad_(False)
        yield terms
        self.judge.network.requires_grad_(True)

    def improve_judge(self, pairs: Sequence[Pair], results: Sequence[Tensor], meter: Meter) -> None:
        """Take a step of the discriminator against what the generator made."""
        vectors = self.judge.vectors()

        def loss(batch: tuple[Pair, Tensor]) -> Tensor:
            pair, result = batch
            self.judge.set_vectors(vectors)
            truth = pair.truth(self.settings.sharpen)
            terms = self.loss.discriminator(self.judge.run, truth, result)
            meter.add({"real": terms.real, "fake": terms.fake})
            return terms.total

        self.judge.improve(list(zip(pairs, results, strict=True)), loss)


def _pixel_terms(settings: PixelSettings) -> Terms:
    loss = PixelLoss(settings.kind, settings.weight, settings.epsilon)
    return lambda result, pair: {"pixel": loss(result, pair.truth(settings.sharpen))}


def _feature_terms(
    settings: PerceptualSettings, features: FeatureLoss, autocast: Autocast
) -> Terms:
    def terms(result: Tensor, pair: Pair) -> Losses:
        with autocast():
            found = features(result, pair.truth(settings.sharpen))
        named = {"perceptual": found.perceptual, "style": found.style}
        return {name: term for name, term in named.items() if term is not None}

    return terms
