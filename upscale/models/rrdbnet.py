"""RRDBNet, the generator of ESRGAN and Real-ESRGAN.

Sources: Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks" (2018),
section 3.1 and figure 4 (residual-in-residual dense block, residual scaling 0.2); Wang et al.,
"Real-ESRGAN" (2021), figure 4 (pixel-unshuffle in front for x2 and x1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.models.groups import LayerStep
from upscale.models.layers import Layer, LayerMaker, join, torch_layer
from upscale.tiling.group import IMAGE, LayerGroup

RESIDUAL_SCALE = 0.2
NEGATIVE_SLOPE = 0.2
BLOCK_HALO = 5
"""Five 3x3 convolutions in a row."""


@dataclass(frozen=True, slots=True)
class RRDBSpec:
    """The hyper-parameters of an RRDBNet.

    Attributes:
        in_channels: channels of the image, before the pixel-unshuffle.
        out_channels: channels of the result.
        features: channels between the blocks.
        blocks: number of residual-in-residual dense blocks.
        growth: channels that each convolution of a dense block adds.
        unshuffle: side of the pixel-unshuffle in front (1 = none; Real-ESRGAN: 2 for x2, 4 for x1).
        upsamples: number of nearest-neighbour doublings in the tail (2 in Real-ESRGAN).
    """

    in_channels: int = 3
    out_channels: int = 3
    features: int = 64
    blocks: int = 23
    growth: int = 32
    unshuffle: int = 1
    upsamples: int = 2

    def __post_init__(self) -> None:
        if self.tail_scale % self.unshuffle:
            raise ValueError(f"an unshuffle of {self.unshuffle} needs more than {self.upsamples=}")

    @property
    def tail_scale(self) -> int:
        """Output pixels per feature pixel and axis."""
        return 1 << self.upsamples

    @property
    def scale(self) -> int:
        """Output pixels per image pixel and axis."""
        return self.tail_scale // self.unshuffle

    def describe(self) -> str:
        """One line for people."""
        return (
            f"RRDBNet x{self.scale}, {self.blocks} blocks, "
            f"{self.features} features, growth {self.growth}"
        )


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, NEGATIVE_SLOPE, inplace=True)


def _add_scaled(residual: Tensor, x: Tensor) -> Tensor:
    """`x + RESIDUAL_SCALE * residual` in one pass."""
    return torch.add(x, residual, alpha=RESIDUAL_SCALE)


class DenseBlock(nn.Module):
    """Five convolutions, each reading all that came before it: (N, features, h, w) to the same."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = _convolution(features, growth)
        self.conv2 = _convolution(features + growth, growth)
        self.conv3 = _convolution(features + 2 * growth, growth)
        self.conv4 = _convolution(features + 3 * growth, growth)
        self.conv5 = _convolution(features + 4 * growth, features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, features, h, w) to (N, features, h, w)."""
        maps = [x]
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            maps.append(_activate(convolution(join(maps))))
        return _add_scaled(self.conv5(join(maps)), x)


class RRDB(nn.Module):
    """Residual-in-residual dense block: three dense blocks and a scaled shortcut."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(features, growth)
        self.rdb2 = DenseBlock(features, growth)
        self.rdb3 = DenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, features, h, w) to (N, features, h, w)."""
        return _add_scaled(self.rdb3(self.rdb2(self.rdb1(x))), x)


class RRDBNet(nn.Module):
    """Residual-in-residual dense network.

    Maps (N, in_channels, H, W) in [0, 1] to (N, out_channels, H * scale, W * scale), not clamped.
    H and W are multiples of the unshuffle.
    """

    def __init__(self, spec: RRDBSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.features
        self.conv_first = _convolution(spec.in_channels * spec.unshuffle**2, width)
        self.body = nn.Sequential(*(RRDB(width, spec.growth) for _ in range(spec.blocks)))
        self.conv_body = _convolution(width, width)
        for number in range(1, spec.upsamples + 1):
            self.add_module(f"conv_up{number}", _convolution(width, width))
        self.conv_hr = _convolution(width, width)
        self.conv_last = _convolution(width, spec.out_channels)

    @property
    def scale(self) -> int:
        """Output pixels per image pixel and axis."""
        return self.spec.scale

    @property
    def unshuffle(self) -> int:
        """Image pixels per feature pixel and axis."""
        return self.spec.unshuffle

    def forward(self, x: Tensor) -> Tensor:
        """Upscale (N, in_channels, H, W) to (N, out_channels, H * scale, W * scale)."""
        if self.unshuffle > 1:
            x = F.pixel_unshuffle(x, self.unshuffle)
        shallow = self.conv_first(x)
        return _Tail(self, torch_layer).upsample(self.body(shallow), shallow)

    def groups(
        self, *, fine: bool = False, make: LayerMaker = torch_layer
    ) -> tuple[LayerGroup, ...]:
        """The first convolution, every dense block (or each of its convolutions), the tail.

        The tail computes the first convolution again from the image instead of reading a plane
        that would have to live from one end of the network to the other.
        """
        width = self.spec.features
        unshuffled = self.spec.in_channels * self.unshuffle**2
        first = make(Layer(self.conv_first, padding=1))
        groups = [LayerGroup("first", (IMAGE,), 1, 1, width, unshuffled + 2 * width, first)]
        for number, block in enumerate(cast(Sequence[RRDB], list(self.body))):
            entry = len(groups) - 1
            for part, dense in enumerate((block.rdb1, block.rdb2, block.rdb3), start=1):
                shortcut = entry if part == 3 else None
                name, source = f"block {number}.{part}", len(groups) - 1
                if fine:
                    groups += _convolution_groups(name, dense, source, shortcut, make)
                else:
                    groups += _block_group(name, dense, source, shortcut, make)
        tail_scale = self.spec.tail_scale
        # an upscaled map and its convolution, or a convolution's input and output
        tail_workspace = (2 * width + self.spec.out_channels) * tail_scale**2 + 2 * width
        groups.append(
            LayerGroup("tail", (len(groups) - 1, IMAGE), _tail_halo(self.spec.upsamples), tail_scale,
                  self.spec.out_channels, tail_workspace, _Tail(self, make).run)
        )  # fmt: skip
        return tuple(groups)


class _Tail:
    """From the features after the body, and before it, to the image."""

    def __init__(self, network: RRDBNet, make: LayerMaker) -> None:
        doublings = [
            cast(nn.Conv2d, network.get_submodule(f"conv_up{number}"))
            for number in range(1, network.spec.upsamples + 1)
        ]
        layer = partial(Layer, padding=1, reusable=True)
        self._first = make(layer(network.conv_first))
        self._body = make(layer(network.conv_body))
        self._later = [
            *(make(layer(up, upsample=2, slope=NEGATIVE_SLOPE)) for up in doublings),
            make(layer(network.conv_hr, slope=NEGATIVE_SLOPE)),
            make(Layer(network.conv_last, padding=1)),
        ]

    def upsample(self, deep: Tensor, shallow: Tensor) -> Tensor:
        """From (N, features, h, w) maps to (N, out_channels, h * tail_scale, w * tail_scale)."""
        x = self._body([deep], [shallow])
        for layer in self._later:
            x = layer([x])
        return x

    def run(self, planes: Sequence[Tensor]) -> Tensor:
        """The same from the features after the body and the network's input."""
        return self.upsample(planes[0], self._first([planes[1]]))


