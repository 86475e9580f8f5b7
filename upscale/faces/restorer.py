"""Restoration: run a network over aligned faces on a device, in a precision."""

from __future__ import annotations

import copy
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from upscale.checkpoints import FaceNetwork
from upscale.engine.device import computing_on, pick_device, pick_precision
from upscale.engine.memory import release_cached_memory
from upscale.errors import CheckpointError
from upscale.tiling.recovery import with_less_memory


class Restorer(Protocol):
    """Restores aligned faces."""

    def restore(self, face: NDArray[np.float32]) -> NDArray[np.float32]:
        """Restore an RGB face in 0..1, shape (512, 512, 3)."""
        ...


class NetworkRestorer:
    """A network on a device.

    Args:
        network: Network of a catalogue entry or a file.
        device: Device as for `Upscaler`.
        precision: Precision as for `Upscaler`; fp32 where the network does not support it.

    Raises:
        UsageError: The device or precision is invalid.
        DeviceError: The device or precision is not available.
    """

    def __init__(self, network: FaceNetwork, device: str = "auto", precision: str = "auto") -> None:
        self._network = network
        self._device = pick_device(device)
        dtype = pick_precision(precision, self._device)
        is_usable = dtype == torch.bfloat16 and network.supports_bfloat16
        self._dtype = dtype if is_usable else torch.float32
        self._module = self._placed()

    def restore(self, face: NDArray[np.float32]) -> NDArray[np.float32]:
        """Restore an RGB face in 0..1, shape (512, 512, 3).

        Raises:
            MemoryExhaustedError: The device has not enough memory.
            CheckpointError: The network's output is not finite, even in fp32.
        """
        result = with_less_memory(lambda: self._run(face), release_cached_memory)
        if not np.isfinite(result).all() and self._dtype != torch.float32:
            self._dtype = torch.float32
            self._module = self._placed()
            result = with_less_memory(lambda: self._run(face), release_cached_memory)
        if not np.isfinite(result).all():
            raise CheckpointError(
                f"{self._network.name}: its result is not finite; the checkpoint is damaged"
            )
        return result.clip(0, 1)

    def _placed(self) -> nn.Module:
        module = copy.deepcopy(self._network.module).requires_grad_(False)
        return module.to(self._device, self._dtype)

    def _run(self, face: NDArray[np.float32]) -> NDArray[np.float32]:
        with computing_on(self._device):
            planes = np.ascontiguousarray(face.transpose(2, 0, 1)[None])
            source = torch.from_numpy(planes).to(self._device, self._dtype)
            restored: Tensor = self._module(source)
            return restored[0].float().cpu().numpy().transpose(1, 2, 0)
