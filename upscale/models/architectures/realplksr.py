"""RealPLKSR with layer normalisation, a network with large kernels for a part of its channels.

Sources: Lee et al., "Partial Large Kernel CNNs for Efficient Super-Resolution" (2024, arXiv
2404.11848), section 3 and figure 3: in each block, a large kernel reads a quarter of the channels,
and all are multiplied by a gate. neosr's RealPLKSR, whose key names and hyper-parameters are used
here: Mish in the channel mixer, the image repeated for each sub-pixel as a residual, and layer
normalisation of the channels of each pixel at the start of a block.

The variant with group normalisation reads means of the whole image by groups of channels, and that
with DySample reads pixels at computed places. Both are left to spandrel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.models.layers import Layer, LayerMaker, join, torch_layer
from upscale.models.network import Network
from upscale.models.registry import (
    Architecture,
    Detected,
    State,
    UnknownArchitectureError,
    convolution_weight,
    layer_numbers,
    register,
)
from upscale.models.sub_pixels import rescale_last
from upscale.tiling.group import IMAGE, GroupRun, LayerGroup

EPSILON = 1e-6
"""Added to the variance of the channels of a pixel."""

INITIAL_DEVIATION = 0.02
"""Standard deviation of the first weights of most convolutions."""

MIXER_HALO = 2
"""Halo of the two 3x3 convolutions of a channel mixer."""

_KEYS = {"feats.0.weight", "feats.1.lk.conv.weight", "feats.1.layer_norm.weight"}
_UNUSED = 2
"""Numbers of layers that are not blocks: the first convolution, and one without weights."""


@dataclass(frozen=True, slots=True)
class RealPLKSRSpec:
    """The hyper-parameters of a RealPLKSR with layer normalisation.

    Attributes:
        scale: Output pixels per image pixel and axis.
        in_channels: Channels of the image.
        out_channels: Channels of the output image; equal to those of the image.
        features: Channels between the blocks.
        blocks: Number of blocks.
        kernel: Side of the large kernels, an odd number.
        partial: Channels that the large kernels read.
        attention: Whether a block multiplies its channels by a gate.

    Example:
        >>> from upscale.models import RealPLKSRSpec
        >>> RealPLKSRSpec(scale=2).describe()
        'RealPLKSR x2, 28 blocks, 64 features, kernel 17'
    """

    scale: int = 4
    in_channels: int = 3
    out_channels: int = 3
    features: int = 64
    blocks: int = 28
    kernel: int = 17
    partial: int = 16
    attention: bool = True

    def __post_init__(self) -> None:
        if self.in_channels != self.out_channels:
            raise ValueError("the image is added to the output, so that their channels are equal")
        if not self.kernel % 2 or not 1 <= self.partial <= self.features:
            raise ValueError(f"a {self.kernel=} for {self.partial=} channels is not possible")

    def describe(self) -> str:
        """Return a one-line description."""
        return (
            f"RealPLKSR x{self.scale}, {self.blocks} blocks, {self.features} features, "
            f"kernel {self.kernel}"
        )


def _convolution(inputs: int, outputs: int, side: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2)


class _LayerNorm(nn.Module):
    """Normalises the channels of each pixel."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, features, h, w) to the same shape."""
        centred = x - x.mean(1, keepdim=True)
        variance = centred.square().mean(1, keepdim=True)
        normalised = centred / (variance + EPSILON).sqrt()
        return normalised * self.weight[:, None, None] + self.bias[:, None, None]


class _Large(nn.Module):
    """A large kernel for the first channels; the others stay."""

    def __init__(self, partial: int, kernel: int) -> None:
        super().__init__()
        self.conv = _convolution(partial, partial, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, features, h, w) to the same shape."""
        count = self.conv.in_channels
        if count == x.shape[1]:
            return self.conv(x)
        return join([self.conv(x[:, :count]), x[:, count:]])


class _Gate(nn.Module):
    """Multiplies each value by a factor in 0..1."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.f = nn.Sequential(_convolution(features, features), nn.Sigmoid())


