"""RCAN, a deep network of residual groups with channel attention.

Source: Zhang et al., "Image Super-Resolution Using Very Deep Residual Channel Attention Networks"
(2018, arXiv 1807.02758), sections 3.1 to 3.3 and figures 2 to 4: ten residual groups of twenty
blocks; a block multiplies each channel by a factor that depends on the means of all channels over
the whole image.

Checkpoints use two key dialects: that of the authors (`body.0.body.0.body.0.weight`), which is
canonical, and that of BasicSR (`body.0.residual_group.0.rcab.0.weight`), which leaves out the
constant mean of the images.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.models.layers import Layer, LayerMaker, LayerRun, LayerStep, torch_layer
from upscale.models.network import Network
from upscale.models.registry import (
    Architecture,
    Detected,
    State,
    UnfitStateError,
    UnknownArchitectureError,
    convolution_weight,
    layer_numbers,
    register,
)
from upscale.tiling.group import IMAGE, LayerGroup

MEAN = (0.4488, 0.4371, 0.4040)
"""Mean red, green and blue of DIV2K, which normalised networks subtract."""

SHUFFLES = {1: (), 2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}
"""Factors of the pixel-shuffles at the end, by scale."""

TENSORS_PER_BLOCK = 8
"""Weights and biases of the four convolutions of a block."""

_MEAN_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class RCANSpec:
    """The hyper-parameters of an RCAN.

    Attributes:
        scale: Output pixels per image pixel and axis: 1, 2, 3, 4 or 8.
        in_channels: Channels of the image.
        out_channels: Channels of the output image.
        features: Channels between the blocks.
        groups: Number of residual groups.
        blocks: Number of blocks in a group.
        reduction: Factor by which channel attention reduces the number of channels.
        normalised: Whether the network subtracts the mean of DIV2K, which needs RGB images.
        value_range: Value of white inside the network: 255, or 1 in some networks.

    Example:
        >>> from upscale.models import RCANSpec
        >>> RCANSpec(scale=2).describe()
        'RCAN x2, 10 groups of 20 blocks, 64 features'
    """

    scale: int = 4
    in_channels: int = 3
    out_channels: int = 3
    features: int = 64
    groups: int = 10
    blocks: int = 20
    reduction: int = 16
    normalised: bool = True
    value_range: int = 255

    def __post_init__(self) -> None:
        if self.scale not in SHUFFLES:
            raise ValueError(
                f"a scale of {self.scale} is not one of {', '.join(map(str, SHUFFLES))}"
            )
        if not 1 <= self.reduction <= self.features:
            raise ValueError(f"a {self.reduction=} leaves no channel of {self.features=}")
        if self.normalised and {self.in_channels, self.out_channels} != {len(MEAN)}:
            raise ValueError("the mean of DIV2K is that of RGB images")

    def describe(self) -> str:
        """Return a one-line description."""
        return (
            f"RCAN x{self.scale}, {self.groups} groups of {self.blocks} blocks, "
            f"{self.features} features"
        )


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class _MeanShift(nn.Module):
    """A constant that is added to RGB images, stored as the 1x1 convolution of the authors."""

    bias: Tensor

    def __init__(self, sign: int, value_range: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.eye(len(MEAN))[:, :, None, None])
        self.register_buffer("bias", sign * value_range * torch.tensor(MEAN))

    def forward(self, x: Tensor) -> Tensor:
        """Add the constant to an (N, 3, H, W) image."""
        return x + self.bias[:, None, None]


class _Attention(nn.Module):
    """The factors of all channels for the means of all channels."""

    def __init__(self, features: int, reduction: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(features, features // reduction, 1),
            nn.ReLU(),
            nn.Conv2d(features // reduction, features, 1),
            nn.Sigmoid(),
        )

    def forward(self, means: Tensor) -> Tensor:
        """Map (N, features, 1, 1) means to factors in 0..1 of the same shape."""
        return self.conv_du(means)


class _Block(nn.Module):
    """Two convolutions, channel attention and a residual."""

    def __init__(self, features: int, reduction: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(features, features),
            nn.ReLU(),
            _convolution(features, features),
            _Attention(features, reduction),
        )

    @property
    def convolutions(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        """The two convolutions."""
        return cast(nn.Conv2d, self.body[0]), cast(nn.Conv2d, self.body[2])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, features, h, w) to (N, features, h, w)."""
        first, second = self.convolutions
        deep = second(F.relu(first(x)))
        return self.attend(x, deep, deep.mean((2, 3), keepdim=True))

    def attend(self, x: Tensor, deep: Tensor, means: Tensor) -> Tensor:
        """Return the block's output for its input, its convolutions' result and its means."""
        return torch.addcmul(x, deep, self.body[3](means))


