"""SRVGGNetCompact, the small VGG-style network of Real-ESRGAN's video and general models.

Sources: Wang et al., "AnimeSR" (2022), and the Real-ESRGAN release notes v0.2.5: convolutions and
PReLU at input resolution, one pixel-shuffle, and the upsampled input as a residual.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from upscale.models.layers import Layer, LayerMaker, LayerRun, LayerStep, torch_layer
from upscale.models.network import Network
from upscale.models.registry import (
    Architecture,
    Detected,
    State,
    convolution_weight,
    layer_numbers,
    register,
)
from upscale.models.sub_pixels import rescale_last
from upscale.tiling.group import IMAGE, GroupRun, LayerGroup

LAYERS_PER_GROUP = 4
"""Convolutions of a coarse layer group."""


@dataclass(frozen=True, slots=True)
class SRVGGSpec:
    """The hyper-parameters of an SRVGGNetCompact.

    Attributes:
        scale: Output pixels per image pixel and axis.
        in_channels: Channels of the image.
        out_channels: Channels of the output image.
        features: Channels between the convolutions.
        convolutions: Number of convolutions between the first and the last one.

    Example:
        >>> from upscale.models import SRVGGSpec
        >>> SRVGGSpec(scale=2, convolutions=32).describe()
        'SRVGGNetCompact x2, 32 convolutions, 64 features'
    """

    scale: int = 4
    in_channels: int = 3
    out_channels: int = 3
    features: int = 64
    convolutions: int = 16

    def describe(self) -> str:
        """Return a one-line description."""
        return (
            f"SRVGGNetCompact x{self.scale}, {self.convolutions} convolutions, "
            f"{self.features} features"
        )


class SRVGGNetCompact(Network[SRVGGSpec]):
    """Compact VGG-style network.

    Maps (N, in_channels, H, W) in 0..1 to (N, out_channels, H * scale, W * scale), not clamped.

    Args:
        spec: Hyper-parameters of the network.

    Example:
        >>> import torch
        >>> from upscale.models import SRVGGNetCompact, SRVGGSpec
        >>> network = SRVGGNetCompact(SRVGGSpec(features=8, convolutions=1))
        >>> network(torch.zeros(1, 3, 6, 5)).shape
        torch.Size([1, 3, 24, 20])
    """

    def __init__(self, spec: SRVGGSpec) -> None:
        super().__init__(spec)
        width = spec.features
        layers: list[nn.Module] = []
        for inputs in (spec.in_channels, *[width] * spec.convolutions):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.PReLU(width)]
        layers.append(nn.Conv2d(width, spec.out_channels * spec.scale**2, 3, padding=1))
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale (N, in_channels, H, W) to (N, out_channels, H * scale, W * scale)."""
        return self._shuffle(self.body(x), x)

    def _shuffle(self, features: Tensor, image: Tensor) -> Tensor:
        upscaled = F.interpolate(image, scale_factor=self.scale, mode="nearest")
        return F.pixel_shuffle(features, self.scale) + upscaled

    def layer_groups(
        self, *, fine: bool = False, make: LayerMaker = torch_layer
    ) -> tuple[LayerGroup, ...]:
        """Return the hidden layers, one or a few per group, and the tail with the pixel-shuffle."""
        spec = self.spec
        hidden = spec.convolutions + 1
        edges = [*range(0, hidden, 1 if fine else LAYERS_PER_GROUP), hidden]
        groups: list[LayerGroup] = []
        for start, stop in pairwise(edges):
            layers = cast(nn.Sequential, self.body[2 * start : 2 * stop])
            step = LayerStep(_layer(layers, make, padding=0)) if fine else None
            groups.append(
                LayerGroup(
                    name=f"layers {start}-{stop - 1}",
                    sources=(len(groups) - 1,),  # the first reads IMAGE
                    halo=stop - start,
                    scale=1,
                    channels=spec.features,
                    workspace=3 * spec.features,
                    run=_runner(layers, make) if step is None else step.run,
                    valid=fine,
                    fill=None if step is None else step.fill,
                )
            )
        groups.append(
            LayerGroup(
                name="tail",
                sources=(len(groups) - 1, IMAGE),
                halo=1,
                scale=spec.scale,
                channels=spec.out_channels,
                workspace=spec.features + 4 * spec.out_channels * spec.scale**2,
                run=self._tail(make),
            )
        )
        return tuple(groups)

    def _tail(self, make: LayerMaker) -> GroupRun:
        last = make(Layer(cast(nn.Conv2d, self.body[-1]), padding=1, reusable=True))
        return lambda sources: self._shuffle(last([sources[0]]), sources[1])


def _runner(layers: nn.Sequential, make: LayerMaker) -> GroupRun:
    """Return a function that computes a few convolutions and their PReLUs."""
    pairs = (cast(nn.Sequential, layers[i : i + 2]) for i in range(0, len(layers), 2))
    steps = [_layer(pair, make, padding=1) for pair in pairs]

    def run(sources: Sequence[Tensor]) -> Tensor:
        x = sources[0]
        for step in steps:
            x = step([x])
        return x

    return run


def _layer(layers: nn.Sequential, make: LayerMaker, padding: int) -> LayerRun:
    convolution, activation = cast(tuple[nn.Conv2d, nn.PReLU], tuple(layers))
    return make(Layer(convolution, padding=padding, slope=activation.weight))


def _recognise(state: State) -> Detected[SRVGGSpec] | None:
    if "body.0.weight" not in state or "body.1.weight" not in state:
        return None
    if state["body.1.weight"].ndim != 1:
        return None
    first = convolution_weight(state, "body.0")
    last = max(layer_numbers(state, r"body\.(#)\.weight$"))
    inputs, outputs = first.shape[1], convolution_weight(state, f"body.{last}").shape[0]
    scale = math.isqrt(outputs // inputs)
    if last % 2 or scale * scale * inputs != outputs:
        return None
    spec = SRVGGSpec(scale, inputs, inputs, features=first.shape[0], convolutions=last // 2 - 1)
    return Detected(spec, dict(state))


def _rescale(state: State, old: SRVGGSpec, new: SRVGGSpec) -> State:
    """Move weights to another scale: only the last convolution depends on it."""
    last = f"body.{2 * old.convolutions + 2}."
    return rescale_last(state, last, old.out_channels, old.scale, new.scale)


register(
    Architecture(
        name="srvgg",
        title="SRVGGNetCompact",
        spec_type=SRVGGSpec,
        build=SRVGGNetCompact,
        recognise=_recognise,
        rescale=_rescale,
    )
)