class _Block(nn.Module):
    """Layer normalisation, channel mixer, large kernel, gate, 1x1 convolution and a residual."""

    def __init__(self, spec: RealPLKSRSpec) -> None:
        super().__init__()
        width = spec.features
        self.layer_norm = _LayerNorm(width)
        self.channel_mixer = nn.Sequential(
            _convolution(width, 2 * width), nn.Mish(), _convolution(2 * width, width)
        )
        self.lk = _Large(spec.partial, spec.kernel)
        self.attn = _Gate(width) if spec.attention else nn.Identity()
        self.refine = _convolution(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, features, h, w) to the same shape."""
        return _Steps(self, torch_layer).run([x])

    @property
    def mixers(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        """The two convolutions of the channel mixer."""
        return cast(nn.Conv2d, self.channel_mixer[0]), cast(nn.Conv2d, self.channel_mixer[2])


class _Steps:
    """A block as three steps, whose 3x3 convolutions a kernel can replace."""

    def __init__(self, block: _Block, make: LayerMaker) -> None:
        self._block = block
        self._mixers = [make(Layer(each, padding=1)) for each in block.mixers]
        gate = block.attn
        is_gated = isinstance(gate, _Gate)
        self._gate = make(Layer(cast(nn.Conv2d, gate.f[0]), padding=1)) if is_gated else None

    def mix(self, sources: Sequence[Tensor]) -> Tensor:
        """Return the channel mixer's result for the block's input."""
        first, second = self._mixers
        return second([F.mish(first([self._block.layer_norm(sources[0])]))])

    def spread(self, sources: Sequence[Tensor]) -> Tensor:
        """Return the large kernel's result for that of the channel mixer."""
        return self._block.lk(sources[0])

    def close(self, sources: Sequence[Tensor]) -> Tensor:
        """Return the block's output for the large kernel's result and the block's input."""
        x, entry = sources
        if self._gate is not None:
            x = x * self._gate([x]).sigmoid()
        return self._block.refine(x) + entry

    def run(self, sources: Sequence[Tensor]) -> Tensor:
        """Return the block's output for its input."""
        return self.close([self.spread([self.mix(sources)]), sources[0]])


class RealPLKSR(Network[RealPLKSRSpec]):
    """Network with partial large kernels and layer normalisation.

    Maps (N, in_channels, H, W) in 0..1 to (N, out_channels, H * scale, W * scale), not clamped.

    Args:
        spec: Hyper-parameters of the network.

    Example:
        >>> import torch
        >>> from upscale.models import RealPLKSR, RealPLKSRSpec
        >>> network = RealPLKSR(RealPLKSRSpec(features=8, blocks=1, kernel=5, partial=2))
        >>> network(torch.zeros(1, 3, 6, 5)).shape
        torch.Size([1, 3, 24, 20])
    """

    def __init__(self, spec: RealPLKSRSpec) -> None:
        super().__init__(spec)
        width = spec.features
        self.feats = nn.Sequential(
            _convolution(spec.in_channels, width),
            *(_Block(spec) for _ in range(spec.blocks)),
            nn.Identity(),  # dropout in training programs, so that the last one has its number
            _convolution(width, spec.out_channels * spec.scale**2),
        )

    @property
    def blocks(self) -> Sequence[_Block]:
        """The blocks between the first and the last convolution."""
        return cast(Sequence[_Block], list(self.feats)[1:-2])

    def forward(self, x: Tensor) -> Tensor:
        """Upscale (N, in_channels, H, W) to (N, out_channels, H * scale, W * scale)."""
        features = self.feats[0](x)
        for block in self.blocks:
            features = block(features)
        return self._shuffle(self.feats[-1](features), x)

    def _shuffle(self, features: Tensor, image: Tensor) -> Tensor:
        upscaled = F.interpolate(image, scale_factor=self.scale, mode="nearest")
        return F.pixel_shuffle(features, self.scale) + upscaled

    def layer_groups(
        self, *, fine: bool = False, make: LayerMaker = torch_layer
    ) -> tuple[LayerGroup, ...]:
        """Return the first convolution, a group or three for each block, and the tail."""
        spec, width = self.spec, self.spec.features
        first = make(Layer(cast(nn.Conv2d, self.feats[0]), padding=1))
        groups = [
            LayerGroup("first", (IMAGE,), 1, 1, width, spec.in_channels + width,
                       lambda sources: first([sources[0]]))
        ]  # fmt: skip
        block_groups = _fine_groups if fine else _coarse_groups
        for number, block in enumerate(self.blocks):
            groups += block_groups(f"block {number}", block, len(groups) - 1, make)
        groups.append(
            LayerGroup(
                name="tail",
                sources=(len(groups) - 1, IMAGE),
                halo=1,
                scale=spec.scale,
                channels=spec.out_channels,
                workspace=width + 4 * spec.out_channels * spec.scale**2,
                run=self._tail(make),
            )
        )
        return tuple(groups)

    def _tail(self, make: LayerMaker) -> GroupRun:
        last = make(Layer(cast(nn.Conv2d, self.feats[-1]), padding=1))
        return lambda sources: self._shuffle(last([sources[0]]), sources[1])


