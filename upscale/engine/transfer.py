"""Asynchronous transfer of the planes of video frames to a device and back.

On a CUDA GPU, each direction has a stream of its own and uses pinned memory: while one frame is
computed, the next one is uploaded and the previous one is downloaded. Elsewhere transfers are
synchronous.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale.engine.device import current_device
from upscale.engine.pinned import PinnedMemory
from upscale.engine.yuv import plane_array, plane_tensor
from upscale.tiling.recovery import runs_out_of_memory


@dataclass(frozen=True, slots=True, eq=False)
class Uploaded:
    """Planes that are being copied to a device, or are on the host where it had no memory."""

    _planes: list[Tensor]
    _arrived: torch.cuda.Event | None = None

    def planes(self) -> list[Tensor]:
        """Return the planes for use by the current stream, without blocking this thread."""
        if self._arrived is not None:
            stream = torch.cuda.current_stream(self._planes[0].device)
            stream.wait_event(self._arrived)
            for plane in self._planes:
                plane.record_stream(stream)
        return self._planes


@dataclass(frozen=True, slots=True, eq=False)
class Downloaded:
    """Planes that are being copied from a device."""

    _planes: list[Tensor]
    _arrived: torch.cuda.Event | None = None

    def arrays(self) -> list[NDArray[Any]]:
        """Wait for the planes and return them as (H, W) uint8 or uint16 arrays without a copy."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return [plane_array(plane) for plane in self._planes]


class Transfer:
    """Copies planes to one device and back; thread-safe.

    Args:
        device: Device that computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pinned = PinnedMemory(device)
        is_cuda = device.type == "cuda"
        self._up = torch.cuda.Stream(device) if is_cuda else None
        self._down = torch.cuda.Stream(device) if is_cuda else None

    def upload(self, planes: Sequence[NDArray[Any]]) -> Uploaded:
        """Start to copy (H, W) uint8 or uint16 planes, which must not change any more."""
        tensors = [plane_tensor(plane) for plane in planes]
        if self._up is None:
            return Uploaded([tensor.to(self._device) for tensor in tensors])
        uploaded: list[Tensor] = []
        with current_device(self._device), torch.cuda.stream(self._up):
            if runs_out_of_memory(lambda: uploaded.extend(map(self._pinned.upload, tensors))):
                return Uploaded(tensors)  # copied when the frame before has freed memory
            return Uploaded(uploaded, _event(self._up))

    def download(self, planes: Sequence[Tensor]) -> Downloaded:
        """Start to copy back planes from `to_planes` that the current stream computes."""
        if self._down is None or not planes[0].is_cuda:
            return Downloaded([plane.cpu() for plane in planes])
        computed = _event(torch.cuda.current_stream(self._device))
        with current_device(self._device), torch.cuda.stream(self._down):
            self._down.wait_event(computed)
            downloaded: list[Tensor] = []
            for plane in planes:
                downloaded.append(self._pinned.download(plane))
                plane.record_stream(self._down)
            return Downloaded(downloaded, _event(self._down))


def _event(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """Return an event that marks the end of the work queued on a stream so far."""
    event = torch.cuda.Event()
    event.record(stream)
    return event
