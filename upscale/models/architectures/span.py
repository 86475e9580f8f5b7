"""SPAN, a small network whose attention has no parameters.

Source: Wan et al., "Swift Parameter-free Attention Network for Efficient Super-Resolution" (arXiv
2311.12770): six blocks of three convolutions at input resolution, each scaled by an odd function of
its own result, and one pixel-shuffle. Checkpoints contain each 3x3 convolution as the sum of a 1x1
convolution and a chain of three; they are folded into one here.
"""

from __future__ import annotations

import re
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
    UnfitStateError,
    UnknownArchitectureError,
    convolution_weight,
    register,
)
from upscale.models.sub_pixels import rescale_last
from upscale.tiling.group import IMAGE, GroupRun, LayerGroup

BLOCKS = 6
MEAN = (0.4488, 0.4371, 0.4040)
"""Mean red, green and blue of DIV2K, which networks with normalisation subtract."""

RANGE = 255.0
"""Factor of a normalised image."""

CHAIN_WIDTH = 2
"""Channels inside a stored chain of convolutions, divided by those outside."""


@dataclass(frozen=True, slots=True)
class SPANSpec:
    """The hyper-parameters of a SPAN.

    Attributes:
        scale: Output pixels per image pixel and axis.
        in_channels: Channels of the image.
        out_channels: Channels of the output image.
        features: Channels between the convolutions.
        normalised: Whether the network subtracts the mean of DIV2K and multiplies by 255 first.

    Example:
        >>> from upscale.models import SPANSpec
        >>> SPANSpec(scale=2).describe()
        'SPAN x2, 48 features'
    """

    scale: int = 4
    in_channels: int = 3
    out_channels: int = 3
    features: int = 48
    normalised: bool = True

    def describe(self) -> str:
        """Return a one-line description."""
        return f"SPAN x{self.scale}, {self.features} features"


class _Block(nn.Module):
    """Three convolutions and the attention."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.c1_r = nn.Conv2d(features, features, 3, padding=1)
        self.c2_r = nn.Conv2d(features, features, 3, padding=1)
        self.c3_r = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the result for (N, features, H, W), and that of the first convolution."""
        start = F.silu(self.c1_r(x))
        return _attend(self.c3_r(F.silu(self.c2_r(start))), x), start


