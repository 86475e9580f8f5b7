"""Real-CUGAN, two U-Nets with squeeze-and-excitation, for anime.

Source: Real-CUGAN (bilibili, 2022), a refinement of CUNet of waifu2x. The first U-Net doubles the
size, the second one corrects its result. Squeeze-and-excitation multiplies the channels of four
feature maps by factors that depend on the means of all channels over the whole map.

Its convolutions are not padded: the image is extended by reflection instead. Checkpoints for x2 and
x4 are read here. Those for x3 and the fast ones for x2 have other shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.models.layers import Layer, LayerMaker, torch_layer
from upscale.models.network import Network
from upscale.models.registry import (
    Architecture,
    Detected,
    State,
    convolution_weight,
    register,
)
from upscale.tiling.group import IMAGE, LayerGroup

SCALES = (2, 4)

REDUCTION = 8
"""Factor by which squeeze-and-excitation reduces the number of channels."""

SLOPE = 0.1
"""Slope of the activations below zero."""

_PRO_SCALE, _PRO_OFFSET = 0.7, 0.15
"""How the networks named "pro" compress the values of an image."""


@dataclass(frozen=True, slots=True)
class RealCUGANSpec:
    """The hyper-parameters of a Real-CUGAN.

    Attributes:
        scale: Output pixels per image pixel and axis: 2 or 4.
        in_channels: Channels of the image.
        out_channels: Channels of the output image.
        features: Channels at the full size of each U-Net, a multiple of 8.
        pro: Whether the values of the image are compressed to 0.15..0.85.

    Example:
        >>> from upscale.models import RealCUGANSpec
        >>> RealCUGANSpec(pro=True).describe()
        'Real-CUGAN pro x2, 64 features'
    """

    scale: int = 2
    in_channels: int = 3
    out_channels: int = 3
    features: int = 64
    pro: bool = False

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(f"a scale of {self.scale} is not 2 or 4")
        if self.features < REDUCTION or self.features % REDUCTION:
            raise ValueError(f"{self.features=} is not a multiple of {REDUCTION}")
        if self.in_channels != self.out_channels:
            raise ValueError("the result is added to the image, which needs as many channels")

    def describe(self) -> str:
        """Return a one-line description."""
        name = "Real-CUGAN pro" if self.pro else "Real-CUGAN"
        return f"{name} x{self.scale}, {self.features} features"


class _Excitation(nn.Module):
    """The factors of all channels for the means of all channels."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features // REDUCTION, 1)
        self.conv2 = nn.Conv2d(features // REDUCTION, features, 1)

    def forward(self, x: Tensor, means: Tensor) -> Tensor:
        """Multiply the channels of (N, C, h, w) by their factors for (1, C, 1, 1) means."""
        return x * torch.sigmoid(self.conv2(F.relu(self.conv1(means))))


class _Pair(nn.Module):
    """Two convolutions, and the excitation of their result."""

    def __init__(self, inputs: int, between: int, outputs: int, *, excited: bool) -> None:
        super().__init__()
        first, second = _convolution(inputs, between), _convolution(between, outputs)
        self.conv = nn.Sequential(first, nn.LeakyReLU(SLOPE), second, nn.LeakyReLU(SLOPE))
        self.seblock = _Excitation(outputs) if excited else None

    @property
    def convolutions(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        """The two convolutions."""
        return cast(nn.Conv2d, self.conv[0]), cast(nn.Conv2d, self.conv[2])


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class _SmallUNet(nn.Module):
    """The first U-Net: half the size inside, twice the size at the end."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.conv1 = _Pair(inputs, width // 2, width, excited=False)
        self.conv1_down = nn.Conv2d(width, width, 2, stride=2)
        self.conv2 = _Pair(width, 2 * width, width, excited=True)
        self.conv2_up = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.conv3 = _convolution(width, width)
        self.conv_bottom = nn.ConvTranspose2d(width, outputs, 4, stride=2, padding=1)


class _LargeUNet(nn.Module):
    """The second U-Net: half and a quarter of the size inside."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.conv1 = _Pair(inputs, width // 2, width, excited=False)
        self.conv1_down = nn.Conv2d(width, width, 2, stride=2)
        self.conv2 = _Pair(width, width, 2 * width, excited=True)
        self.conv2_down = nn.Conv2d(2 * width, 2 * width, 2, stride=2)
        self.conv3 = _Pair(2 * width, 4 * width, 2 * width, excited=True)
        self.conv3_up = nn.ConvTranspose2d(2 * width, 2 * width, 2, stride=2)
        self.conv4 = _Pair(2 * width, width, width, excited=True)
        self.conv4_up = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.conv5 = _convolution(width, width)
        self.conv_bottom = _convolution(width, outputs)


class RealCUGAN(Network[RealCUGANSpec]):
    """Real-CUGAN for x2 or x4.

    Maps (N, in_channels, H, W) in 0..1 to (N, out_channels, H * scale, W * scale), not clamped.

    Args:
        spec: Hyper-parameters of the network.

    Example:
        >>> import torch
        >>> from upscale.models import RealCUGAN, RealCUGANSpec
        >>> RealCUGAN(RealCUGANSpec(features=8))(torch.zeros(1, 3, 6, 5)).shape
        torch.Size([1, 3, 12, 10])
    """

    def __init__(self, spec: RealCUGANSpec) -> None:
        super().__init__(spec)
        width = spec.features
        between = spec.out_channels if spec.scale == SCALES[0] else width
        self.unet1 = _SmallUNet(spec.in_channels, between, width)
        self.unet2 = _LargeUNet(between, between, width)
        if spec.scale != SCALES[0]:
            self.conv_final = _convolution(width, 4 * spec.out_channels)
        if spec.pro:
            self.register_buffer("pro", torch.zeros(1))

    @property
    def unshuffle(self) -> int:
        """Image pixels per pixel of the first feature map and axis."""
        return 2

    @property
    def margin(self) -> int:
        """Feature pixels at each side by which the layer groups need the image extended."""
        return 9 if self.scale == SCALES[0] else 10

    def forward(self, x: Tensor) -> Tensor:
        """Upscale (N, in_channels, H, W) to (N, out_channels, H * scale, W * scale)."""
        height, width = x.shape[2:]
        margin = self.margin * self.unshuffle
        for axis in (2, 3):
            indices = _reflected_indices(x.shape[axis], margin, self.unshuffle)
            x = x.index_select(axis, indices.to(x.device))
        maps = {IMAGE: F.pixel_unshuffle(x, self.unshuffle)}
        groups = self.layer_groups()
        for index, group in enumerate(groups):
            means = [_mean(maps[source], groups[source].inset) for source in group.means]
            maps[index] = group.run([*(maps[source] for source in group.sources), *means])
        top, bottom, right = (
            self.scale * side for side in (margin, margin + height, margin + width)
        )
        return maps[len(groups) - 1][:, :, top:bottom, top:right]

    def layer_groups(
        self, *, fine: bool = False, make: LayerMaker = torch_layer
    ) -> tuple[LayerGroup, ...]:
        """Return five groups: each of the four excitations is the border between two.

        What the last group needs of the first U-Net is computed again instead of being kept.
        `fine` is ignored: the convolutions of a group have different sizes.
        """
        return _Groups(self, make).all()


def _reflected_indices(length: int, margin: int, multiple: int) -> Tensor:
    """Return the indices of an axis with a margin of reflected pixels, extended to a multiple."""
    period = max(2 * (length - 1), 1)
    indices = torch.arange(-margin, -(-length // multiple) * multiple + margin) % period
    return torch.minimum(indices, (period - indices) % period) if length > 1 else indices


def _mean(x: Tensor, inset: tuple[int, int]) -> Tensor:
    before, after = inset
    height, width = x.shape[2:]
    return x[:, :, before : height - after, before : width - after].mean((2, 3), keepdim=True)


class _Groups:
    """The layer groups. A feature pixel is a square of 2x2 image pixels.

    Maps at the size of the image are kept with four values per channel and feature pixel, as by
    `pixel_unshuffle`. Both U-Nets halve the size, and because of what they cut off at the border,
    the squares that one of them makes one pixel of lie an image pixel to the right of and below the
    squares of the other. The maps of that one are moved by this pixel.
    """

    def __init__(self, network: RealCUGAN, make: LayerMaker) -> None:
        self._network = network
        self._spec = network.spec
        self._first_moved = int(network.scale != SCALES[0])
        self._second_moved = 1 - self._first_moved

        def layer(convolution: nn.Conv2d, slope: float = SLOPE) -> Callable[[Tensor], Tensor]:
            run = make(Layer(convolution, padding=1, slope=slope))
            return lambda x: run([x])

        def pair(module: _Pair) -> Callable[[Tensor], Tensor]:
            first, second = map(layer, module.convolutions)
            return lambda x: second(first(x))

        one, two = network.unet1, network.unet2
        self._one1, self._one2, self._one3 = pair(one.conv1), pair(one.conv2), layer(one.conv3)
        self._two1, self._two2, self._two3 = pair(two.conv1), pair(two.conv2), pair(two.conv3)
        self._two4, self._two5 = pair(two.conv4), layer(two.conv5)
        self._bottom = layer(two.conv_bottom, slope=1)
        if network.scale != SCALES[0]:
            self._final = layer(network.conv_final, slope=1)

    def all(self) -> tuple[LayerGroup, ...]:
        """Return all groups."""
        width, colours = self._spec.features, self._spec.out_channels
        image = 4 * self._spec.in_channels
        # Values per feature pixel while the largest layer runs, at the size of the image.
        small, large = image + 4 * 3 * width, 16 * 3 * width
        groups = (
            LayerGroup("first", (IMAGE,), 4, 1, width, small, self._run_first),
            LayerGroup("second", (IMAGE, 0), 4, 1, 8 * width, small + large, self._run_second,
                       means=(0,)),
            LayerGroup("third", (1,), 2, 1, 2 * width, 32 * width, self._run_third, means=(1,)),
            LayerGroup("fourth", (1, 2), 1, 1, 4 * width, 40 * width, self._run_fourth,
                       means=(1, 2)),
            LayerGroup("last", (IMAGE, 0, 3), 4, 2 * self._spec.scale, colours,
                       small + 2 * large, self._run_last, means=(0, 3)),
        )  # fmt: skip
        insets = ((3, 5, 7, 8), (3, 6, 8, 9))[self._first_moved]
        moved = (self._first_moved, *[self._second_moved] * 3)
        return (
            *(
                replace(group, inset=(inset, inset + extra))
                for group, inset, extra in zip(groups[:-1], insets, moved, strict=True)
            ),
            groups[-1],
        )

    def _run_first(self, sources: Sequence[Tensor]) -> Tensor:
        """Return the map of the first U-Net before its excitation."""
        x = self._one1(self._image(sources[0]))
        return self._one2(_activated(self._network.unet1.conv1_down(x)))

    def _run_second(self, sources: Sequence[Tensor]) -> Tensor:
        """Return the map of the second U-Net before its first excitation."""
        x = self._two1(self._doubled(*sources))
        x = self._two2(_activated(self._network.unet2.conv1_down(x)))
        return F.pixel_unshuffle(x, 2)

    def _run_third(self, sources: Sequence[Tensor]) -> Tensor:
        """Return the smallest map before its excitation."""
        x = self._excited_second(*sources)
        return self._two3(_activated(self._network.unet2.conv2_down(x)))

    def _run_fourth(self, sources: Sequence[Tensor]) -> Tensor:
        """Return the map before the last excitation."""
        unet = self._network.unet2
        second, third, mean_of_second, mean_of_third = sources
        third = cast(_Excitation, unet.conv3.seblock)(third, mean_of_third)
        x = self._excited_second(second, mean_of_second) + _activated(unet.conv3_up(third))
        return F.pixel_unshuffle(self._two4(x), 2)

    def _run_last(self, sources: Sequence[Tensor]) -> Tensor:
        """Return the output image."""
        unet = self._network.unet2
        image, first, fourth, mean_of_first, mean_of_fourth = sources
        doubled = self._doubled(image, first, mean_of_first)
        excite = cast(_Excitation, unet.conv4.seblock)
        fourth = excite(F.pixel_shuffle(fourth, 2), _mean_of_squares(mean_of_fourth))
        x = self._two1(doubled) + _activated(unet.conv4_up(fourth))
        x = doubled + self._bottom(self._two5(x))
        if self._spec.scale == SCALES[0]:
            return self._decompressed(_moved(x, -2 * self._second_moved))
        x = F.pixel_shuffle(self._final(x), 2)
        small = self._compressed(F.pixel_shuffle(image, 2))
        return self._decompressed(x + F.interpolate(small, scale_factor=4, mode="nearest"))

    def _image(self, source: Tensor) -> Tensor:
        """Return the image as the first U-Net reads it."""
        return _moved(self._compressed(F.pixel_shuffle(source, 2)), self._first_moved)

    def _doubled(self, source: Tensor, first: Tensor, mean: Tensor) -> Tensor:
        """Return the result of the first U-Net at twice the size, as the second one reads it."""
        unet = self._network.unet1
        excited = cast(_Excitation, unet.conv2.seblock)(first, mean)
        x = self._one1(self._image(source)) + _activated(unet.conv2_up(excited))
        doubled = unet.conv_bottom(self._one3(x))
        return _moved(doubled, 2 * (self._second_moved - self._first_moved))

    def _excited_second(self, second: Tensor, mean: Tensor) -> Tensor:
        excite = cast(_Excitation, self._network.unet2.conv2.seblock)
        return excite(F.pixel_shuffle(second, 2), _mean_of_squares(mean))

    def _compressed(self, image: Tensor) -> Tensor:
        return image * _PRO_SCALE + _PRO_OFFSET if self._spec.pro else image

    def _decompressed(self, image: Tensor) -> Tensor:
        return (image - _PRO_OFFSET) / _PRO_SCALE if self._spec.pro else image


def _activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


def _moved(x: Tensor, pixels: int) -> Tensor:
    """Move a map up and to the left; what comes in at the other side is zero, and never used."""
    if pixels == 0:
        return x
    return F.pad(x, (-pixels, pixels, -pixels, pixels))


def _mean_of_squares(means: Tensor) -> Tensor:
    """Return the means (N, C, 1, 1) of a map for those of its `pixel_unshuffle`."""
    return means.unflatten(1, (-1, 4)).mean(2)


# --- checkpoints -----------------------------------------------------------------------------

_FAMILY = ("unet1.conv1.conv.0", "unet1.conv_bottom", "unet2.conv3.seblock.conv1")
"""Layers by which a Real-CUGAN of any scale is recognised."""

_LARGEST_KERNEL = 4
"""Kernel of the last layer of the first U-Net at x2 and x4; 5 at x3."""


def _recognise(state: State) -> Detected[RealCUGANSpec] | None:
    if not {f"{layer}.weight" for layer in _FAMILY} <= state.keys():
        return None
    inputs = convolution_weight(state, _FAMILY[0]).shape[1]
    bottom = convolution_weight(state, _FAMILY[1])
    is_x4 = "conv_final.weight" in state
    if is_x4:
        outputs = convolution_weight(state, "conv_final").shape[0] // 4
    else:
        outputs = convolution_weight(state, "unet2.conv_bottom").shape[0]
    width = bottom.shape[0]
    if bottom.shape[2] != _LARGEST_KERNEL or inputs != outputs or width % REDUCTION:
        return None  # x3, or the fast network for x2
    canonical = dict(state)
    if "pro" in canonical:
        canonical["pro"] = torch.zeros(1)
    return Detected(RealCUGANSpec(SCALES[is_x4], inputs, outputs, width, "pro" in state), canonical)


register(
    Architecture(
        name="realcugan",
        title="Real-CUGAN",
        spec_type=RealCUGANSpec,
        build=RealCUGAN,
        recognise=_recognise,
    )
)
