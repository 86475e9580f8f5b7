"""The network that is trained on one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.models.layers import Layer, LayerMaker, torch_layer
from upscale.models.network import Network
from upscale.tiling.group import IMAGE, GroupRun, LayerGroup
from upscale_training.zero_shot.resampling import downscale, upscale, upscaling_weights

SLOPE = 0.2
"""Slope of the activations below zero; with a slope of 0, most features died in training."""


@dataclass(frozen=True, slots=True)
class ZeroShotSpec:
    """The hyper-parameters of a network for one image.

    Attributes:
        scale: Output pixels per image pixel and axis.
        features: Channels between the convolutions.
        convolutions: Number of convolutions.
        kernel_side: Side of the kernel that the image was downscaled with, in output pixels.
        back_projections: Corrections of the output, each of which makes it more similar to the
            image when it is downscaled with the kernel.
    """

    scale: int = 2
    features: int = 32
    convolutions: int = 6
    kernel_side: int = 9
    back_projections: int = 0

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return 3

    @property
    def out_channels(self) -> int:
        """Channels of the output image."""
        return 3

    def describe(self) -> str:
        """Return a one-line description."""
        return f"zero-shot x{self.scale}, {self.convolutions} convolutions"


class ZeroShotNetwork(Network[ZeroShotSpec]):
    """Bicubic interpolation plus a residual of convolutions with ReLU.

    The convolutions work at the resolution of the image, and a pixel-shuffle follows, unlike those
    of the paper, which work on the interpolated image: that takes a quarter of the time for x2.

    Maps (N, 3, H, W) in 0..1 to (N, 3, H * scale, W * scale), not clamped.

    Args:
        spec: Hyper-parameters.
        kernel: Kernel of the downscaling, (kernel_side, kernel_side).
        random: Source of the first weights.
    """

    kernel: Tensor
    interpolation: Tensor

    def __init__(self, spec: ZeroShotSpec, kernel: Tensor, random: torch.Generator) -> None:
        super().__init__(spec)
        hidden = [spec.features] * (spec.convolutions - 1)
        sides = (3, *hidden, 3 * spec.scale**2)
        self.body = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            for inputs, outputs in pairwise(sides)
        )
        for number, layer in enumerate(self._convolutions(), 1):
            _initialise(layer, random, is_last=number == spec.convolutions)
        self.register_buffer("kernel", kernel)
        self.register_buffer("interpolation", upscaling_weights(spec.scale))

    def forward(self, image: Tensor) -> Tensor:
        """Upscale (N, 3, H, W) to (N, 3, H * scale, W * scale)."""
        parts = self._interpolated(image, self._residual(image))
        for _ in range(self.spec.back_projections):
            parts = self._back_projected(parts, image)
        return F.pixel_shuffle(parts, self.scale)

    def predict(self, image: Tensor) -> Tensor:
        """Upscale without back-projection, as in training."""
        return F.pixel_shuffle(self._interpolated(image, self._residual(image)), self.scale)

    def layer_groups(
        self, *, fine: bool = False, make: LayerMaker = torch_layer
    ) -> tuple[LayerGroup, ...]:
        """Return each convolution, the interpolation, each back-projection and the pixel-shuffle.

        Args:
            fine: Ignored: every convolution is a group of its own.
            make: Function that turns a `Layer` into the function that computes it.
        """
        spec, count = self.spec, self.spec.convolutions
        groups = [self._convolution_group(index, make) for index in range(count)]
        parts = 3 * spec.scale**2
        groups.append(
            _group("interpolation", (IMAGE, count - 1), 2, parts, self._add_interpolation)
        )
        reach = -(-(spec.kernel_side // 2) // spec.scale) + 2
        for index in range(spec.back_projections):
            sources = (count + index, IMAGE)
            groups.append(
                _group(f"back-projection {index}", sources, reach, parts, self._back_project)
            )
        groups.append(
            LayerGroup(
                name="pixel-shuffle",
                sources=(len(groups) - 1,),
                halo=0,
                scale=spec.scale,
                channels=3,
                workspace=2 * parts,
                run=lambda sources: F.pixel_shuffle(sources[0], spec.scale),
            )
        )
        return tuple(groups)

    def _convolution_group(self, index: int, make: LayerMaker) -> LayerGroup:
        layer = self._convolutions()[index]
        is_last = index == self.spec.convolutions - 1
        compute = make(Layer(layer, padding=1, slope=1.0 if is_last else SLOPE))
        return LayerGroup(
            name=f"convolution {index}",
            sources=(index - 1,),  # the first reads IMAGE
            halo=1,
            scale=1,
            channels=layer.out_channels,
            workspace=layer.in_channels + 2 * layer.out_channels,
            run=lambda sources: compute(sources[:1]),
        )

    def _convolutions(self) -> list[nn.Conv2d]:
        return [layer for layer in self.body if isinstance(layer, nn.Conv2d)]

    def _residual(self, image: Tensor) -> Tensor:
        *hidden, last = self.body
        x = image
        for layer in hidden:
            x = F.leaky_relu(layer(x), SLOPE)
        return last(x)

    def _interpolated(self, image: Tensor, residual: Tensor) -> Tensor:
        return upscale(image, self.interpolation) + residual

    def _back_projected(self, parts: Tensor, image: Tensor) -> Tensor:
        small = downscale(F.pixel_shuffle(parts, self.scale), self.kernel, self.scale)
        return parts + upscale(image - small, self.interpolation)

    def _add_interpolation(self, sources: Sequence[Tensor]) -> Tensor:
        return self._interpolated(sources[0], sources[1])

    def _back_project(self, sources: Sequence[Tensor]) -> Tensor:
        return self._back_projected(sources[0], sources[1])


def _group(
    name: str, sources: tuple[int, ...], halo: int, channels: int, run: GroupRun
) -> LayerGroup:
    return LayerGroup(name, sources, halo, 1, channels, 6 * channels, run)


def _initialise(layer: nn.Conv2d, random: torch.Generator, *, is_last: bool) -> None:
    """Set random weights, those of the last layer small: training starts from interpolation."""
    deviation = (2 / (layer.in_channels * 9)) ** 0.5 * (0.1 if is_last else 1)
    with torch.no_grad():
        layer.weight.normal_(0, deviation, generator=random)
