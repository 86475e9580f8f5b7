"""One iteration, in the official order: the generator, the discriminator, the average."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from training.loop.learner import Learner
from training.loop.meter import Meter
from training.loop.networks import Networks
from training.loop.pairs import Pair
from training.loop.processes import Processes
from training.loop.timing import Stopwatch
from training.losses import AdversarialLoss, PixelLoss
from training.recipe import Stage


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
        self._stage, self._meter, self._watch = stage, meter, watch
        self._generator, self._judge = networks.generator, networks.judge
        self._features, self._average = networks.features, networks.average
        self._fabric = processes.fabric
        pixel, gan = stage.pixel, stage.gan
        self._pixel = PixelLoss(pixel.kind, pixel.weight, pixel.epsilon) if pixel else None
        self._gan = (
            AdversarialLoss(gan.kind, gan.relativistic, gan.weight, processes.mean) if gan else None
        )

    def __call__(self, pairs: Sequence[Pair]) -> None:
        """Learn from the batches of one iteration."""
        results: list[Tensor] = []
        with self._watch.phase("generator"):
            self._improve_generator(pairs, results)
        if self._judge is not None:
            with self._watch.phase("discriminator"):
                self._improve_judge(self._judge, pairs, results)
        self._average.update(self._generator.network)

    def _improve_generator(self, pairs: Sequence[Pair], results: list[Tensor]) -> None:
        if self._judge is None:
            self._generator.improve(pairs, partial(self._generator_loss, results=results))
            return
        vectors = self._judge.vectors()
        # Not `no_grad`: the gradient goes through the discriminator, but not to it.
        self._judge.network.requires_grad_(False)
        loss = partial(self._generator_loss, results=results, vectors=vectors)
        self._generator.improve(pairs, loss)
        self._judge.network.requires_grad_(True)

    def _generator_loss(
        self, pair: Pair, results: list[Tensor], vectors: Sequence[Tensor] = ()
    ) -> Tensor:
        """The generator's losses for one batch; its result goes to `results`."""
        result = self._generator.run(pair.low)
        results.append(result.detach())
        losses: dict[str, Tensor] = {}
        if self._stage.pixel is not None and self._pixel is not None:
            losses["pixel"] = self._pixel(result, pair.truth(self._stage.pixel.sharpen))
        if self._stage.perceptual is not None and self._features is not None:
            with self._fabric.autocast():
                terms = self._features(result, pair.truth(self._stage.perceptual.sharpen))
            if terms.perceptual is not None:
                losses["perceptual"] = terms.perceptual
            if terms.style is not None:
                losses["style"] = terms.style
        if self._stage.gan is not None and self._gan is not None and self._judge is not None:
            self._judge.set_vectors(vectors)  # alike for all batches of the iteration
            truth = pair.truth(self._stage.gan.sharpen)
            with self._fabric.autocast():
                losses["gan"] = self._gan.generator(self._judge.network, result, truth)
        self._meter.add(losses)
        return torch.stack(list(losses.values())).sum()

    def _improve_judge(self, judge: Learner, pairs: Sequence[Pair], results: list[Tensor]) -> None:
        vectors = judge.vectors()

        def loss(batch: tuple[Pair, Tensor]) -> Tensor:
            pair, result = batch
            judge.set_vectors(vectors)
            assert self._gan is not None and self._stage.gan is not None
            truth = pair.truth(self._stage.gan.sharpen)
            terms = self._gan.discriminator(judge.run, truth, result)
            self._meter.add({"real": terms.real, "fake": terms.fake})
            return terms.total

        judge.improve(list(zip(pairs, results, strict=True)), loss)
