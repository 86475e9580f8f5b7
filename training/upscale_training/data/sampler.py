"""Choose the image of each training sample, and the samples of each process.

Samples are numbered 0, 1, 2, ... over the whole run. A sample depends only on the seed and its
number, so it does not change with the number of workers and processes, or with interruptions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CROPS, _EPOCHS, _ROUNDS = 0, 2, 3
"""Independent streams of random numbers; 1 is that of the degradations."""


def crop_generator(seed: int, number: int) -> np.random.Generator:
    """Return the random numbers that crop sample `number` from its image."""
    return np.random.default_rng((seed, _CROPS, number))


class EpochOrder:
    """The random order of the images in each epoch.

    An epoch contains every image of a source of weight 1 once, of weight 2 twice, and of weight 0.5
    a random half, with the other half in the next epoch; all sources are mixed.

    Args:
        counts: Number of images of each source, at least 1.
        weights: Number of times that an image of each source occurs in an epoch, above 0.
        seed: Seed of all orders.

    Example:
        >>> order = EpochOrder(counts=[4], weights=[1.0], seed=0)
        >>> sorted(order.image(number) for number in range(len(order)))
        [0, 1, 2, 3]
    """

    def __init__(self, counts: Sequence[int], weights: Sequence[float], seed: int) -> None:
        self._counts = counts
        self._lengths = [
            max(1, round(count * weight)) for count, weight in zip(counts, weights, strict=True)
        ]
        self._seed = seed
        self._cached: tuple[int, NDArray[np.intp]] = (-1, np.empty(0, np.intp))

    def __len__(self) -> int:
        """Return the number of samples in an epoch."""
        return sum(self._lengths)

    def image(self, number: int, offset: int = 0) -> int:
        """Return the index of the image of a sample, counted over all sources.

        Args:
            number: Number of the sample.
            offset: Number of positions to skip in the order of the epoch, which is circular.
        """
        epoch, position = divmod(number, len(self))
        if self._cached[0] != epoch:
            self._cached = epoch, self._order(epoch)
        return int(self._cached[1][(position + offset) % len(self)])

    def _order(self, epoch: int) -> NDArray[np.intp]:
        starts = np.cumsum([0, *self._counts[:-1]])
        chosen = [self._chosen(source, epoch) + start for source, start in enumerate(starts)]
        return np.random.default_rng((self._seed, _EPOCHS, epoch)).permutation(
            np.concatenate(chosen)
        )

    def _chosen(self, source: int, epoch: int) -> NDArray[np.intp]:
        """Return the images of a source in an epoch: a part of consecutive permutations."""
        count, length = self._counts[source], self._lengths[source]
        first, end = epoch * length, (epoch + 1) * length
        rounds = range(first // count, -(-end // count))
        orders = [
            np.random.default_rng((self._seed, _ROUNDS, source, turn)).permutation(count)
            for turn in rounds
        ]
        return np.concatenate(orders)[first - rounds[0] * count :][:length]


@dataclass(frozen=True, slots=True)
class DistributedBatchSampler:
    """Yields the sample numbers of one process, batch after batch, without end.

    In each iteration a process takes `accumulate` batches. All processes together take the samples
    that one process would take with a batch `world` times as large.

    Attributes:
        batch: Samples of a batch of this process.
        first: First iteration.
        rank: Rank of this process.
        world: Number of processes.
        accumulate: Batches of one iteration.

    Example:
        >>> from itertools import islice
        >>> list(islice(DistributedBatchSampler(batch=2, rank=1, world=2), 2))
        [[2, 3], [6, 7]]
    """

    batch: int
    first: int = 0
    rank: int = 0
    world: int = 1
    accumulate: int = 1

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the numbers of one batch after the other."""
        together = self.batch * self.world
        start = self.first * self.accumulate * together + self.rank * self.batch
        while True:
            yield list(range(start, start + self.batch))
            start += together
