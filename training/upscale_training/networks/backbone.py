"""Classification networks as feature extractors for perceptual losses."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.errors import UsageError

VGGName = Literal["vgg16", "vgg19"]
VGG_BLOCKS: dict[VGGName, tuple[int, ...]] = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
"""Convolutions before each pooling."""

_VGG_WIDTHS = (64, 128, 256, 512, 512)

_LITE0_BLOCKS = (
    # repeats, kernel, stride, expansion, channels: EfficientNet (arXiv 1905.11946), table 1
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_LITE0_STEM = 32
_LITE0_EPSILON = 1e-3


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Normalisation of the RGB input in [0, 1] of a network: (x - mean) / deviation.

    Attributes:
        mean: Means of red, green and blue.
        deviation: Standard deviations of red, green and blue.

    Example:
        >>> Normalisation(mean=(0.5, 0.5, 0.5)).deviation
        (1.0, 1.0, 1.0)
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)


class Backbone(nn.Module):
    """A frozen network that returns the outputs of some of its layers.

    Its parameters get no gradient, its images do. It stays in evaluation mode.

    Args:
        backbone: Layers by name, in order; those after the last requested one are dropped.
        layers: Names of the layers to return.
        normalisation: Normalisation of the images.

    Raises:
        UsageError: No layer is requested, or one that the backbone does not have.

    Example:
        >>> import torch
        >>> layers = nn.Sequential()
        >>> layers.add_module("conv1_1", nn.Conv2d(3, 4, 3, padding=1))
        >>> backbone = Backbone(layers, ["conv1_1"], Normalisation())
        >>> {name: output.shape for name, output in backbone(torch.rand(1, 3, 8, 8)).items()}
        {'conv1_1': torch.Size([1, 4, 8, 8])}
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, backbone: nn.Sequential, layers: Collection[str], normalisation: Normalisation
    ) -> None:
        super().__init__()
        names = [name for name, _ in backbone.named_children()]
        _check_layers(layers, names)
        last = max(names.index(layer) for layer in layers)
        self.backbone = backbone[: last + 1]
        self.layers = frozenset(layers)
        self.register_buffer("mean", _per_channel(normalisation.mean), persistent=False)
        self.register_buffer("deviation", _per_channel(normalisation.deviation), persistent=False)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, even if a parent module is set to training mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs of the requested layers.

        Args:
            images: Tensor of shape (N, 3, H, W), RGB in [0, 1].

        Returns:
            Tensors of shape (N, C, h, w) by layer, in the backbone's order, not clamped.
        """
        x = (images - self.mean) / self.deviation
        outputs: dict[str, Tensor] = {}
        for name, layer in self.backbone.named_children():
            x = layer(x)
            if name in self.layers:
                outputs[name] = x
        return outputs


def vgg(name: VGGName) -> nn.Sequential:
    """Return the convolutions of VGG (arXiv 1409.1556, table 1, D and E) without trained weights.

    The layers are called `conv1_1`, `relu1_1`, ..., `pool1`, `conv2_1`, ...: the output of a `conv`
    is before the activation, that of a `relu` after it.

    Args:
        name: `vgg16` or `vgg19`.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     network = vgg("vgg19")
        >>> [name for name, _ in network.named_children()][:3]
        ['conv1_1', 'relu1_1', 'conv1_2']
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = 3
    for layer in vgg_layers(name):
        if layer.startswith("conv"):
            width = _VGG_WIDTHS[int(layer[4]) - 1]
            layers[layer] = nn.Conv2d(inputs, width, 3, padding=1)
            inputs = width
        elif layer.startswith("relu"):
            # Not in place, which would overwrite the output of a requested convolution.
            layers[layer] = nn.ReLU()
        else:
            layers[layer] = nn.MaxPool2d(2)
    return nn.Sequential(layers)


def vgg_layers(name: VGGName) -> list[str]:
    """Return the names of the layers of a VGG in torchvision's order."""
    names: list[str] = []
    for block, count in enumerate(VGG_BLOCKS[name], 1):
        for number in range(1, count + 1):
            names += [f"conv{block}_{number}", f"relu{block}_{number}"]
        names.append(f"pool{block}")
    return names


def efficientnet_lite0() -> nn.Sequential:
    """Return EfficientNet-Lite0 up to its last block, without trained weights.

    EfficientNet-B0 (arXiv 1905.11946) without squeeze-and-excitation and with ReLU6. The layers
    are called `stem` (after the activation) and `block0` to `block15` (linear).

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     network = efficientnet_lite0()
        >>> len(network)
        17
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=_Stem())
    widths = (_LITE0_STEM, *(row[-1] for row in _LITE0_BLOCKS))
    for row, (inputs, outputs) in zip(_LITE0_BLOCKS, pairwise(widths), strict=True):
        repeats, kernel, stride, expansion, _ = row
        for repeat in range(repeats):
            first = repeat == 0
            layers[f"block{len(layers) - 1}"] = _InvertedResidual(
                inputs if first else outputs, outputs, kernel, stride if first else 1, expansion
            )
    return nn.Sequential(layers)


class _SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding, which puts an odd pixel last."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        padding: list[int] = []
        for size in (input.shape[3], input.shape[2]):
            steps = -(-size // self.stride[0]) - 1
            total = max(steps * self.stride[0] + self.kernel_size[0] - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(input, padding))


class _Stem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv2d(3, _LITE0_STEM, 3, stride=2)
        self._bn0 = nn.BatchNorm2d(_LITE0_STEM, eps=_LITE0_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(self._bn0(self._conv_stem(x)))


class _InvertedResidual(nn.Module):
    """A block of MobileNetV2 (arXiv 1801.04381) with the keys of efficientnet-pytorch."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = _SameConv2d(inputs, wide, 1)
            self._bn0 = nn.BatchNorm2d(wide, eps=_LITE0_EPSILON)
        self._depthwise_conv = _SameConv2d(wide, wide, kernel, stride, groups=wide)
        self._bn1 = nn.BatchNorm2d(wide, eps=_LITE0_EPSILON)
        self._project_conv = _SameConv2d(wide, outputs, 1)
        self._bn2 = nn.BatchNorm2d(outputs, eps=_LITE0_EPSILON)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        wide = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        wide = F.relu6(self._bn1(self._depthwise_conv(wide)))
        result = self._bn2(self._project_conv(wide))
        return result + x if self.shortcut else result


def _per_channel(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


def _check_layers(layers: Collection[str], names: list[str]) -> None:
    if not layers:
        raise UsageError("a perceptual loss needs at least one layer, for example conv5_4")
    for layer in layers:
        if layer not in names:
            near = difflib.get_close_matches(layer, names, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else f" ({', '.join(names)})"
            raise UsageError(f"{layer}: the backbone has no such layer{hint}")