class _ResidualGroup(nn.Module):
    """Blocks, a convolution and a residual."""

    def __init__(self, spec: RCANSpec) -> None:
        super().__init__()
        blocks = [_Block(spec.features, spec.reduction) for _ in range(spec.blocks)]
        self.body = nn.Sequential(*blocks, _convolution(spec.features, spec.features))

    @property
    def blocks(self) -> Sequence[_Block]:
        """The blocks before the convolution."""
        return cast(Sequence[_Block], list(self.body)[:-1])

    @property
    def last(self) -> nn.Conv2d:
        """The convolution after the blocks."""
        return cast(nn.Conv2d, self.body[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, features, h, w) to (N, features, h, w)."""
        return x + self.body(x)


class RCAN(Network[RCANSpec]):
    """Residual channel attention network.

    Maps (N, in_channels, H, W) in 0..1 to (N, out_channels, H * scale, W * scale), not clamped.

    Args:
        spec: Hyper-parameters of the network.

    Example:
        >>> import torch
        >>> from upscale.models import RCAN, RCANSpec
        >>> network = RCAN(RCANSpec(features=8, groups=1, blocks=2, reduction=4))
        >>> network(torch.zeros(1, 3, 6, 5)).shape
        torch.Size([1, 3, 24, 20])
    """

    def __init__(self, spec: RCANSpec) -> None:
        super().__init__(spec)
        width = spec.features
        if spec.normalised:
            self.sub_mean = _MeanShift(-1, spec.value_range)
            self.add_mean = _MeanShift(1, spec.value_range)
        self.head = nn.Sequential(_convolution(spec.in_channels, width))
        groups = [_ResidualGroup(spec) for _ in range(spec.groups)]
        self.body = nn.Sequential(*groups, _convolution(width, width))
        upsampler: list[nn.Module] = []
        for factor in SHUFFLES[spec.scale]:
            upsampler += [_convolution(width, width * factor**2), nn.PixelShuffle(factor)]
        self.tail = nn.Sequential(nn.Sequential(*upsampler), _convolution(width, spec.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Upscale (N, in_channels, H, W) to (N, out_channels, H * scale, W * scale)."""
        shallow = self.head(self.normalise(x))
        return self.denormalise(self.tail(shallow + self.body(shallow)))

    def normalise(self, image: Tensor) -> Tensor:
        """Return an image in 0..1 as the first convolution reads it."""
        image = image * self.spec.value_range
        return self.sub_mean(image) if self.spec.normalised else image

    def denormalise(self, image: Tensor) -> Tensor:
        """Return the result of the last convolution as an image in 0..1."""
        image = self.add_mean(image) if self.spec.normalised else image
        return image / self.spec.value_range

    def layer_groups(
        self, *, fine: bool = False, make: LayerMaker = torch_layer
    ) -> tuple[LayerGroup, ...]:
        """Return the first convolution, two or three groups for each block, and the tail.

        Channel attention is a group of its own, which waits for the means of the whole map. The
        tail computes the first convolution again instead of keeping its result.
        """
        width, inputs = self.spec.features, self.spec.in_channels
        first = make(Layer(cast(nn.Conv2d, self.head[0]), padding=1))
        groups = [
            LayerGroup("first", (IMAGE,), 1, 1, width, 3 * inputs + width,
                       lambda sources: first([self.normalise(sources[0])]))
        ]  # fmt: skip
        convolutions = _fine_convolutions if fine else _coarse_convolutions
        for number, residual_group in enumerate(cast(list[_ResidualGroup], list(self.body)[:-1])):
            entry = len(groups) - 1
            for place, block in enumerate(residual_group.blocks):
                name, source = f"block {number}.{place}", len(groups) - 1
                groups += convolutions(name, block.convolutions, (source,), make)
                groups.append(_attention_group(name, block, source, len(groups) - 1))
            sources = (len(groups) - 1, entry)
            groups += convolutions(f"group {number}", (residual_group.last,), sources, make)
        groups.append(
            LayerGroup(
                name="tail",
                sources=(len(groups) - 1, IMAGE),
                halo=_tail_halo(self.scale),
                scale=self.scale,
                channels=self.spec.out_channels,
                # a map before and after its last pixel-shuffle, and the image
                workspace=2 * width * self.scale**2
                + (2 * self.spec.out_channels * self.scale**2)
                + 3 * width,
                run=_Tail(self, make).run,
            )
        )
        return tuple(groups)


class _Tail:
    """The layers after the residual groups, up to the output image."""

    def __init__(self, network: RCAN, make: LayerMaker) -> None:
        self._network = network
        layer = partial(Layer, padding=1)
        self._first = make(layer(cast(nn.Conv2d, network.head[0])))
        self._body = make(layer(cast(nn.Conv2d, network.body[-1])))
        upsampler = list(cast(nn.Sequential, network.tail[0]))[::2]
        self._growing = [make(layer(cast(nn.Conv2d, each))) for each in upsampler]
        self._last = make(layer(cast(nn.Conv2d, network.tail[1])))

    def run(self, sources: Sequence[Tensor]) -> Tensor:
        """Return the image for the map after the residual groups and the network's input."""
        deep, image = sources
        x = self._body([deep], [self._first([self._network.normalise(image)])])
        for layer, factor in zip(self._growing, SHUFFLES[self._network.scale], strict=True):
            x = F.pixel_shuffle(layer([x]), factor)
        return self._network.denormalise(self._last([x]))


def _attention_group(name: str, block: _Block, entry: int, deep: int) -> LayerGroup:
    """Return channel attention and the residual of a block: source 0 is the block's input."""
    width = block.convolutions[0].in_channels
    return LayerGroup(
        f"{name}.attention",
        (entry, deep),
        halo=0,
        scale=1,
        channels=width,
        workspace=3 * width,
        run=lambda inputs: block.attend(*inputs),
        means=(deep,),
    )


def _coarse_convolutions(
    name: str, convolutions: Sequence[nn.Conv2d], sources: tuple[int, ...], make: LayerMaker
) -> list[LayerGroup]:
    """Return convolutions as one group; a second source is added to the result."""
    width, halo = convolutions[0].in_channels, len(convolutions)
    layers = _layers(convolutions, make, padding=1)

    def run(inputs: Sequence[Tensor]) -> Tensor:
        x = inputs[0]
        for layer in layers[:-1]:
            x = layer([x])
        return layers[-1]([x], inputs[1:])

    return [LayerGroup(name, sources, halo, 1, width, (2 + len(sources)) * width, run)]


def _fine_convolutions(
    name: str, convolutions: Sequence[nn.Conv2d], sources: tuple[int, ...], make: LayerMaker
) -> list[LayerGroup]:
    """Return a group for each convolution; a second source is added to the last result."""
    width, first = convolutions[0].in_channels, sources[0]
    groups: list[LayerGroup] = []
    layers = _layers(convolutions, make, padding=0)
    for number, layer in enumerate(layers):
        is_last = number == len(layers) - 1
        # The groups follow each other directly; the first of a block reads the group before it.
        read = (first + number, *(sources[1:] if is_last else ()))
        step = LayerStep(layer, added=(1,) if is_last else ())
        workspace = (2 + len(read)) * width
        groups.append(
            LayerGroup(f"{name}.{number + 1}", read, 1, 1, width, workspace, step.run,
                       valid=True, fill=step.fill)
        )  # fmt: skip
    return groups


def _layers(
    convolutions: Sequence[nn.Conv2d], make: LayerMaker, padding: int
) -> Sequence[LayerRun]:
    """Return convolutions with a ReLU after each but the last."""
    slopes = [0.0] * (len(convolutions) - 1) + [1.0]
    return [
        make(Layer(convolution, padding=padding, slope=slope))
        for convolution, slope in zip(convolutions, slopes, strict=True)
    ]


def _tail_halo(scale: int) -> int:
    """Return the halo of the tail in feature pixels, counted from its last layer back."""
    margin = 1  # the last convolution
    for factor in reversed(SHUFFLES[scale]):
        margin = -(-margin // factor) + 1  # the convolution before a pixel-shuffle
    return margin + 1  # the convolution after the residual groups


# --- checkpoints -----------------------------------------------------------------------------

_BASICSR = {
    r"^conv_first\.": "head.0.",
    r"^(body\.\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.1\.": (
        r"\1.body.\2.body.3.conv_du.0."
    ),
    r"^(body\.\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.3\.": (
        r"\1.body.\2.body.3.conv_du.2."
    ),
    r"^(body\.\d+)\.residual_group\.(\d+)\.rcab\.": r"\1.body.\2.body.",
    r"^upsample\.": "tail.0.",
    r"^conv_last\.": "tail.1.",
}
"""Patterns of keys in BasicSR's dialect that do not depend on the number of layers."""

_FIRST_BLOCK = "body.0.body.0.body.3.conv_du.0"


def _recognise(state: State) -> Detected[RCANSpec] | None:
    canonical = dict(state)
    if "conv_after_body.weight" in state:
        canonical = _from_basicsr(state)
    if not {"head.0.weight", "tail.1.weight", f"{_FIRST_BLOCK}.weight"} <= canonical.keys():
        return None
    first, last = (convolution_weight(canonical, name) for name in ("head.0", "tail.1"))
    squeezed = convolution_weight(canonical, _FIRST_BLOCK)
    groups = len(layer_numbers(canonical, r"body\.(#)\.")) - 1
    blocks = len(layer_numbers(canonical, r"body\.0\.body\.(#)\.")) - 1
    if not 0 < groups * blocks * TENSORS_PER_BLOCK <= len(canonical):
        raise UnknownArchitectureError("its numbers of groups and blocks are not those of an RCAN")
    normalised = "sub_mean.weight" in canonical
    if normalised and {first.shape[1], last.shape[0]} != {len(MEAN)}:
        raise UnfitStateError("its mean does not match the channels of its image")
    spec = RCANSpec(
        scale=_scale(canonical),
        in_channels=first.shape[1],
        out_channels=last.shape[0],
        features=first.shape[0],
        groups=groups,
        blocks=blocks,
        reduction=max(first.shape[0] // squeezed.shape[0], 1),
        normalised=normalised,
        value_range=_value_range(canonical) if normalised else 1,
    )
    return Detected(spec, {**canonical, **(_means(spec.value_range) if normalised else {})})


def _from_basicsr(state: State) -> dict[str, Tensor]:
    """Return a state dict of BasicSR under canonical keys, with the mean that it leaves out."""
    blocks = len(layer_numbers(state, r"body\.0\.residual_group\.(#)\."))
    groups = len(layer_numbers(state, r"body\.(#)\."))
    patterns = {
        **_BASICSR,
        r"^body\.(\d+)\.conv\.": rf"body.\1.body.{blocks}.",
        r"^conv_after_body\.": f"body.{groups}.",
    }

    def rename(key: str) -> str:
        for pattern, replacement in patterns.items():
            key, count = re.subn(pattern, replacement, key)
            if count:
                break
        return key

    return {**{rename(key): tensor for key, tensor in state.items()}, **_means(255)}


def _scale(state: State) -> int:
    """Return the scale of the pixel-shuffles of a canonical state dict."""
    factors: list[int] = []
    for number in sorted(layer_numbers(state, r"tail\.0\.(#)\.weight$")):
        outputs, inputs = convolution_weight(state, f"tail.0.{number}").shape[:2]
        factors.append(3 if outputs == 9 * inputs else 2)
    for scale, known in SHUFFLES.items():
        if known == tuple(factors):
            return scale
    raise UnknownArchitectureError("its pixel-shuffles are not those of an RCAN")


def _value_range(state: State) -> int:
    """Return the value of white, by the constant mean that the network subtracts and adds.

    Raises:
        UnfitStateError: The mean is another one, or differs between subtraction and addition.
    """
    for value_range in (255, 1):
        expected = _means(value_range)
        if all(_is_close(state.get(key), tensor, value_range) for key, tensor in expected.items()):
            return value_range
    raise UnfitStateError("its constant mean (sub_mean, add_mean) is not that of an RCAN")


def _means(value_range: int) -> dict[str, Tensor]:
    """Return the constant means of a canonical state dict."""
    shifts = {"sub_mean": _MeanShift(-1, value_range), "add_mean": _MeanShift(1, value_range)}
    return {
        f"{name}.{key}": tensor
        for name, shift in shifts.items()
        for key, tensor in shift.state_dict().items()
    }


def _is_close(actual: Tensor | None, expected: Tensor, value_range: int) -> bool:
    if actual is None or actual.shape != expected.shape:
        return False
    return bool((actual.float() - expected).abs().max() <= _MEAN_TOLERANCE * value_range)


def _rescale(state: State, old: RCANSpec, new: RCANSpec) -> State:
    """Move weights to another scale: everything but the layers of the tail, which start anew.

    Another value of white is moved into the first and the last convolution.
    """
    if old.value_range != new.value_range and old.normalised and new.normalised:
        factor = new.value_range / old.value_range
        state = {
            **state,
            **_means(new.value_range),
            "head.0.weight": state["head.0.weight"] / factor,
            "tail.1.weight": state["tail.1.weight"] * factor,
            "tail.1.bias": state["tail.1.bias"] * factor,
        }
    if old.scale == new.scale:
        return state
    fresh = {key: each for key, each in RCAN(new).state_dict().items() if key.startswith("tail.")}
    return {**{key: each for key, each in state.items() if not key.startswith("tail.")}, **fresh}


def _publish(state: State, spec: RCANSpec) -> State:
    """Return weights for a white of 255, which other programs take for granted."""
    usual = 255 if spec.normalised else 1
    return _rescale(state, spec, replace(spec, value_range=usual))


register(
    Architecture(
        name="rcan",
        title="RCAN",
        spec_type=RCANSpec,
        build=RCAN,
        recognise=_recognise,
        rescale=_rescale,
        publish=_publish,
    )
)
