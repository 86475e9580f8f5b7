"""Where draws come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

T = TypeVar("T")


class Randomness(Protocol):
    """A stream of draws."""

    def choose(self, weights: Mapping[T, float]) -> T:
        """One of the keys, each as often as its weight says."""
        ...

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, each equally often."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """Anything in [low, high)."""
        ...

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        ...

    def seed(self) -> int:
        """A seed for another stream, in [0, 2^63)."""
        ...


class NumpyRandomness:
    """DegradationSampler from a numpy generator."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def choose(self, weights: Mapping[T, float]) -> T:
        """One of the keys, each as often as its weight says."""
        ends = np.cumsum(list(weights.values()))
        place = np.searchsorted(ends, self._generator.uniform() * ends[-1], side="right")
        return list(weights)[int(place)]

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, each equally often."""
        return options[int(self._generator.integers(len(options)))]

    def uniform(self, low: float, high: float) -> float:
        """Anything in [low, high)."""
        return float(self._generator.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return bool(self._generator.uniform() < probability)

    def seed(self) -> int:
        """A seed for another stream, in [0, 2^63)."""
        return int(self._generator.integers(1 << 63))
