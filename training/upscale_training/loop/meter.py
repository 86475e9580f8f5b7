"""Losses summed on their device, so that they are read once in a while."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from upscale_training.loop.distributed import Processes


class Meter:
    """Means of losses over iterations and processes."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._batches: dict[str, int] = {}

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Take in the losses of one batch: scalars, whose gradients are left out."""
        for name, loss in losses.items():
            value = loss.detach().double() if loss.device.type != "mps" else loss.detach()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._batches[name] = self._batches.get(name, 0) + 1

    def means(self, processes: Processes) -> dict[str, float]:
        """The means since `clear`, over all processes."""
        own = {name: float(total) / self._batches[name] for name, total in self._sums.items()}
        found = processes.gather(own)
        return {name: sum(each[name] for each in found) / len(found) for name in own}

    def clear(self) -> None:
        """Begin anew."""
        self._sums.clear()
        self._batches.clear()

    def state_dict(self) -> dict[str, Any]:
        """What was summed."""
        sums = {name: float(total) for name, total in self._sums.items()}
        return {"sums": sums, "batches": dict(self._batches)}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue where `state_dict` was taken."""
        kind = torch.float32 if device.type == "mps" else torch.float64
        self._sums = {
            name: torch.tensor(value, dtype=kind, device=device)
            for name, value in state["sums"].items()
        }
        self._batches = dict(state["batches"])
