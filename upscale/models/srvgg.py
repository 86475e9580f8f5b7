"""SRVGGNetCompact, the small VGG-style network of Real-ESRGAN's video and general models.

Source: Wang et al., "AnimeSR" (2022) and the Real-ESRGAN release notes v0.2.5: convolutions and
PReLU at input resolution, one pixel-shuffle, and the upscaled input as a shortcut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from upscale.models.groups import LayerStep
from upscale.models.layers import Layer, LayerMaker, LayerRun, torch_layer
from upscale.tiling.group import IMAGE, GroupRun, LayerGroup

LAYERS_PER_STAGE = 4


@dataclass(frozen=True, slots=True)
class SRVGGSpec:
    """The hyper-parameters of an SRVGGNetCompact.

    Attributes:
        scale: output pixels per image pixel and axis.
        in_channels: channels of the image.
        out_channels: channels of the result.
        features: channels between the convolutions.
        convolutions: those between the first and the last.
    """

    scale: int = 4
    in_channels: int = 3
    out_channels: int = 3
    features: int = 64
    convolutions: int = 16

    def describe(self) -> str:
        """One line for people."""
        return (
            f"SRVGGNetCompact x{self.scale}, {self.convolutions} convolutions, "
            f"{self.features} features"
        )


class SRVGGNetCompact(nn.Module):
    """Compact VGG-style network.

    Maps (N, in_channels, H, W) in [0, 1] to (N, out_channels, H * scale, W * scale), not clamped.
    """

    unshuffle = 1

    def __init__(self, spec: SRVGGSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.features
        layers: list[nn.Module] = []
        for inputs in (spec.in_channels, *[width] * spec.convolutions):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.PReLU(width)]
        layers.append(nn.Conv2d(width, spec.out_channels * spec.scale**2, 3, padding=1))
        self.body = nn.Sequential(*layers)

    @property
    def scale(self) -> int:
        """Output pixels per image pixel and axis."""
        return self.spec.scale

    def forward(self, x: Tensor) -> Tensor:
        """Upscale (N, in_channels, H, W) to (N, out_channels, H * scale, W * scale)."""
        return self._shuffle(self.body(x), x)

    def _shuffle(self, features: Tensor, image: Tensor) -> Tensor:
        upscaled = F.interpolate(image, scale_factor=self.scale, mode="nearest")
        return F.pixel_shuffle(features, self.scale) + upscaled

    def groups(
        self, *, fine: bool = False, make: LayerMaker = torch_layer
    ) -> tuple[LayerGroup, ...]:
        """The hidden layers, one or a few a group; the last convolution and the pixel-shuffle."""
        spec = self.spec
        hidden = spec.convolutions + 1
        cuts = [*range(0, hidden, 1 if fine else LAYERS_PER_STAGE), hidden]
        groups: list[LayerGroup] = []
        for start, stop in pairwise(cuts):
            layers = cast(nn.Sequential, self.body[2 * start : 2 * stop])
            step = _step(layers, make) if fine else None
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
        return lambda planes: self._shuffle(last([planes[0]]), planes[1])


def _runner(layers: nn.Sequential, make: LayerMaker) -> GroupRun:
    """A few convolutions and their PReLUs."""
    pairs = (cast(nn.Sequential, layers[i : i + 2]) for i in range(0, len(layers), 2))
    steps = [_layer(pair, make, padding=1) for pair in pairs]

    def run(planes: Sequence[Tensor]) -> Tensor:
        x = planes[0]
        for step in steps:
            x = step([x])
        return x

    return run


def _step(layers: nn.Sequential, make: LayerMaker) -> LayerStep:
    """One convolution, without its padding, and its PReLU."""
    return LayerStep(_layer(layers, make, padding=0))


def _layer(layers: nn.Sequential, make: LayerMaker, padding: int) -> LayerRun:
    convolution, activation = cast(tuple[nn.Conv2d, nn.PReLU], tuple(layers))
    return make(Layer(convolution, padding=padding, slope=activation.weight))
