"""Sources of random numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

T = TypeVar("T")


class Randomness(Protocol):
    """A stream of random numbers."""

    def choose(self, weights: Mapping[T, float]) -> T:
        """Return one of the keys, with probabilities proportional to the weights."""
        ...

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options, all equally likely."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        ...

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        ...

    def seed(self) -> int:
        """Return a seed for another stream, in [0, 2^63)."""
        ...


class NumpyRandomness:
    """Random numbers of a numpy generator."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def choose(self, weights: Mapping[T, float]) -> T:
        """Return one of the keys, with probabilities proportional to the weights."""
        ends = np.cumsum(list(weights.values()))
        index = np.searchsorted(ends, self._generator.uniform() * ends[-1], side="right")
        return list(weights)[int(index)]

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options, all equally likely."""
        return options[int(self._generator.integers(len(options)))]

    def uniform(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return float(self._generator.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return bool(self._generator.uniform() < probability)

    def seed(self) -> int:
        """Return a seed for another stream, in [0, 2^63)."""
        return int(self._generator.integers(1 << 63))
