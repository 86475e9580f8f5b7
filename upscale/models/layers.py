"""A 3x3 convolution with its activation and residuals, as one step that a kernel can replace."""

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
    """A convolution of the concatenated channels of several maps, with activation and residuals.

    Attributes:
        convolution: Convolution with kernel 3x3, stride 1 and padding 1.
        padding: Padding to use: 1, or 0 for an output without the outermost pixels.
        upsample: Factor of nearest-neighbour upsampling before the convolution, 1 or 2.
        slope: Slope of the activation below zero, one value or one per channel; 1 for none.
        scale: Factor of the result before each residual is added.
        reusable: Whether the result is no longer read when the layer runs again in the same
            thread. Its buffer may then be reused, because the first use of new memory is slow.
    """

    convolution: nn.Conv2d
    padding: int
    upsample: int = 1
    slope: float | Tensor = 1.0
    scale: float = 1.0
    reusable: bool = False


class LayerRun(Protocol):
    """A function that computes a layer."""

    def __call__(
        self,
        maps: Sequence[Tensor],
        residuals: Sequence[Tensor] = (),
        target: Tensor | None = None,
    ) -> Tensor:
        """Compute the layer.

        Args:
            maps: Inputs of shape (N, C, h, w), all of one size.
            residuals: Tensors of the output's shape, added in turn: `residual + scale * result`.
            target: Tensor that receives the result, or None for a new one.

        Returns:
            The result, (N, outputs, h', w').
        """
        ...


LayerMaker = Callable[[Layer], LayerRun]


@dataclass(frozen=True, slots=True)
class LayerStep:
    """A layer without padding, as `run` and `fill` of a `valid` layer group.

    Attributes:
        layer: Layer that reads the first `inputs` sources of the group.
        inputs: Number of sources that the layer reads.
        added: Indices of the sources added to the result as residuals; missing ones are skipped.
    """

    layer: LayerRun
    inputs: int = 1
    added: tuple[int, ...] = ()

    def run(self, sources: Sequence[Tensor]) -> Tensor:
        """Return the result."""
        return self.layer(sources[: self.inputs], self._residuals(sources))

    def fill(self, sources: Sequence[Tensor], target: Tensor) -> None:
        """Write the result to `target`."""
        self.layer(sources[: self.inputs], self._residuals(sources), target)

    def _residuals(self, sources: Sequence[Tensor]) -> list[Tensor]:
        return [sources[i][:, :, 1:-1, 1:-1] for i in self.added if i < len(sources)]


def torch_layer(layer: Layer) -> LayerRun:
    """Return the layer as torch computes it on any device: the reference for every kernel."""
    convolution = layer.convolution
    unpadded = partial(F.conv2d, weight=convolution.weight, bias=convolution.bias)
    convolve = convolution if layer.padding else unpadded

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

    For channels-last maps on a CPU, `torch.cat` along axis 1 is six times slower (measured with
    torch 2.13) than along the last axis of the same memory viewed as (N, h, w, C), and it loses
    the layout of strided views.
    """
    if len(maps) == 1:
        return maps[0]
    if any(tensor.stride(1) != 1 for tensor in maps):
        return torch.cat(list(maps), 1)
    return torch.cat([tensor.permute(0, 2, 3, 1) for tensor in maps], 3).permute(0, 3, 1, 2)