class _Block:
    """A dense block, and what the last one of an RRDB adds, in one go.

    The maps that it grows are written beside each other into one tensor, so that later layers can
    read them where they lie.
    """

    def __init__(self, block: DenseBlock, make: LayerMaker) -> None:
        growing = (block.conv1, block.conv2, block.conv3, block.conv4)
        self._growth = block.conv1.out_channels
        self._growing = [make(Layer(each, padding=1, slope=NEGATIVE_SLOPE)) for each in growing]
        self._last = make(Layer(block.conv5, padding=1, scale=RESIDUAL_SCALE))

    def run(self, planes: Sequence[Tensor]) -> Tensor:
        """From the block's input, and the plane to be added, to (N, features, h, w)."""
        x = planes[0]
        count, _, height, width = x.shape
        growth, channels = self._growth, self._growth * len(self._growing)
        grown = x.new_empty(count, height, width, channels).permute(0, 3, 1, 2)
        for start, layer in zip(range(0, channels, growth), self._growing, strict=True):
            maps = [x, grown[:, :start]] if start else [x]
            layer(maps, target=grown[:, start : start + growth])
        return self._last([x, grown], planes)


def _block_group(
    name: str, block: DenseBlock, entry: int, shortcut: int | None, make: LayerMaker
) -> list[LayerGroup]:
    """A dense block as one group; `shortcut` is the plane that the last block of an RRDB adds."""
    width, growth = block.conv1.in_channels, block.conv1.out_channels
    sources = (entry,) if shortcut is None else (entry, shortcut)
    # input, four maps, their concatenation and the output
    workspace = (2 + len(sources)) * width + 8 * growth
    run = _Block(block, make).run
    return [LayerGroup(name, sources, BLOCK_HALO, 1, width, workspace, run)]


def _convolution_groups(
    name: str, block: DenseBlock, entry: int, shortcut: int | None, make: LayerMaker
) -> list[LayerGroup]:
    """A dense block as one group a convolution."""
    width, growth = block.conv1.in_channels, block.conv1.out_channels
    maps = [entry, *(entry + i for i in range(1, 5))]
    groups: list[LayerGroup] = []
    for i, convolution in enumerate((block.conv1, block.conv2, block.conv3, block.conv4)):
        step = LayerStep(make(Layer(convolution, padding=0, slope=NEGATIVE_SLOPE)), i + 1)
        workspace = width + (i + 1) * growth
        groups.append(
            LayerGroup(f"{name}.{i + 1}", tuple(maps[: i + 1]), 1, 1, growth, workspace, step.run,
                  valid=True, fill=step.fill)
        )  # fmt: skip
    step = LayerStep(make(Layer(block.conv5, padding=0, scale=RESIDUAL_SCALE)), 5, added=(0, 5))
    sources = (*maps, *(() if shortcut is None else (shortcut,)))
    workspace = 3 * width + 4 * growth + (width if shortcut is not None else 0)
    groups.append(
        LayerGroup(
            f"{name}.5", sources, 1, 1, width, workspace, step.run, valid=True, fill=step.fill
        )
    )
    return groups


def _tail_halo(upsamples: int) -> int:
    """Feature pixels beyond a tile that the tail depends on, counted from the last layer back."""
    margin = 2  # conv_hr and conv_last
    for _ in range(upsamples):
        margin = (margin + 1 + 1) // 2  # the convolution after a doubling, then half, rounded up
    return margin + 1  # conv_body; conv_first, read beside it, is no deeper
