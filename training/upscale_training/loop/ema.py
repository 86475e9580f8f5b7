"""The moving average of the generator's weights, which is validated and exported."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Generic, TypeVar

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

N = TypeVar("N", bound=nn.Module)


class MovingAverage(Generic[N]):
    """An exponential moving average of the parameters of a network.

    After each step: average = decay * average + (1 - decay) * weights. Basicsr's `params_ema`.

    Args:
        network: Network to average; it is copied.
        decay: Decay, 0 to 1; 0.999 in Real-ESRGAN.

    Attributes:
        network: Copy that holds the average, in evaluation mode.
    """

    def __init__(self, network: N, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self._blend = get_ema_multi_avg_fn(decay)

    def update(self, network: nn.Module) -> None:
        """Add the weights after a step to the average, and copy what is no weight."""
        averages = tuple(self.network.parameters())
        self._blend(averages, tuple(parameter.detach() for parameter in network.parameters()), 0)
        for own, other in zip(self.network.buffers(), network.buffers(), strict=True):
            own.copy_(other)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged weights."""
        return self.network.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore averaged weights."""
        self.network.load_state_dict(dict(state))
