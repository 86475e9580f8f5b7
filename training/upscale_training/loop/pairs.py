"""From batches of good patches to pairs that a step learns from: degraded, pooled, sharpened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from upscale.errors import TrainingError
from upscale.files.error_mapping import one_line
from upscale_training.data.patches import Batch, PatchDataset, batches
from upscale_training.degradation import (
    Degradation,
    DegradationSettings,
    PairPool,
    apply,
    draw,
    sharpen,
)
from upscale_training.loop.distributed import Processes
from upscale_training.loop.interrupts import leave_readers_to_their_queue
from upscale_training.loop.networks import layout
from upscale_training.loop.timing import Stopwatch
from upscale_training.recipe import Recipe, Stage

_DEGRADATIONS, _POOL, _PARTS = 1, 4, 6
"""Streams of random numbers beside those of `upscale_training.data.sampler`."""

_LOST = (RuntimeError, OSError, EOFError)
"""What is met where processes that read have ended, as by a signal that was meant for this one."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A batch of pairs on the device, float32 in [0, 1], RGB.

    Attributes:
        low: (N, 3, P / scale, P / scale).
        high: (N, 3, P, P), the truth as it is.
        sharp: the truth sharpened, or None where no loss looks at it.
    """

    low: Tensor
    high: Tensor
    sharp: Tensor | None

    def truth(self, sharpened: bool) -> Tensor:
        """What a loss compares with."""
        return self.sharp if sharpened and self.sharp is not None else self.high


class Pairs:
    """The pairs of one stage, for one process, without an end.

    What a pair is depends on the seed and on how many batches came before, with a pool also on
    which process takes it.

    Args:
        recipe: of the run.
        stage: of the recipe.
        dataset: what patches come from.
        processes: that share it.
        watch: measures phases `data` and `degradation`.
    """

    def __init__(
        self,
        recipe: Recipe,
        stage: Stage,
        dataset: PatchDataset,
        processes: Processes,
        watch: Stopwatch,
    ) -> None:
        self._dataset, self._processes, self._watch = dataset, processes, watch
        self._batch, self._workers, self._seed = stage.batch, recipe.data.workers, recipe.seed
        self._settings = recipe.degradation.settings(recipe.network.scale)
        self._scale, self._patch = recipe.network.scale, recipe.data.patch
        self._sharpen_first = recipe.degradation.sharpen
        self._sharpen = any(
            loss is not None and loss.sharpen for loss in (stage.pixel, stage.perceptual, stage.gan)
        )
        self._layout = layout(recipe)
        size = 0 if recipe.data.paired else recipe.degradation.pool
        seed = np.random.default_rng((recipe.seed, _POOL, processes.rank)).integers(1 << 62)
        self._pool = PairPool(size, int(seed), recipe.degradation.mode)
        self._source: Iterator[Batch] | None = None
        self._taken = 0
        self.damaged: list[str] = []

    def take(self) -> Pair:
        """The next pairs.

        Raises:
            TrainingError: no image can be read, or the processes that read them end.
        """
        while True:
            with self._watch.phase("data", waiting=True):
                batch = self._next()
            with self._watch.phase("degradation"):
                pair = self._exchanged(batch)
            if pair is not None:
                return pair

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next pairs depend on."""
        return {"taken": self._taken, "pool": self._pool.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._taken, self._source = state["taken"], None
        pool = dict(state["pool"])
        for key in ("low", "high"):
            pool[key] = None if pool[key] is None else pool[key].to(self._processes.device)
        self._pool.load_state_dict(pool)

    def _next(self) -> Batch:
        try:
            batch = next(self._batches())
        except _LOST:
            if not self._workers:
                raise
            self._source = None
            batch = self._next_after_loss()
        if self._workers:
            leave_readers_to_their_queue()
        self._taken += 1
        self.damaged += batch.damaged
        return batch

    def _next_after_loss(self) -> Batch:
        try:
            return next(self._batches())
        except _LOST as error:
            raise TrainingError(
                f"processes that read images ended twice ({one_line(error)}); lower "
                "data.workers, or free memory"
            ) from error

    def _batches(self) -> Iterator[Batch]:
        """Those from the present place on."""
        if self._source is None:
            self._source = batches(
                self._dataset,
                batch=self._batch,
                first=self._taken,
                rank=self._processes.rank,
                world=self._processes.world,
                workers=self._workers,
            )
        return self._source

    @torch.no_grad()
    def _exchanged(self, batch: Batch) -> Pair | None:
        """Pairs from the pool for a batch; None while it fills."""
        device = self._processes.device
        high = batch.high.to(device, non_blocking=True)
        if batch.low is not None:
            return self._pair(batch.low.to(device, non_blocking=True), high)
        assert self._settings is not None, "a recipe without pairs has degradations"
        images = high.float() / 255
        if self._sharpen_first:
            images = sharpen(images)
        low = apply(images, drawn(self._settings, self._seed, batch.numbers))
        low, high = self._parts((low * 255).round().to(torch.uint8), high, batch.numbers)
        exchanged = self._pool.exchange(low, high)
        return None if exchanged is None else self._pair(*exchanged)

    def _parts(self, low: Tensor, high: Tensor, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Patches without their margins, each from a place that its number tells."""
        side, scale = self._patch // self._scale, self._scale
        room = low.shape[-1] - side + 1
        lows: list[Tensor] = []
        highs: list[Tensor] = []
        for place, number in enumerate(numbers):
            generator = np.random.default_rng((self._seed, _PARTS, number))
            top, left = (int(start) for start in generator.integers(room, size=2))
            lows.append(low[place, :, top : top + side, left : left + side])
            top, left = top * scale, left * scale
            highs.append(high[place, :, top : top + self._patch, left : left + self._patch])
        return torch.stack(lows), torch.stack(highs)

    def _pair(self, low: Tensor, high: Tensor) -> Pair:
        low, high = (
            levels.float().div_(255).contiguous(memory_format=self._layout)
            for levels in (low, high)
        )
        return Pair(low, high, sharpen(high) if self._sharpen else None)


def drawn(
    settings: DegradationSettings, seed: int, numbers: Sequence[int]
) -> tuple[Degradation, ...]:
    """Draw the degradations of samples: each from its own number, officially from the first's."""
    if settings.mode == "official":
        generator = np.random.default_rng((seed, _DEGRADATIONS, numbers[0]))
        return draw(settings, len(numbers), generator)
    generators = (np.random.default_rng((seed, _DEGRADATIONS, number)) for number in numbers)
    return tuple(draw(settings, 1, generator)[0] for generator in generators)
