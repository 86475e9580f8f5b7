"""The pool of upscale_training pairs (Real-ESRGAN, section 4.1): batches are mixed from many draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from upscale_training.degradation.operations import Mode


class PairPool:
    """Keeps pairs back and hands out others, drawn at random.

    In the corrected mode each pair is handed out once: nothing comes back until the pool is full,
    and the batch need not divide its size. In the official mode pairs that fill the pool are
    handed out at once, and again later, and the whole pool is shuffled at each exchange.

    Batches are kept as they are given, on their own device; one that was restored moves there.
    """

    def __init__(self, size: int, seed: int, mode: Mode = "corrected") -> None:
        """Make an empty pool.

        Args:
            size: pairs that it holds at least before any comes back; 0 for no pool.
            seed: of the draws.
            mode: see the class.
        """
        self._size = size
        self._mode = mode
        self._generator = torch.Generator().manual_seed(seed)
        self._filling: list[tuple[Tensor, Tensor]] = []
        self._held: tuple[Tensor, Tensor] | None = None

    @property
    def held(self) -> int:
        """Pairs inside."""
        pairs = [self._held] if self._held else self._filling
        return sum(len(pair[0]) for pair in pairs)

    def exchange(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor] | None:
        """Put in a batch of pairs and take out as many.

        Args:
            low: degraded images (N, C, h, w).
            high: their ground truth (N, C, H, W).

        Returns:
            A batch; None while the corrected pool fills: degrade and put in another one.

        Raises:
            ValueError: the batch is larger than the pool.
        """
        if self._size == 0:
            return low, high
        self._move(low.device)
        if self._held is None and self.held < self._size:
            self._filling.append((low, high))
            return (low, high) if self._mode == "official" else None
        if self._held is None:
            self._held = _joined(self._filling)
            self._filling = []
        return self._swapped(self._held, (low, high))

    def _move(self, device: torch.device) -> None:
        self._filling = [(low.to(device), high.to(device)) for low, high in self._filling]
        if self._held:
            self._held = self._held[0].to(device), self._held[1].to(device)

    def _swapped(
        self, held: tuple[Tensor, Tensor], given: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        count, inside = len(given[0]), len(held[0])
        if count > inside:
            raise ValueError(f"a batch of {count} is larger than the pool of {inside} pairs")
        order = torch.randperm(inside, generator=self._generator).to(held[0].device)
        if self._mode == "official":
            held = self._held = (held[0][order], held[1][order])
            order = torch.arange(inside, device=order.device)
        places = order[:count]
        taken = held[0][places], held[1][places]
        held[0][places], held[1][places] = given
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next exchange depends on; tensors are copies."""
        pairs = [self._held] if self._held else self._filling
        low, high = _joined(pairs) if pairs else (None, None)
        generator = self._generator.get_state()
        return {"low": low, "high": high, "full": self._held is not None, "generator": generator}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        pair = None if state["low"] is None else (state["low"].clone(), state["high"].clone())
        self._held = pair if state["full"] else None
        self._filling = [pair] if pair and not state["full"] else []
        self._generator.set_state(state["generator"])


def _joined(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
