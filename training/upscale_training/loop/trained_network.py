"""A network with its optimiser."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from upscale_training.loop.distributed import Processes
from upscale_training.loop.optimisers import make_optimiser
from upscale_training.recipe import OptimiserSettings

T = TypeVar("T")

_SETTINGS = ("lr", "betas", "weight_decay")
"""Keys of an optimiser's groups that come from the recipe and not from a saved state."""


class TrainedNetwork:
    """A network with its optimiser and its own gradient scaler.

    With its own scaler an overflow in one network neither skips a step of the other nor changes the
    other's scale within an iteration.

    Args:
        network: Network on the device of the process.
        settings: Settings of the optimiser.
        processes: Processes that average gradients.
        scaled: Whether to scale the loss, for fp16.
        compiled: Whether to call the network through `torch.compile`.

    Attributes:
        network: The bare network.
        run: The network as called in training, with gradients averaged over processes.
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
        self._optimiser = make_optimiser(network.parameters(), settings)
        self._learning_rate, self._clip = settings.learning_rate, settings.clip
        self._scaler = torch.amp.GradScaler(processes.device.type, enabled=scaled)
        # Spectral norms change these vectors in each forward pass.
        self._vectors = [
            buffer
            for name, buffer in network.named_buffers()
            if name.endswith(("weight_u", "weight_v"))
        ]

    def scale_learning_rate(self, factor: float) -> None:
        """Set the learning rate to that of the settings times a factor."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._learning_rate * factor

    def step(self, batches: Sequence[T], loss: Callable[[T], Tensor]) -> None:
        """Take one optimiser step on the mean loss of several batches, one after the other.

        Args:
            batches: Batches, at least one.
            loss: Function that returns the loss of one batch; it calls `run`.
        """
        self._optimiser.zero_grad()
        for index, batch in enumerate(batches):
            with self._fabric.no_backward_sync(self.run, enabled=index + 1 < len(batches)):  # pyright: ignore[reportArgumentType]
                self._fabric.backward(self._scaler.scale(loss(batch) / len(batches)))
        if self._clip:
            self._scaler.unscale_(self._optimiser)
            nn.utils.clip_grad_norm_(self.network.parameters(), self._clip)
        self._scaler.step(self._optimiser)
        self._scaler.update()

    @contextmanager
    def evaluated(self) -> Generator[None]:
        """Give the network the weights that it is to be used with.

        They are those of training, except with the schedule-free optimiser, which trains on a
        mixture of its last and its averaged weights. Those of training come back exactly.
        """
        optimiser = cast(Any, self._optimiser)
        if not hasattr(optimiser, "eval"):
            yield
            return
        kept = [parameter.detach().clone() for parameter in self.network.parameters()]
        optimiser.eval()
        try:
            yield
        finally:
            optimiser.train()
            with torch.no_grad():
                for parameter, value in zip(self.network.parameters(), kept, strict=True):
                    parameter.copy_(value)

    def vectors(self) -> list[Tensor]:
        """Return copies of the vectors of spectral norms."""
        return [vector.clone() for vector in self._vectors]

    def set_vectors(self, values: Sequence[Tensor]) -> None:
        """Restore the vectors of spectral norms from copies."""
        for vector, value in zip(self._vectors, values, strict=True):
            vector.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.load_optimiser(state["optimiser"])
        if self._scaler.is_enabled() and state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])

    def load_optimiser(self, state: Mapping[str, Any]) -> None:
        """Restore the running means of an optimiser; learning rate and decays stay as they are."""
        own = [
            {key: value for key, value in group.items() if key in _SETTINGS}
            for group in self._optimiser.param_groups
        ]
        self._optimiser.load_state_dict(dict(state))
        for group, values in zip(self._optimiser.param_groups, own, strict=True):
            group.update(values)
