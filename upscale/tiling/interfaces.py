"""Interfaces that the tile engine needs from its caller, and the statistics that it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from upscale.tiling.grid import Rect


class Canvas(Protocol):
    """The image to read and the image to write, addressed in pixels of the first feature map."""

    def read(self, rect: Rect) -> Tensor:
        """Return the input under `rect` as (1, C, h, w) in 0..1 in the run's device and dtype."""
        ...

    def write(self, rect: Rect, tile: Tensor) -> None:
        """Write the (1, C, h * scale, w * scale) result for `rect`."""
        ...


class FeatureMapStore(Protocol):
    """Memory for the feature maps between layer groups."""

    def allocate(self, rows: int, width: int, channels: int) -> Tensor:
        """Return an uninitialised (rows, width, channels) tensor."""
        ...

    def recycle(self, feature_map: Tensor) -> None:
        """Take back an allocated tensor that is not read any more."""
        ...

    def load(self, view: Tensor) -> Tensor:
        """Return a part of a feature map on the computing device."""
        ...

    def offload(self) -> bool:
        """Switch to slower memory for all further tensors; return False if there is none."""
        ...


@dataclass(slots=True)
class TileStats:
    """Progress and events of a run.

    Attributes:
        done: Tiles computed so far.
        total: Tiles of the whole run; grows when tiles are halved.
        fp32_fallbacks: Tiles that overflowed half precision and were recomputed in fp32.
        halvings: Number of times that memory ran out and the tile size was halved.
    """

    done: int = 0
    total: int = 0
    fp32_fallbacks: int = 0
    halvings: int = 0


class PrecisionLossError(ArithmeticError):
    """A value exceeds half precision even though it was computed in fp32."""
