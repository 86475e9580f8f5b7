"""Turn batches of HR patches into pairs to train on: degraded, pooled, sharpened."""

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
    sample,
    sharpen,
)
from upscale_training.loop.distributed import Processes
from upscale_training.loop.interrupts import ignore_worker_exits
from upscale_training.loop.mixes import mixed
from upscale_training.loop.networks import layout
from upscale_training.loop.side_stream import SideStream
from upscale_training.loop.timing import Stopwatch
from upscale_training.recipe import MixSettings, Recipe, Stage

_DEGRADATIONS, _POOL, _CROPS, _MIXES = 1, 4, 6, 8
"""Streams of random numbers besides those of `upscale_training.data.sampler`."""

_WORKER_ERRORS = (RuntimeError, OSError, EOFError)
"""Errors when worker processes have exited, for example by a signal meant for this process."""


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """A batch of pairs on the device, float32 in [0, 1], RGB.

    Attributes:
        lr: Tensor of shape (N, 3, P / scale, P / scale).
        hr: Tensor of shape (N, 3, P, P), the ground truth.
        sharpened: The sharpened ground truth, or None if no loss uses it.
    """

    lr: Tensor
    hr: Tensor
    sharpened: Tensor | None

    def target(self, sharpen: bool) -> Tensor:
        """Return the target of a loss."""
        return self.sharpened if sharpen and self.sharpened is not None else self.hr


