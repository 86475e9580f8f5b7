"""Which image each upscale_training sample is cut from, and which samples each process takes.

Samples are numbered 0, 1, 2, ... over the whole run. What a sample is depends on the seed and its
number alone, so the number of workers and processes, and interruptions, change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CROPS, _EPOCHS, _ROUNDS = 0, 2, 3
"""Streams of random numbers beside each other; 1 is that of the degradations."""


def crop_generator(seed: int, number: int) -> np.random.Generator:
    """The random numbers that cut sample `number` from its image."""
    return np.random.default_rng((seed, _CROPS, number))


class Visits:
    """In which order the images are visited.

    An epoch visits every image of a source of weight 1 once, of weight 2 twice, and of weight 0.5
    a random half, the other half in the next epoch; all sources are mixed.
    """

    def __init__(self, counts: Sequence[int], weights: Sequence[float], seed: int) -> None:
        """Plan visits.

        Args:
            counts: Images of each source, at least 1.
            weights: How often an image of each is visited in an epoch, above 0.
            seed: Of all orders.
        """
        self._counts = counts
        self._visits = [
            max(1, round(count * weight)) for count, weight in zip(counts, weights, strict=True)
        ]
        self._seed = seed
        self._known: tuple[int, NDArray[np.intp]] = (-1, np.empty(0, np.intp))

    def __len__(self) -> int:
        """Visits in an epoch."""
        return sum(self._visits)

    def image(self, number: int, further: int = 0) -> int:
        """The image of sample `number`, counted through all sources.

        Args:
            number: Of the sample.
            further: Places to go on from there in the epoch's order, and from its end to its start.
        """
        epoch, place = divmod(number, len(self))
        if self._known[0] != epoch:
            self._known = epoch, self._order(epoch)
        return int(self._known[1][(place + further) % len(self)])

    def _order(self, epoch: int) -> NDArray[np.intp]:
        starts = np.cumsum([0, *self._counts[:-1]])
        chosen = [self._chosen(source, epoch) + start for source, start in enumerate(starts)]
        return np.random.default_rng((self._seed, _EPOCHS, epoch)).permutation(
            np.concatenate(chosen)
        )

    def _chosen(self, source: int, epoch: int) -> NDArray[np.intp]:
        """Images of one source in one epoch: a piece of permutation after permutation."""
        count, visits = self._counts[source], self._visits[source]
        first, end = epoch * visits, (epoch + 1) * visits
        rounds = range(first // count, -(-end // count))
        orders = [
            np.random.default_rng((self._seed, _ROUNDS, source, turn)).permutation(count)
            for turn in rounds
        ]
        return np.concatenate(orders)[first - rounds[0] * count :][:visits]


@dataclass(frozen=True, slots=True)
class Share:
    """The numbers that one of several processes takes, batch after batch, without an end.

    In each iteration a process takes `accumulate` batches, and all processes together what one with
    `world` times the batch would take.

    Attributes:
        batch: Samples of a batch of this process.
        first: Iteration to start from.
        rank: Of this process.
        world: Processes in all.
        accumulate: Batches of one iteration.
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
