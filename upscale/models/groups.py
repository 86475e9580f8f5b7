"""What a network tells the tile engine: itself, cut into groups with small halos.

A group reads one or more planes (the image, or what earlier groups wrote) and writes one plane.
Run over any tiling of the image, the groups give what the whole network gives on the whole
image, because each halo covers its group's receptive field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from upscale.models.layers import LayerMaker, LayerRun, torch_layer
from upscale.tiling.group import LayerGroup


@dataclass(frozen=True, slots=True)
class LayerStep:
    """A layer without padding as a `valid` group.

    Attributes:
        layer: reads the first `inputs` planes.
        inputs: how many.
        added: planes whose inner part is added to the result, as far as they are there.
    """

    layer: LayerRun
    inputs: int = 1
    added: tuple[int, ...] = ()

    def run(self, planes: Sequence[Tensor]) -> Tensor:
        """The group's `run`."""
        return self.layer(planes[: self.inputs], self._residuals(planes))

    def fill(self, planes: Sequence[Tensor], target: Tensor) -> None:
        """The group's `fill`."""
        self.layer(planes[: self.inputs], self._residuals(planes), target)

    def _residuals(self, planes: Sequence[Tensor]) -> list[Tensor]:
        return [planes[i][:, :, 1:-1, 1:-1] for i in self.added if i < len(planes)]


class GroupedModel(Protocol):
    """A network that the exact tile engine can run."""

    @property
    def scale(self) -> int:
        """Output pixels per image pixel and axis."""
        ...

    @property
    def unshuffle(self) -> int:
        """Image pixels per plane pixel and axis."""
        ...

    def groups(
        self, *, fine: bool = False, make: LayerMaker = torch_layer
    ) -> tuple[LayerGroup, ...]:
        """The network as groups that read (N, C * unshuffle**2, h, w); the last gives the image.

        The last group's scale is `scale * unshuffle`. Coarse groups hold several convolutions:
        few, large steps, and some work done twice in the halos. Fine groups are one convolution
        each: nothing is done twice, at the price of more steps. `make` computes the layers.
        """
        ...
