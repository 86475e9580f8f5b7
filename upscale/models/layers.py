"""A 3x3 convolution with what stands around it, as one step that a faster kernel can take over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A convolution of the joined channels of some maps, its activation and its residuals.

    Attributes:
        convolution: 3x3, stride 1, padding 1.
        padding: 1, or 0 for an output that lacks the outermost pixels.
        upsample: how many pixels each input pixel becomes on either axis first, 1 or 2.
        slope: of the activation below zero, one or one a channel; 1 for none.
        scale: what the result is multiplied with before each residual is added.
        reusable: whether nobody reads a result any more when the layer runs again in the same
            thread: its memory may then be used again, because the first use of new memory is slow.
    """

    convolution: nn.Conv2d
    padding: int
    upsample: int = 1
    slope: float | Tensor = 1.0
    scale: float = 1.0
    reusable: bool = False


class LayerRun(Protocol):
    """A layer ready to run."""

    def __call__(
        self,
        maps: Sequence[Tensor],
        residuals: Sequence[Tensor] = (),
        target: Tensor | None = None,
    ) -> Tensor:
        """From (N, C, h, w) maps of one extent to (N, outputs, h', w').

        Each residual of the output's shape is added in turn: `residual + scale * result`. The
        result is put into `target` where one is given.
        """
        ...


LayerMaker = Callable[[Layer], LayerRun]


def torch_layer(layer: Layer) -> LayerRun:
    """The layer as torch computes it, on any device: the reference for every kernel."""
    convolution = layer.convolution
    bare = partial(F.conv2d, weight=convolution.weight, bias=convolution.bias)
    convolve = convolution if layer.padding else bare

    def run(
        maps: Sequence[Tensor], residuals: Sequence[Tensor] = (), target: Tensor | None = None
    ) -> Tensor:
        x = join(maps)
        if layer.upsample > 1:
            x = F.interpolate(x, scale_factor=layer.upsample, mode="nearest")
        x = _activate(convolve(x), layer.slope)
        for residual in residuals:
            x = torch.add(residual, x, alpha=layer.scale)
        return x if target is None else target.copy_(x)

    return run


def _activate(x: Tensor, slope: float | Tensor) -> Tensor:
    if isinstance(slope, Tensor):
        return F.prelu(x, slope)
    return x if slope == 1 else F.leaky_relu(x, slope, inplace=True)


def join(maps: Sequence[Tensor]) -> Tensor:
    """Concatenate the channels of (N, C, h, w) maps.

    Of channels-last maps, `torch.cat` over axis 1 is six times slower on a CPU (measured, torch
    2.13) than over the last axis of the same memory seen as (N, h, w, C), and of strided views it
    gives up the layout.
    """
    if len(maps) == 1:
        return maps[0]
    if any(tensor.stride(1) != 1 for tensor in maps):
        return torch.cat(list(maps), 1)
    return torch.cat([tensor.permute(0, 2, 3, 1) for tensor in maps], 3).permute(0, 3, 1, 2)
