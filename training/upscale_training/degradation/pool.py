"""The pool of training pairs (Real-ESRGAN, section 4.1), which mixes degradations in a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from upscale_training.degradation.operations import Mode


class PairPool:
    """Keeps pairs back and returns others in random order.

    In the corrected mode each pair is returned once: nothing is returned until the pool is full,
    and the batch size need not divide the size of the pool. In the official mode pairs that fill
    the pool are returned at once, and again later, and the whole pool is shuffled at each exchange.

    Batches stay on the device where they are; after loading a state the pool moves to the device
    of the next batch.

    Args:
        size: Number of pairs that the pool holds before it returns any; 0 for no pool.
        seed: Seed of the random order.
        mode: `corrected` or `official`.

    Example:
        >>> import torch
        >>> pool = PairPool(size=2, seed=0)
        >>> pool.exchange(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 16, 16)) is None
        True
        >>> lr, hr = pool.exchange(torch.ones(2, 3, 4, 4), torch.ones(2, 3, 16, 16))
        >>> lr.sum().item()
        0.0
    """

    def __init__(self, size: int, seed: int, mode: Mode = "corrected") -> None:
        self._size = size
        self._mode = mode
        self._generator = torch.Generator().manual_seed(seed)
        self._filling: list[tuple[Tensor, Tensor]] = []
        self._full: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        """Return the number of pairs in the pool."""
        pairs = [self._full] if self._full else self._filling
        return sum(len(pair[0]) for pair in pairs)

    def exchange(self, lr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor] | None:
        """Put in a batch of pairs and take out as many.

        Args:
            lr: Degraded images (N, C, h, w).
            hr: Their ground truth (N, C, H, W).

        Returns:
            A batch; None while the corrected pool fills: degrade and put in another batch.

        Raises:
            ValueError: The batch is larger than the pool.
        """
        if self._size == 0:
            return lr, hr
        self._move(lr.device)
        if self._full is None and len(self) < self._size:
            self._filling.append((lr, hr))
            return (lr, hr) if self._mode == "official" else None
        if self._full is None:
            self._full = _joined(self._filling)
            self._filling = []
        return self._swapped(self._full, (lr, hr))

    def _move(self, device: torch.device) -> None:
        self._filling = [(lr.to(device), hr.to(device)) for lr, hr in self._filling]
        if self._full:
            self._full = self._full[0].to(device), self._full[1].to(device)

    def _swapped(
        self, pool: tuple[Tensor, Tensor], batch: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        count, size = len(batch[0]), len(pool[0])
        if count > size:
            raise ValueError(f"a batch of {count} is larger than the pool of {size} pairs")
        order = torch.randperm(size, generator=self._generator).to(pool[0].device)
        if self._mode == "official":
            pool = self._full = (pool[0][order], pool[1][order])
            order = torch.arange(size, device=order.device)
        indices = order[:count]
        taken = pool[0][indices], pool[1][indices]
        pool[0][indices], pool[1][indices] = batch
        return taken

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next exchange depends on; tensors are copies."""
        pairs = [self._full] if self._full else self._filling
        lr, hr = _joined(pairs) if pairs else (None, None)
        generator = self._generator.get_state()
        return {"low": lr, "high": hr, "full": self._full is not None, "generator": generator}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        pair = None if state["low"] is None else (state["low"].clone(), state["high"].clone())
        self._full = pair if state["full"] else None
        self._filling = [pair] if pair and not state["full"] else []
        self._generator.set_state(state["generator"])


def _joined(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
