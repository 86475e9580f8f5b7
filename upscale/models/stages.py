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

IMAGE = -1
"""The plane number of the network's input."""

StageRun = Callable[[Sequence[Tensor]], Tensor]


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
        run: one (N, C, h, w) tensor per source, all of one extent: the tile and its halo, less
            where the picture ends. Returns (N, channels, h * scale, w * scale), right everywhere
            but in the halo. It must not write to its inputs.
    """

    name: str
    sources: tuple[int, ...]
    halo: int
    scale: int
    channels: int
    workspace: int
    run: StageRun


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

    def stages(self) -> tuple[Stage, ...]:
        """The network as stages that read (N, C * unshuffle**2, h, w); the last gives the picture.

        The last stage's scale is `scale * unshuffle`.
        """
        ...