class SPAN(Network[SPANSpec]):
    """Swift parameter-free attention network.

    Maps (N, in_channels, H, W) in 0..1 to (N, out_channels, H * scale, W * scale), not clamped.

    Args:
        spec: Hyper-parameters of the network.

    Example:
        >>> import torch
        >>> from upscale.models import SPAN, SPANSpec
        >>> SPAN(SPANSpec(features=8))(torch.zeros(1, 3, 6, 5)).shape
        torch.Size([1, 3, 24, 20])
    """

    mean: Tensor

    def __init__(self, spec: SPANSpec) -> None:
        super().__init__(spec)
        width = spec.features
        mean = torch.tensor(MEAN if spec.in_channels == len(MEAN) else [sum(MEAN) / len(MEAN)])
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        if not spec.normalised:
            self.register_buffer("no_norm", torch.zeros(1))
        self.conv_1 = nn.Conv2d(spec.in_channels, width, 3, padding=1)
        for number in range(1, BLOCKS + 1):
            self.add_module(f"block_{number}", _Block(width))
        self.conv_cat = nn.Conv2d(4 * width, width, 1)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)
        self.upsampler = nn.Sequential(
            nn.Conv2d(width, spec.out_channels * spec.scale**2, 3, padding=1),
            nn.PixelShuffle(spec.scale),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Upscale (N, in_channels, H, W) to (N, out_channels, H * scale, W * scale)."""
        first = self.conv_1(self._normalise(x))
        early, _ = self._block(1)(first)
        deep, late = early, early
        for number in range(2, BLOCKS + 1):
            deep, late = self._block(number)(deep)
        joined = torch.cat([first, self.conv_2(deep), early, late], 1)
        return self.upsampler(self.conv_cat(joined))

    def layer_groups(
        self, *, fine: bool = False, make: LayerMaker = torch_layer
    ) -> tuple[LayerGroup, ...]:
        """Return the first convolution, the blocks or their convolutions, and the tail.

        The tail reads the result of the first convolution of the last block, which is therefore a
        group of its own, and computes the first convolution again instead of keeping its result.
        """
        width, inputs = self.spec.features, self.spec.in_channels
        groups = [LayerGroup("first", (IMAGE,), 1, 1, width, 2 * inputs + width, self._first(make))]
        for number in range(1, BLOCKS + 1):
            block = self._block(number)
            cuts = (1, 2) if fine else (1,) if number == BLOCKS else ()
            groups += _block_groups(f"block {number}", block, len(groups) - 1, cuts, make)
        first_block, last_start = (3, len(groups) - 3) if fine else (1, len(groups) - 2)
        groups.append(
            LayerGroup(
                name="tail",
                sources=(len(groups) - 1, first_block, last_start, IMAGE),
                halo=2,
                scale=self.scale,
                channels=self.spec.out_channels,
                workspace=10 * width + 2 * self.spec.out_channels * self.scale**2,
                run=self._tail(make),
            )
        )
        return tuple(groups)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The six blocks."""
        return [self._block(number) for number in range(1, BLOCKS + 1)]

    def _block(self, number: int) -> _Block:
        return cast(_Block, self.get_submodule(f"block_{number}"))

    def _first(self, make: LayerMaker) -> GroupRun:
        layer = make(Layer(self.conv_1, padding=1))
        return lambda sources: layer([self._normalise(sources[0])])

    def _normalise(self, image: Tensor) -> Tensor:
        return (image - self.mean) * RANGE if self.spec.normalised else image

    def _tail(self, make: LayerMaker) -> GroupRun:
        first = self._first(make)
        deep = make(Layer(self.conv_2, padding=1))
        last = make(Layer(cast(nn.Conv2d, self.upsampler[0]), padding=1))

        def run(sources: Sequence[Tensor]) -> Tensor:
            end, early, late, image = sources
            joined = self.conv_cat(join([first([image]), deep([end]), early, late]))
            return F.pixel_shuffle(last([joined]), self.scale)

        return run


def _block_groups(
    name: str, block: _Block, entry: int, cuts: Sequence[int], make: LayerMaker
) -> list[LayerGroup]:
    """Return a block, cut after some of its convolutions; the last group also reads the entry."""
    convolutions = (block.c1_r, block.c2_r, block.c3_r)
    width = block.c1_r.in_channels
    groups: list[LayerGroup] = []
    for start, stop in zip((0, *cuts), (*cuts, 3), strict=True):
        run = _runner(convolutions[start:stop], make, last=stop == 3)
        source = entry + len(groups)
        sources = (source, entry) if stop == 3 and start else (source,)
        label = name if not cuts else f"{name}.{start + 1}"
        groups.append(LayerGroup(label, sources, stop - start, 1, width, 5 * width, run))
    return groups


def _runner(convolutions: Sequence[nn.Conv2d], make: LayerMaker, *, last: bool) -> GroupRun:
    """Return a function that computes convolutions of a block, and its attention after the last."""
    layers = [make(Layer(convolution, padding=1)) for convolution in convolutions]

    def run(sources: Sequence[Tensor]) -> Tensor:
        x = sources[0]
        for layer in layers[: -1 if last else None]:
            x = F.silu(layer([x]))
        if not last:
            return x
        return _attend(layers[-1]([x]), sources[-1])

    return run


def _attend(result: Tensor, entry: Tensor) -> Tensor:
    """Return a block's output for the result of its convolutions and its input."""
    return (result + entry) * (result.sigmoid() - 0.5)


def _recognise(state: State) -> Detected[SPANSpec] | None:
    if not any(key in state for key in ("block_1.c1_r.weight", "block_1.c1_r.eval_conv.weight")):
        return None
    folded = _folded(state)
    first = convolution_weight(folded, "conv_1")
    features, inputs = first.shape[:2]
    sub_pixels = convolution_weight(folded, "upsampler.0").shape[0]
    scale = isqrt(sub_pixels // inputs)
    if scale * scale * inputs != sub_pixels:
        raise UnknownArchitectureError("its upsampler does not match the channels of a SPAN")
    return Detected(
        SPANSpec(scale, inputs, inputs, features, normalised="no_norm" not in state), folded
    )


def _folded(state: State) -> dict[str, Tensor]:
    """Return the state dict with one 3x3 convolution for each sum of convolutions."""
    folded: dict[str, Tensor] = {}
    for key, tensor in state.items():
        match = re.match(r"(.*)\.(sk|conv\.\d|eval_conv)\.(weight|bias)$", key)
        if match is None:
            folded[key] = tensor
        elif match[2] == "eval_conv":
            folded[f"{match[1]}.{match[3]}"] = tensor
    for name in [key.removesuffix(".sk.weight") for key in state if key.endswith(".sk.weight")]:
        folded[f"{name}.weight"], folded[f"{name}.bias"] = _fold(state, name)
    return folded


def _check_chain(state: State, parts: Sequence[str]) -> None:
    """Check that convolutions fit together: their product may be far larger than the factors."""
    skip, before, middle, after = (convolution_weight(state, part).shape for part in parts)
    outputs, inputs, inner, outer = skip[0], skip[1], before[0], after[1]
    expected = [
        (outputs, inputs, 1, 1),
        (inner, inputs, 1, 1),
        (outer, inner, 3, 3),
        (outputs, outer, 1, 1),
    ]
    for part, actual, shape in zip(parts, (skip, before, middle, after), expected, strict=True):
        bias = state.get(f"{part}.bias")
        if tuple(actual) != shape or bias is None or tuple(bias.shape) != shape[:1]:
            raise UnfitStateError(f"the tensors of {part} are not those of a SPAN")


def _fold(state: State, name: str) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a convolution that equals the chain and the 1x1 one beside it.

    The stored `eval_conv` is not used: programs for training do not always update it.
    """
    parts = [f"{name}.sk", *(f"{name}.conv.{number}" for number in range(3))]
    _check_chain(state, parts)
    skip, before, middle, after = (convolution_weight(state, part).double() for part in parts)
    biases = [state[f"{part}.bias"].double() for part in parts]
    before, after = before[:, :, 0, 0], after[:, :, 0, 0]
    weight = torch.einsum("op,pqhw,qi->oihw", after, middle, before)
    weight += F.pad(skip, (1, 1, 1, 1))
    inner = middle.sum((2, 3)) @ biases[1] + biases[2]
    bias = after @ inner + biases[3] + biases[0]
    return weight.float(), bias.float()


def _rescale(state: State, old: SPANSpec, new: SPANSpec) -> State:
    """Move weights to another scale: only the last convolution depends on it."""
    return rescale_last(state, "upsampler.0.", old.out_channels, old.scale, new.scale)


def _publish(state: State, _: SPANSpec) -> State:
    """Return each 3x3 convolution as the sum of convolutions that other programs expect.

    The first and the last of the chain copy channels, so that the sum is the same convolution.
    """
    published: dict[str, Tensor] = {}
    for key, tensor in state.items():
        layer = key.removesuffix(".weight")
        if key.endswith(".weight") and layer.startswith(("conv_1", "conv_2", "block_")):
            published |= _unfolded(layer, tensor, state[f"{layer}.bias"])
        elif f"{key.removesuffix('.bias')}.sk.weight" not in published:
            published[key] = tensor
    return published


def _unfolded(layer: str, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Return the tensors of the sum that equals a 3x3 convolution."""
    outputs, inputs = weight.shape[:2]
    inner, outer = CHAIN_WIDTH * inputs, CHAIN_WIDTH * outputs
    middle = weight.new_zeros(outer, inner, 3, 3)
    middle[:outputs, :inputs] = weight
    weights = {
        "sk": weight.new_zeros(outputs, inputs, 1, 1),
        "conv.0": torch.eye(inner, inputs, dtype=weight.dtype)[:, :, None, None],
        "conv.1": middle,
        "conv.2": torch.eye(outputs, outer, dtype=weight.dtype)[:, :, None, None],
        "eval_conv": weight,
    }
    tensors: dict[str, Tensor] = {}
    for part, each in weights.items():
        is_last = part in ("conv.2", "eval_conv")
        tensors[f"{layer}.{part}.weight"] = each
        tensors[f"{layer}.{part}.bias"] = bias if is_last else weight.new_zeros(len(each))
    return tensors


register(
    Architecture(
        name="span",
        title="SPAN",
        spec_type=SPANSpec,
        build=SPAN,
        recognise=_recognise,
        rescale=_rescale,
        publish=_publish,
    )
)
