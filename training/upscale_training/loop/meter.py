"""Losses that are summed on their device, which needs no synchronisation in each iteration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from upscale_training.loop.distributed import Processes


class LossMeter:
    """Means of losses over iterations and processes."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._batches: dict[str, int] = {}

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of one batch: scalars, which are detached."""
        for name, loss in losses.items():
            value = loss.detach().double() if loss.device.type != "mps" else loss.detach()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._batches[name] = self._batches.get(name, 0) + 1

    def means(self, processes: Processes) -> dict[str, float]:
        """Return the means since `clear` over all processes."""
        own = {name: float(total) / self._batches[name] for name, total in self._sums.items()}
        gathered = processes.gather(own)
        return {name: sum(each[name] for each in gathered) / len(gathered) for name in own}

    def clear(self) -> None:
        """Reset all sums."""
        self._sums.clear()
        self._batches.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the sums."""
        sums = {name: float(total) for name, total in self._sums.items()}
        return {"sums": sums, "batches": dict(self._batches)}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore sums that `state_dict` returned."""
        kind = torch.float32 if device.type == "mps" else torch.float64
        self._sums = {
            name: torch.tensor(value, dtype=kind, device=device)
            for name, value in state["sums"].items()
        }
        self._batches = dict(state["batches"])
