"""CUDA graphs: what a GPU computes for a frame is recorded once and replayed for the next frames.

A fast GPU computes a frame about as fast as the host can launch its layers one by one. A recorded
graph is launched in one call. It keeps its memory until it is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from upscale.engine.memory import MEMORY_SHARE, available_memory

T = TypeVar("T")

MOST_SHAPES = 2
"""Shapes of frames that are remembered at a time: colours and alpha of a video."""

Key = tuple[torch.Size, torch.dtype]
"""Shape of a frame, and precision of the network."""


@dataclass(frozen=True, slots=True)
class _Recording(Generic[T]):
    """A recorded frame: the tensor that it reads, its result, and the function to repeat it."""

    image: Tensor
    result: T
    replay: Callable[[], None]


class FrameGraphs(Generic[T]):
    """Recorded graphs of one network, by the shape of the frame; only CUDA records.

    The first frame of a shape is computed as usual, which also compiles and selects kernels. The
    second one is recorded. If that fails, frames are computed as usual from then on.

    Args:
        device: Device that computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._can_record = device.type == "cuda"
        self._shapes: dict[Key, _Recording[T] | None] = {}

    def run(
        self,
        image: Tensor,
        dtype: torch.dtype,
        compute: Callable[[Tensor], T],
        planned_bytes: Callable[[], int],
    ) -> T:
        """Return `compute(image)`, replayed if it has been recorded for a frame of this shape.

        Args:
            image: Frame on the device.
            dtype: Precision of the network.
            compute: Function that only launches work on the device.
            planned_bytes: Function that returns the memory that `compute` needs.

        Returns:
            The result; that of a replayed graph is overwritten by the next frame of its shape.
        """
        if not self._can_record or image.device != self._device:
            return compute(image)
        key = image.shape, dtype
        recording = self._shapes.get(key)
        if recording is None and key in self._shapes and self._has_memory(planned_bytes()):
            recording = self._shapes[key] = self._recorded(image, compute)
        if recording is None:
            if key not in self._shapes and len(self._shapes) == MOST_SHAPES:
                self.clear()
            self._shapes.setdefault(key, None)
            return compute(image)
        recording.image.copy_(image)
        recording.replay()
        return recording.result

    def clear(self) -> None:
        """Drop all recorded graphs with their memory."""
        self._shapes.clear()

    def _has_memory(self, planned_bytes: int) -> bool:
        return planned_bytes <= available_memory(self._device) * MEMORY_SHARE

    def _recorded(self, image: Tensor, compute: Callable[[Tensor], T]) -> _Recording[T] | None:
        """Record a frame without computing it; return None if that is impossible."""
        try:
            source, graph = image.clone(), torch.cuda.CUDAGraph()
            stream = torch.cuda.Stream(self._device)  # torch's own is on the first device used
            # Other threads may copy frames at the same time.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                result = compute(source)
        except Exception:  # whatever it is: the frame can be computed as usual
            self._can_record = False
            return None
        return _Recording(source, result, graph.replay)
