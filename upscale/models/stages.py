"""What a network tells the tile engine: itself, cut into stages with small halos.

A stage reads one or more planes (the image, or what earlier stages wrote) and writes one plane.
Run over any tiling of the picture, the stages give what the whole network gives on the whole
picture, because each halo covers its stage's receptive field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from upscale.models.layers import LayerMaker, LayerRun, torch_layer

IMAGE = -1
"""The plane number of the network's input."""

StageRun = Callable[[Sequence[Tensor]], Tensor]
StageFill = Callable[[Sequence[Tensor], Tensor], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """One piece of a network.

    Attributes:
        name: for messages and profiles.
        sources: the planes read: `IMAGE` or the numbers of earlier stages.
        halo: pixels of the sources beyond a tile's centre that the output depends on.
        scale: output pixels per input pixel and axis.
        channels: channels of the output.
        workspace: values that `run` holds at once per input pixel, inputs and output included;
            the tile engine plans memory with it.
        run: takes one (N, C, h, w) tensor per source, all of one extent, and must not write to
            them. Returns (N, channels, h * scale, w * scale), right everywhere but in the halo; a
            `valid` stage returns only what is right.
        valid: a single convolution (halo 1) without padding of its own: its inputs reach one pixel
            beyond the picture, where they are zero. The inputs of other stages end where the
            picture does, so that the padding inside them falls where it does without tiles.
        fill: of a `valid` stage: does what `run` does and puts the result into the tensor given.
    """

    name: str
    sources: tuple[int, ...]
    halo: int
    scale: int
    channels: int
    workspace: int
    run: StageRun
    valid: bool = False
    fill: StageFill | None = None


@dataclass(frozen=True, slots=True)
class LayerStep:
    """A layer without padding as a `valid` stage.

    Attributes:
        layer: reads the first `inputs` planes.
        inputs: how many.
        added: planes whose inner part is added to the result, as far as they are there.
    """

    layer: LayerRun
    inputs: int = 1
    added: tuple[int, ...] = ()

    def run(self, planes: Sequence[Tensor]) -> Tensor:
        """The stage's `run`."""
        return self.layer(planes[: self.inputs], self._residuals(planes))

    def fill(self, planes: Sequence[Tensor], target: Tensor) -> None:
        """The stage's `fill`."""
        self.layer(planes[: self.inputs], self._residuals(planes), target)

    def _residuals(self, planes: Sequence[Tensor]) -> list[Tensor]:
        return [planes[i][:, :, 1:-1, 1:-1] for i in self.added if i < len(planes)]


class StagedModel(Protocol):
    """A network that the exact tile engine can run."""

    @property
    def scale(self) -> int:
        """Output pixels per picture pixel and axis."""
        ...

    @property
    def unshuffle(self) -> int:
        """Picture pixels per plane pixel and axis."""
        ...

    def stages(self, *, fine: bool = False, make: LayerMaker = torch_layer) -> tuple[Stage, ...]:
        """The network as stages that read (N, C * unshuffle**2, h, w); the last gives the picture.

        The last stage's scale is `scale * unshuffle`. Coarse stages hold several convolutions:
        few, large steps, and some work done twice in the halos. Fine stages are one convolution
        each: nothing is done twice, at the price of more steps. `make` computes the layers.
        """
        ...
