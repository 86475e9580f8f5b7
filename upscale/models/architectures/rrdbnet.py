"""RRDBNet, the generator of ESRGAN and Real-ESRGAN.

Sources: Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks" (2018,
arXiv 1809.00219), section 3.1 and figure 4 (residual-in-residual dense block, residual scaling
0.2, small initialisation); Wang et al., "Real-ESRGAN" (2021), figure 4 (pixel-unshuffle before the
first convolution for x2 and x1).

Checkpoints use three key dialects: old ESRGAN (`model.1.sub.0.RDB1.conv1.0.weight`), BSRGAN
(`RRDB_trunk.0.RDB1.conv1.weight`) and BasicSR (`body.0.rdb1.conv1.weight`), which is canonical.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.models.layers import Layer, LayerMaker, LayerStep, join, torch_layer
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

RESIDUAL_SCALE = 0.2
NEGATIVE_SLOPE = 0.2
DENSE_CONVOLUTIONS = 5
"""Number of 3x3 convolutions of a dense block."""

BLOCK_HALO = DENSE_CONVOLUTIONS
"""Halo of a dense block: five 3x3 convolutions in a row."""

TENSORS_PER_BLOCK = 30
"""Weights and biases of the fifteen convolutions of an RRDB."""

MAX_UPSAMPLES = 4

USUAL_GROWTH = 32
"""Growth that other programs take for granted."""

INITIAL_SCALE = 0.1
"""Factor of He's initialisation in dense blocks, as in BasicSR."""


@dataclass(frozen=True, slots=True)
class RRDBSpec:
    """The hyper-parameters of an RRDBNet.

    Attributes:
        in_channels: Channels of the image, before pixel-unshuffle.
        out_channels: Channels of the output image.
        features: Channels between the blocks.
        blocks: Number of residual-in-residual dense blocks.
        growth: Channels that each convolution of a dense block adds.
        unshuffle: Factor of the pixel-unshuffle before the first convolution: 1 for none; 2 for x2
            and 4 for x1 in Real-ESRGAN.
        upsamples: Number of nearest-neighbour doublings at the end, 2 in Real-ESRGAN.

    Example:
        >>> from upscale.models import RRDBSpec
        >>> RRDBSpec(blocks=6, unshuffle=2).describe()
        'RRDBNet x2, 6 blocks, 64 features, growth 32'
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
        """Return a one-line description."""
        return (
            f"RRDBNet x{self.scale}, {self.blocks} blocks, "
            f"{self.features} features, growth {self.growth}"
        )


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, NEGATIVE_SLOPE, inplace=True)


def _add_scaled(residual: Tensor, x: Tensor) -> Tensor:
    """Return `x + RESIDUAL_SCALE * residual` in one pass."""
    return torch.add(x, residual, alpha=RESIDUAL_SCALE)


class DenseBlock(nn.Module):
    """Five convolutions, each of which reads the block's input and all earlier outputs."""

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
    """Residual-in-residual dense block: three dense blocks and a scaled residual."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(features, growth)
        self.rdb2 = DenseBlock(features, growth)
        self.rdb3 = DenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, features, h, w) to (N, features, h, w)."""
        return _add_scaled(self.rdb3(self.rdb2(self.rdb1(x))), x)


class RRDBNet(Network[RRDBSpec]):
    """Residual-in-residual dense network.

    Maps (N, in_channels, H, W) in 0..1 to (N, out_channels, H * scale, W * scale), not clamped. H
    and W are multiples of the unshuffle factor.

    Args:
        spec: Hyper-parameters of the network.

    Example:
        >>> import torch
        >>> from upscale.models import RRDBNet, RRDBSpec
        >>> network = RRDBNet(RRDBSpec(features=8, blocks=1, growth=4))
        >>> network(torch.zeros(1, 3, 6, 5)).shape
        torch.Size([1, 3, 24, 20])
    """

    def __init__(self, spec: RRDBSpec) -> None:
        super().__init__(spec)
        width = spec.features
        self.conv_first = _convolution(spec.in_channels * spec.unshuffle**2, width)
        self.body = nn.Sequential(*(RRDB(width, spec.growth) for _ in range(spec.blocks)))
        self.conv_body = _convolution(width, width)
        for number in range(1, spec.upsamples + 1):
            self.add_module(f"conv_up{number}", _convolution(width, width))
        self.conv_hr = _convolution(width, width)
        self.conv_last = _convolution(width, spec.out_channels)

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

    def layer_groups(
        self, *, fine: bool = False, make: LayerMaker = torch_layer
    ) -> tuple[LayerGroup, ...]:
        """Return the first convolution, the dense blocks or their convolutions, and the tail.

        The tail computes the first convolution again from the image, because its feature map would
        otherwise have to be kept during the whole network.
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
        # an upsampled map and its convolution, or a convolution's input and output
        tail_workspace = (2 * width + self.spec.out_channels) * tail_scale**2 + 2 * width
        groups.append(
            LayerGroup(
                name="tail",
                sources=(len(groups) - 1, IMAGE),
                halo=_tail_halo(self.spec.upsamples),
                scale=tail_scale,
                channels=self.spec.out_channels,
                workspace=tail_workspace,
                run=_Tail(self, make).run,
            )
        )
        return tuple(groups)


class _Tail:
    """The layers after the body, up to the output image."""

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
        """Return the image for the (N, features, h, w) maps after and before the body."""
        x = self._body([deep], [shallow])
        for layer in self._later:
            x = layer([x])
        return x

    def run(self, sources: Sequence[Tensor]) -> Tensor:
        """Return the image for the map after the body and the network's input."""
        return self.upsample(sources[0], self._first([sources[1]]))


