"""Layer groups: what a network tells the tile engine.

A layer group reads one or more inputs (the image, or the output of earlier groups) and writes one
feature map. Run tile by tile, the groups give the same result as the whole network on the whole
image, because the halo of each group covers its receptive field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

IMAGE = -1
"""The plane number of the network's input."""

GroupRun = Callable[[Sequence[Tensor]], Tensor]
GroupFill = Callable[[Sequence[Tensor], Tensor], None]


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """One piece of a network.

    Attributes:
        name: for messages and profiles.
        sources: the planes read: `IMAGE` or the numbers of earlier groups.
        halo: pixels of the sources beyond a tile's centre that the output depends on.
        scale: output pixels per input pixel and axis.
        channels: channels of the output.
        workspace: values that `run` holds at once per input pixel, inputs and output included;
            the tile engine plans memory with it.
        run: takes one (N, C, h, w) tensor per source, all of one extent, and must not write to
            them. Returns (N, channels, h * scale, w * scale), right everywhere but in the halo; a
            `valid` group returns only what is right.
        valid: a single convolution (halo 1) without padding of its own: its inputs reach one pixel
            beyond the image, where they are zero. The inputs of other groups end where the
            image does, so that the padding inside them falls where it does without tiles.
        fill: of a `valid` group: does what `run` does and puts the result into the tensor given.
    """

    name: str
    sources: tuple[int, ...]
    halo: int
    scale: int
    channels: int
    workspace: int
    run: GroupRun
    valid: bool = False
    fill: GroupFill | None = None
