"""What the tile engine asks of its surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from upscale.tiling.grid import Rect


class Canvas(Protocol):
    """The image that is read and the one that is written, addressed in plane pixels."""

    def read(self, rect: Rect) -> Tensor:
        """The input under `rect`: (1, C, h, w) in [0, 1], on the computing device and precision."""
        ...

    def write(self, rect: Rect, tile: Tensor) -> None:
        """Put the (1, C, h * scale, w * scale) result for `rect` in its place."""
        ...


class FeatureMapStore(Protocol):
    """Where the planes between the groups live."""

    def allocate(self, rows: int, width: int, channels: int) -> Tensor:
        """An uninitialised (rows, width, channels) tensor."""
        ...

    def recycle(self, plane: Tensor) -> None:
        """Take back what was allocated: nobody will read it again."""
        ...

    def load(self, view: Tensor) -> Tensor:
        """A part of a plane on the computing device."""
        ...

    def offload(self) -> bool:
        """Give up device memory for slower memory; False where there is none left to go to."""
        ...


@dataclass(slots=True)
class TileStats:
    """What happened during a run; `total` grows when a tile is halved."""

    done: int = 0
    total: int = 0
    fp32_tiles: int = 0
    halvings: int = 0


class PrecisionLossError(ArithmeticError):
    """A value does not fit half precision even when it is computed in fp32."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, the host or torch's allocator ran out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("out of memory", "not enough memory", "can't allocate memory")
    )
