"""A network together with what improves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from upscale_training.loop.distributed import Processes
from upscale_training.recipe import OptimiserSettings

T = TypeVar("T")

_KINDS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class Learner:
    """A network, its optimiser, and its own gradient scaler.

    Each network has a scaler of its own, so that an overflow in one neither skips a step of the
    other nor changes its scale between two halves of an iteration.

    Args:
        network: moved to the device.
        settings: of the optimiser.
        processes: among which gradients are averaged.
        scaled: scale the loss, for fp16.
        compiled: run it through `torch.compile`.

    Attributes:
        network: the bare network.
        run: the network as it is called in upscale_training, with gradients averaged over processes.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: OptimiserSettings,
        processes: Processes,
        *,
        scaled: bool = False,
        compiled: bool = False,
    ) -> None:
        self.network = network
        self._fabric = processes.fabric
        self.run: Callable[[Tensor], Tensor] = self._fabric.setup_module(
            cast(nn.Module, torch.compile(network)) if compiled else network
        )
        self._optimiser = _KINDS[settings.kind](
            network.parameters(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        self._rate = settings.learning_rate
        self._scaler = torch.amp.GradScaler(processes.device.type, enabled=scaled)
        # What spectral norms keep between forward passes.
        self._vectors = [
            buffer
            for name, buffer in network.named_buffers()
            if name.endswith(("weight_u", "weight_v"))
        ]

    def set_rate(self, factor: float) -> None:
        """Set the learning rate to a part of the settings'."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate * factor

    def improve(self, batches: Sequence[T], loss: Callable[[T], Tensor]) -> None:
        """Take one step against the mean loss of several batches, one after the other.

        Args:
            batches: at least one.
            loss: of one batch; it calls `run`.
        """
        self._optimiser.zero_grad()
        for place, batch in enumerate(batches):
            with self._fabric.no_backward_sync(self.run, enabled=place + 1 < len(batches)):  # pyright: ignore[reportArgumentType]
                self._fabric.backward(self._scaler.scale(loss(batch) / len(batches)))
        self._scaler.step(self._optimiser)
        self._scaler.update()

    def vectors(self) -> list[Tensor]:
        """Copies of the vectors of spectral norms."""
        return [vector.clone() for vector in self._vectors]

    def set_vectors(self, values: Sequence[Tensor]) -> None:
        """Put the vectors of spectral norms back to copies of them."""
        for vector, value in zip(self._vectors, values, strict=True):
            vector.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])
