"""Layer groups: the interface between a network and the tile engine.

A layer group reads one or more inputs (the image, or the output of earlier groups) and writes one
feature map. Run tile by tile, the groups give the same result as the whole network on the whole
image, because the halo of each group covers its receptive field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

IMAGE = -1
"""The source number of the network's input; other sources are the indices of earlier groups."""

GroupRun = Callable[[Sequence[Tensor]], Tensor]
GroupFill = Callable[[Sequence[Tensor], Tensor], None]


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """A piece of a network that the tile engine runs on its own.

    Attributes:
        name: Label for messages and profiles.
        sources: Inputs of the group: `IMAGE`, or indices of earlier groups.
        halo: Pixels around a tile of the sources that the tile's output depends on.
        scale: Output pixels per input pixel and axis.
        channels: Channels of the output.
        workspace: Values that `run` holds at once per input pixel, including its inputs and its
            output; the tile engine plans memory with it.
        run: Function from one (N, C, h, w) tensor per source, all of one size, and one
            (1, C, 1, 1) tensor per entry of `means`, none of which it may modify, to
            (N, channels, h * scale, w * scale). The result may be wrong in the halo. A `valid`
            group returns the part without the halo only.
        valid: Whether the group is a single unpadded convolution with a halo of 1. Its inputs
            extend one pixel beyond the image, where they are zero. The inputs of other groups end
            at the border of the image, so that their own padding acts as it does without tiles.
        fill: Variant of `run` for `valid` groups that writes the result to a given tensor.
        means: Indices of earlier groups whose means over the whole map the group reads, such as
            channel attention does. The group waits until these maps are complete.
        inset: Rows at the top and at the bottom of the output, and columns at the left and at the
            right, that do not count for its mean.

    Example:
        >>> import torch
        >>> group = LayerGroup("double", (IMAGE,), 0, 1, 3, 6, lambda inputs: 2 * inputs[0])
        >>> group.run([torch.ones(1, 3, 4, 4)]).mean().item()
        2.0
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
    means: tuple[int, ...] = ()
    inset: tuple[int, int] = (0, 0)