def _coarse_groups(name: str, block: _Block, entry: int, make: LayerMaker) -> list[LayerGroup]:
    """Return a block as one group."""
    width = block.refine.in_channels
    halo = MIXER_HALO + _large_halo(block) + _gate_halo(block)
    # the input, its normalised copy, both sides of Mish, and the mixed map
    return [LayerGroup(name, (entry,), halo, 1, width, 8 * width, _Steps(block, make).run)]


def _fine_groups(name: str, block: _Block, entry: int, make: LayerMaker) -> list[LayerGroup]:
    """Return a block as channel mixer, large kernel, and the rest, which also reads the entry."""
    width, steps = block.refine.in_channels, _Steps(block, make)
    large, gate = _large_halo(block), _gate_halo(block)
    return [
        LayerGroup(f"{name}.mixer", (entry,), MIXER_HALO, 1, width, 7 * width, steps.mix),
        LayerGroup(f"{name}.kernel", (entry + 1,), large, 1, width, 3 * width, steps.spread),
        LayerGroup(f"{name}.gate", (entry + 2, entry), gate, 1, width, 5 * width, steps.close),
    ]


def _large_halo(block: _Block) -> int:
    return block.lk.conv.kernel_size[0] // 2


def _gate_halo(block: _Block) -> int:
    return int(isinstance(block.attn, _Gate))


def _recognise(state: State) -> Detected[RealPLKSRSpec] | None:
    if (
        not {"feats.0.weight", "feats.1.lk.conv.weight", "feats.1.layer_norm.weight"}
        <= state.keys()
    ):
        return None
    first, large = (convolution_weight(state, f"feats.{n}") for n in ("0", "1.lk.conv"))
    numbers = layer_numbers(state, r"feats\.(#)\.")
    last = max(numbers)
    sub_pixels = convolution_weight(state, f"feats.{last}").shape[0]
    features, inputs = first.shape[:2]
    scale = isqrt(sub_pixels // inputs)
    blocks = last - _UNUSED
    if scale * scale * inputs != sub_pixels or len(numbers) != blocks + 2:
        raise UnknownArchitectureError("its layers are not those of a RealPLKSR")
    try:
        spec = RealPLKSRSpec(
            scale=scale,
            in_channels=inputs,
            out_channels=inputs,
            features=features,
            blocks=blocks,
            kernel=large.shape[2],
            partial=large.shape[0],
            attention="feats.1.attn.f.0.weight" in state,
        )
    except ValueError as error:
        raise UnknownArchitectureError(f"it is not a supported RealPLKSR: {error}") from error
    return Detected(spec, dict(state))


def _initialise(network: nn.Module) -> None:
    """Draw small weights for all convolutions but the first ones of the channel mixers."""
    mixers = [module.mixers[0] for module in network.modules() if isinstance(module, _Block)]
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module not in mixers:
            nn.init.trunc_normal_(module.weight, std=INITIAL_DEVIATION)


def _rescale(state: State, old: RealPLKSRSpec, new: RealPLKSRSpec) -> State:
    """Move weights to another scale: only the last convolution depends on it."""
    last = f"feats.{old.blocks + _UNUSED}."
    return rescale_last(state, last, old.out_channels, old.scale, new.scale)


register(
    Architecture(
        name="realplksr",
        title="RealPLKSR",
        spec_type=RealPLKSRSpec,
        build=RealPLKSR,
        recognise=_recognise,
        initialise=_initialise,
        rescale=_rescale,
    )
)