class _Block:
    """A dense block, with the residual of the RRDB if it is the last one.

    The convolutions write their outputs side by side into one tensor, so that later layers read
    them without a copy.
    """

    def __init__(self, block: DenseBlock, make: LayerMaker) -> None:
        growing = (block.conv1, block.conv2, block.conv3, block.conv4)
        self._growth = block.conv1.out_channels
        self._growing = [make(Layer(each, padding=1, slope=NEGATIVE_SLOPE)) for each in growing]
        self._last = make(Layer(block.conv5, padding=1, scale=RESIDUAL_SCALE))

    def run(self, sources: Sequence[Tensor]) -> Tensor:
        """Return the block's output for its input, and the RRDB's input if it is to be added."""
        x = sources[0]
        count, _, height, width = x.shape
        growth, channels = self._growth, self._growth * len(self._growing)
        grown = x.new_empty(count, height, width, channels).permute(0, 3, 1, 2)
        for start, layer in zip(range(0, channels, growth), self._growing, strict=True):
            maps = [x, grown[:, :start]] if start else [x]
            layer(maps, target=grown[:, start : start + growth])
        return self._last([x, grown], sources)


def _block_group(
    name: str, block: DenseBlock, entry: int, shortcut: int | None, make: LayerMaker
) -> list[LayerGroup]:
    """Return a dense block as one group; `shortcut` is the source of the RRDB's residual."""
    width, growth = block.conv1.in_channels, block.conv1.out_channels
    sources = (entry,) if shortcut is None else (entry, shortcut)
    # input, four maps, their concatenation and the output
    workspace = (2 + len(sources)) * width + 8 * growth
    run = _Block(block, make).run
    return [LayerGroup(name, sources, BLOCK_HALO, 1, width, workspace, run)]


def _convolution_groups(
    name: str, block: DenseBlock, entry: int, shortcut: int | None, make: LayerMaker
) -> list[LayerGroup]:
    """Return a dense block with one group per convolution."""
    width, growth = block.conv1.in_channels, block.conv1.out_channels
    maps = [entry, *(entry + i for i in range(1, 5))]
    groups: list[LayerGroup] = []
    for i, convolution in enumerate((block.conv1, block.conv2, block.conv3, block.conv4)):
        step = LayerStep(make(Layer(convolution, padding=0, slope=NEGATIVE_SLOPE)), i + 1)
        workspace = width + (i + 1) * growth
        groups.append(
            LayerGroup(
                f"{name}.{i + 1}",
                tuple(maps[: i + 1]),
                1,
                1,
                growth,
                workspace,
                step.run,
                valid=True,
                fill=step.fill,
            )
        )
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
    """Return the halo of the tail in feature pixels, counted from its last layer back."""
    margin = 2  # conv_hr and conv_last
    for _ in range(upsamples):
        margin = (margin + 1 + 1) // 2  # the convolution after a doubling, then half, rounded up
    return margin + 1  # conv_body; the halo of conv_first, read beside it, is no larger


def _recognise(state: State) -> Detected[RRDBSpec] | None:
    rename = _renamer(state)
    canonical = {rename(key): tensor for key, tensor in state.items()}
    if not {"conv_first.weight", "body.0.rdb1.conv1.weight"} <= canonical.keys():
        return None
    first = convolution_weight(canonical, "conv_first")
    last = convolution_weight(canonical, "conv_last")
    unshuffle = _unshuffle(first.shape[1], last.shape[0])
    blocks = len(layer_numbers(canonical, r"body\.(#)\."))
    upsamples = len(layer_numbers(canonical, r"conv_up(#)\.weight"))
    if blocks * TENSORS_PER_BLOCK > len(canonical) or upsamples > MAX_UPSAMPLES:
        raise UnfitStateError(
            f"its {len(canonical)} tensors are not those of an RRDBNet with {blocks} blocks "
            f"and {upsamples} upsampling layers"
        )
    try:
        spec = RRDBSpec(
            in_channels=first.shape[1] // unshuffle**2,
            out_channels=last.shape[0],
            features=first.shape[0],
            blocks=blocks,
            growth=convolution_weight(canonical, "body.0.rdb1.conv1").shape[0],
            unshuffle=unshuffle,
            upsamples=upsamples,
        )
    except ValueError as error:
        raise UnknownArchitectureError(f"it is not a supported RRDBNet: {error}") from error
    return Detected(spec, canonical)


def _renamer(state: State) -> Callable[[str], str]:
    """Return the function from a state dict's keys to canonical ones."""
    if any(key.startswith("model.1.sub.") for key in state):
        return _old_esrgan_renamer(state)
    if any(key.startswith("RRDB_trunk.") for key in state):
        return _rename_bsrgan
    return lambda key: key


