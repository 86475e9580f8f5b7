"""Memory for feature maps: on the device, in host memory, or in temporary files."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from upscale.engine.pinned import PinnedMemory
from upscale.engine.temporary import mapped_tensor

PLACEMENTS = ("device", "host", "file")
"""Kinds of memory, from the fastest to the slowest."""

MAX_SPARE = 16
"""Largest number of freed buffers kept for the next feature maps."""


@dataclass(frozen=True, slots=True, eq=False)
class _Spare:
    """A freed buffer with room for `size` values."""

    size: int
    memory: torch.UntypedStorage


class FeatureMaps:
    """Allocator of feature maps, a `FeatureMapStore` of the tile engine.

    Args:
        device: Device that computes.
        dtype: Type of the feature maps.
        placement: Memory to start with: `device`, `host` or `file`.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, placement: str = "device") -> None:
        self.device = device
        self.dtype = dtype
        self.placement = "host" if placement == "device" and device.type == "cpu" else placement
        self._spare: list[_Spare] = []
        self._pinned = PinnedMemory(device)

    def allocate(self, rows: int, width: int, channels: int) -> Tensor:
        """Return an uninitialised (rows, width, channels) tensor."""
        shape = (rows, width, channels)
        if self.placement == "device":
            return torch.empty(shape, dtype=self.dtype, device=self.device)
        if self.placement == "file":
            return mapped_tensor(shape, self.dtype)
        # Not page-locked, even for a GPU: torch copies tiles to and from their rows, which are
        # not contiguous, through contiguous buffers anyway.
        return self._buffer(prod(shape)).view(shape)

    def recycle(self, feature_map: Tensor) -> None:
        """Keep a buffer for the next feature maps, because the first use of memory is slow."""
        if self.placement == "host" and feature_map.device.type == "cpu":
            storage = feature_map.untyped_storage()
            spare = _Spare(storage.nbytes() // self.dtype.itemsize, storage)
            self._spare = [*self._spare[1 - MAX_SPARE :], spare]

    def _buffer(self, size: int) -> Tensor:
        """Return a spare buffer that is at most a quarter larger than `size`, or a new one."""
        fitting = [spare for spare in self._spare if size <= spare.size <= 1.25 * size]
        if not fitting:
            return torch.empty(size, dtype=self.dtype)
        best = min(fitting, key=lambda spare: spare.size)
        self._spare.remove(best)
        return torch.empty(0, dtype=self.dtype).set_(best.memory)[:size]

    def load(self, view: Tensor) -> Tensor:
        """Return a part of a feature map on the computing device."""
        return view if view.device == self.device else self._pinned.upload_view(view)

    def offload(self) -> bool:
        """Switch to the next slower memory; return False if there is none."""
        position = PLACEMENTS.index(self.placement)
        if position == len(PLACEMENTS) - 1:
            return False
        self.placement = PLACEMENTS[position + 1]
        self._spare.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return True