class PairLoader:
    """The pairs of one stage for one process, without end.

    A pair depends on the seed and on the number of batches before it, and with a pool also on the
    process.

    Args:
        recipe: Recipe of the run.
        stage: Stage of the recipe.
        dataset: Source of the patches.
        processes: Processes that share the data set.
        watch: Stopwatch for the phases `data` and `degradation`.

    Attributes:
        damaged: Errors of images that could not be read, one line each.
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
        if self._settings is not None:
            self._settings.prepare()
        self._scale, self._patch = recipe.network.scale, recipe.data.patch
        self._mix = recipe.data.mix
        self._sharpen_first = recipe.degradation.sharpen
        self._sharpen = any(
            loss is not None and loss.sharpen
            for loss in (stage.pixel, *stage.more, stage.perceptual, stage.dists, stage.gan)
        )
        self._layout = layout(recipe)
        size = 0 if recipe.data.paired else recipe.degradation.pool
        seed = np.random.default_rng((recipe.seed, _POOL, processes.rank)).integers(1 << 62)
        self._pool = PairPool(size, int(seed), recipe.degradation.mode)
        self._side = SideStream(processes.device)
        self._iterator: Iterator[Batch] | None = None
        self._taken = 0
        self.damaged: list[str] = []

    def take(self) -> PairBatch:
        """Return the next pairs.

        Raises:
            TrainingError: No image can be read, or worker processes exit.
        """
        while True:
            with self._watch.phase("data", waiting=True):
                batch = self._next()
            with self._watch.phase("degradation"):
                pairs = self._exchange(batch)
            if pairs is not None:
                return pairs

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next pairs depend on."""
        together = self._batch * self._processes.world
        return {
            "taken": self._taken,
            "samples": self._taken * together,
            "pool": self._pool.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, new_pool: bool = False) -> None:
        """Restore a state that `state_dict` returned.

        Args:
            state: The state; of a run with other batches or processes, its samples are not
                repeated.
            new_pool: Whether the pairs of its pool cannot be used any more.
        """
        together = self._batch * self._processes.world
        samples = state.get("samples")  # states of earlier versions lack it
        self._taken = state["taken"] if samples is None else -(-samples // together)
        self._iterator = None
        if new_pool:
            return
        pool = dict(state["pool"])
        for key in ("low", "high"):
            pool[key] = None if pool[key] is None else pool[key].to(self._processes.device)
        self._pool.load_state_dict(pool)

    def _next(self) -> Batch:
        try:
            batch = next(self._batches())
        except _WORKER_ERRORS:
            if not self._workers:
                raise
            self._iterator = None
            batch = self._next_with_new_workers()
        if self._workers:
            ignore_worker_exits()
        self._taken += 1
        self.damaged += batch.damaged
        return batch

    def _next_with_new_workers(self) -> Batch:
        try:
            return next(self._batches())
        except _WORKER_ERRORS as error:
            raise TrainingError(
                f"worker processes exited twice ({one_line(error)}); reduce data.workers, or free "
                "memory"
            ) from error

    def _batches(self) -> Iterator[Batch]:
        """Return the iterator over batches from the current position."""
        if self._iterator is None:
            self._iterator = batches(
                self._dataset,
                batch=self._batch,
                first=self._taken,
                rank=self._processes.rank,
                world=self._processes.world,
                workers=self._workers,
            )
        return self._iterator

    @torch.no_grad()
    def _exchange(self, batch: Batch) -> PairBatch | None:
        """Return pairs from the pool for a batch; None while the pool fills."""
        device = self._processes.device
        parts: list[tuple[Tensor, Tensor]] = []
        if batch.hr is not None:
            lr, hr = self._side.run(lambda: self._degrade(batch))
            parts.append((lr, hr))
        if batch.pairs is not None:
            hr, lr = (each.to(device, non_blocking=True) for each in batch.pairs)
            parts.append((lr, hr))
        lr, hr = (torch.cat(each) for each in zip(*parts, strict=True))
        if len(parts) > 1:  # in the order of the samples
            order = np.argsort(np.argsort(batch.is_pair, kind="stable"), kind="stable")
            lr, hr = lr[order], hr[order]
        exchanged = self._pool.exchange(lr, hr)
        return None if exchanged is None else self._pairs(*exchanged)

    def _degrade(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the LR and HR patches of the samples that are not pairs."""
        assert self._settings is not None, "a recipe without pairs has degradations"
        assert batch.hr is not None, "it has such samples"
        hr = batch.hr.to(self._processes.device, non_blocking=True)
        numbers = [
            number for number, is_pair in zip(batch.numbers, batch.is_pair, strict=True)
            if not is_pair
        ]  # fmt: skip
        images = hr.float() / 255
        if self._sharpen_first:
            images = sharpen(images)
        lr = apply(images, sample_degradations(self._settings, self._seed, numbers))
        return self._crop((lr * 255).round().to(torch.uint8), hr, numbers)

    def _crop(self, lr: Tensor, hr: Tensor, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Cut off the margins, at positions that depend on the sample numbers."""
        side, scale = self._patch // self._scale, self._scale
        positions = lr.shape[-1] - side + 1
        lr_patches: list[Tensor] = []
        hr_patches: list[Tensor] = []
        for index, number in enumerate(numbers):
            generator = np.random.default_rng((self._seed, _CROPS, number))
            top, left = (int(start) for start in generator.integers(positions, size=2))
            lr_patches.append(lr[index, :, top : top + side, left : left + side])
            top, left = top * scale, left * scale
            hr_patches.append(hr[index, :, top : top + self._patch, left : left + self._patch])
        return torch.stack(lr_patches), torch.stack(hr_patches)

    def _pairs(self, lr: Tensor, hr: Tensor) -> PairBatch:
        lr, hr = (
            levels.float().div_(255).contiguous(memory_format=self._layout) for levels in (lr, hr)
        )
        if self._mix != MixSettings():
            key = (self._seed, _MIXES, self._taken, self._processes.rank)
            lr, hr = mixed(lr, hr, self._mix, np.random.default_rng(key))
        return PairBatch(lr, hr, sharpen(hr) if self._sharpen else None)


def sample_degradations(
    settings: DegradationSettings, seed: int, numbers: Sequence[int]
) -> tuple[Degradation, ...]:
    """Sample the degradations of training samples.

    Each depends on its own number; in the official mode all depend on the first number.

    Args:
        settings: Chain to sample from.
        seed: Seed of the recipe.
        numbers: Numbers of the samples.
    """
    if settings.mode == "official":
        generator = np.random.default_rng((seed, _DEGRADATIONS, numbers[0]))
        return sample(settings, len(numbers), generator)
    generators = (np.random.default_rng((seed, _DEGRADATIONS, number)) for number in numbers)
    return tuple(sample(settings, 1, generator)[0] for generator in generators)