def _rename_bsrgan(key: str) -> str:
    key = re.sub(r"^RRDB_trunk\.(\d+)\.RDB(\d)\.", r"body.\1.rdb\2.", key)
    key = re.sub(r"^trunk_conv\.", "conv_body.", key)
    key = re.sub(r"^upconv(\d)\.", r"conv_up\1.", key)
    return re.sub(r"^HRconv\.", "conv_hr.", key)


def _old_esrgan_renamer(state: State) -> Callable[[str], str]:
    """Return the renamer for old ESRGAN, which numbers blocks, body convolution and tail."""
    inside = layer_numbers(state, r"model\.1\.sub\.(#)\.")
    tail = sorted(layer_numbers(state, r"model\.(#)\.") - {0, 1})
    names = [f"conv_up{i + 1}" for i in range(len(tail) - 2)] + ["conv_hr", "conv_last"]
    top = {0: "conv_first"} | dict(zip(tail, names, strict=False))

    def rename(key: str) -> str:
        key = re.sub(
            r"^model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3.", key
        )
        key = re.sub(
            rf"^model\.1\.sub\.{max(inside, default=0)}\.(?=weight|bias)", "conv_body.", key
        )
        match = re.match(r"^model\.(\d+)\.(weight|bias)$", key)
        layer = top.get(int(match[1])) if match else None
        return f"{layer}.{match[2]}" if match and layer else key

    return rename


def _unshuffle(inputs: int, outputs: int) -> int:
    """Return the pixel-unshuffle factor that turns `outputs` image channels into `inputs`."""
    for side in (2, 4):
        if inputs == outputs * side * side:
            return side
    return 1


def _initialise(network: nn.Module) -> None:
    """Scale down He's initialisation in dense blocks; other layers keep torch's defaults."""
    for block in network.modules():
        if isinstance(block, DenseBlock):
            for convolution in block.children():
                assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
                nn.init.kaiming_normal_(convolution.weight)
                convolution.weight.data *= INITIAL_SCALE
                nn.init.zeros_(convolution.bias)


def _rescale(state: State, old: RRDBSpec, new: RRDBSpec) -> State:
    """Move weights to another scale: only the first convolution depends on it.

    From x4 to x2 or x1, the new network initially gives the x4 result for the image reduced with a
    box filter, because the first convolution averages the pixels behind an unshuffled pixel.
    """
    weight = state["conv_first.weight"]
    outputs, inputs, *kernel = weight.shape
    inputs //= old.unshuffle**2
    kernels = weight.reshape(outputs, inputs, old.unshuffle, old.unshuffle, *kernel)
    first = _resample_kernels(kernels, new.unshuffle).reshape(outputs, -1, *kernel)
    return {**state, "conv_first.weight": first}


def _resample_kernels(kernels: Tensor, side: int) -> Tensor:
    """Return kernels (O, C, s, s, h, w) of s x s sub-pixels for side x side sub-pixels.

    A finer grid divides each kernel evenly and a coarser one adds kernels, so that the output for a
    flat input stays the same.
    """
    old = kernels.shape[2]
    if side >= old:
        finer = side // old
        return (kernels / finer**2).repeat_interleave(finer, 2).repeat_interleave(finer, 3)
    outputs, inputs, _, _, *size = kernels.shape
    coarser = old // side
    return kernels.reshape(outputs, inputs, side, coarser, side, coarser, *size).sum((3, 5))


def _publish(state: State, spec: RRDBSpec) -> State:
    """Return weights of the usual growth: the channels that a smaller network lacks are zero.

    The result is the same, because a leaky ReLU keeps zeros.
    """
    if spec.growth >= USUAL_GROWTH:
        return state
    return {key: _widened(key, tensor, spec) for key, tensor in state.items()}


def _widened(key: str, tensor: Tensor, spec: RRDBSpec) -> Tensor:
    """Return a weight or a bias of a dense block for the usual growth."""
    match = re.match(r"body\.\d+\.rdb\d\.conv(\d)\.(weight|bias)$", key)
    if match is None:
        return tensor
    number, width, growth = int(match[1]), spec.features, spec.growth
    outputs = width if number == DENSE_CONVOLUTIONS else USUAL_GROWTH
    if match[2] == "bias":
        return F.pad(tensor, (0, outputs - len(tensor)))
    wide = tensor.new_zeros(outputs, width + (number - 1) * USUAL_GROWTH, *tensor.shape[2:])
    wide[: len(tensor), :width] = tensor[:, :width]
    for earlier in range(number - 1):
        start, old = width + earlier * USUAL_GROWTH, width + earlier * growth
        wide[: len(tensor), start : start + growth] = tensor[:, old : old + growth]
    return wide


register(
    Architecture(
        name="rrdbnet",
        title="RRDBNet",
        spec_type=RRDBSpec,
        build=RRDBNet,
        recognise=_recognise,
        initialise=_initialise,
        rescale=_rescale,
        publish=_publish,
    )
)
