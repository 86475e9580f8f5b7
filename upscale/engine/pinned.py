"""Page-locked host memory for asynchronous copies to and from a CUDA GPU, within a budget.

torch rounds each page-locked block up to a power of two, and keeps it for the next one when it is
freed. Page-locked memory cannot be swapped out, so that too much of it stops the whole machine.
Without room for a block, or on other devices, memory is pageable and copies are synchronous:
asynchronous ones from pageable memory corrupt data on Apple GPUs (pytorch issue 189690).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from upscale.engine.memory import MEMORY_SHARE, available_memory
from upscale.tiling.recovery import runs_out_of_memory


class PinnedMemory:
    """Host memory for copies to and from one device: page-locked where that makes them faster.

    Args:
        device: Device that computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def upload(self, host: Tensor) -> Tensor:
        """Return a copy of a contiguous host tensor on the device, which may still arrive."""
        pinned = self._pinned(host.nbytes, host.pin_memory)
        source = host if pinned is None else pinned
        return source.to(self._device, non_blocking=pinned is not None)

    def upload_view(self, view: Tensor) -> Tensor:
        """Return a copy of a part of a host tensor on the device, which may still arrive."""
        pinned = self._pinned(view.nbytes, lambda: _empty(view.shape, view.dtype).copy_(view))
        source = view if pinned is None else pinned
        return source.to(self._device, non_blocking=pinned is not None)

    def download(self, values: Tensor) -> Tensor:
        """Return a contiguous host copy of a tensor on the device.

        A page-locked copy is complete when the work that is queued on the current stream is.
        """
        pinned = self._pinned(values.nbytes, lambda: _empty(values.shape, values.dtype))
        if pinned is None:
            return values.cpu().contiguous()
        return pinned.copy_(values, non_blocking=True)

    def _pinned(self, size: int, make: Callable[[], Tensor]) -> Tensor | None:
        """Return a page-locked tensor of `size` bytes, or None if there is no room for it."""
        if self._device.type != "cuda" or pinned_bytes() + block_bytes(size) > self._budget:
            return None
        made: list[Tensor] = []
        return None if runs_out_of_memory(lambda: made.append(make())) else made[0]

    @cached_property
    def _budget(self) -> float:
        """Bytes that the process may have page-locked: the share of memory that a run plans."""
        return MEMORY_SHARE * (available_memory(torch.device("cpu")) + pinned_bytes())


def pinned_bytes() -> int:
    """Return the bytes that torch has page-locked, in use or kept for the next blocks."""
    stats = torch.cuda.host_memory_stats()
    # Some versions of torch call them reserved, and count only those in use as allocated.
    return max(int(stats.get(f"{kind}_bytes.current", 0)) for kind in ("reserved", "allocated"))


def block_bytes(size: int) -> int:
    """Return the size of the page-locked block that torch takes for `size` bytes.

    Example:
        >>> block_bytes(1024), block_bytes(1025)
        (1024, 2048)
    """
    return 1 << max(size - 1, 0).bit_length()


def _empty(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, pin_memory=True)
