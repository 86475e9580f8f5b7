"""Work on a GPU beside what is queued for it already."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class SideStream:
    """Runs work that does not depend on earlier work, without waiting for it.

    This process queues the work of an iteration much faster than a GPU computes it. In a stream of
    its own, the degradation of the next batch, thousands of small calls, runs while the iteration
    before it is still computed.

    Args:
        device: Device of the work. On a CPU, the work is called as usual.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def run(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Run work whose inputs come from this process, and let all later work wait for it.

        Args:
            work: Function that returns tensors on the device.

        Returns:
            The tensors, for use in the usual stream.
        """
        if self._stream is None:
            return work()
        with torch.cuda.stream(self._stream):
            results = work()
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        for result in results:
            result.record_stream(current)  # its memory must not be reused before it was read
        return results
