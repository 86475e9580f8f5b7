"""RetinaFace, a detector of faces with five landmarks.

Deng, Guo, Zhou, Yu, Kotsia and Zafeiriou, "RetinaFace: Single-shot Multi-level Face Localisation in
the Wild", 2020. The names of the layers are those of the checkpoints that facexlib uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDES = (8, 16, 32)
"""Distance of neighbouring anchors in pixels, on each level."""

ANCHORS = ((16, 32), (64, 128), (256, 512))
"""Sides of the squares around each position in pixels, on each level."""

_OF_RESNET = "body.layer1.0.conv1.weight"
_OF_MOBILENET = "body.stage1.0.0.weight"
"""Keys that only one of the two backbones has."""


class RetinaFace(nn.Module):
    """Find faces around anchors; the two backbones are ResNet-50 and MobileNet at a quarter width.

    Args:
        backbone: Module that returns three feature maps, at the distances of `STRIDES`.
        inputs: Channels of these.
        channels: Channels of the feature pyramid.
    """

    def __init__(self, backbone: nn.Module, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        self.body = backbone
        self.fpn = _Pyramid(inputs, channels)
        self.ssh1 = _Context(channels)
        self.ssh2 = _Context(channels)
        self.ssh3 = _Context(channels)
        self.ClassHead = _heads(channels, 2)
        self.BboxHead = _heads(channels, 4)
        self.LandmarkHead = _heads(channels, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is predicted for each anchor.

        Args:
            images: Images of shape (N, 3, H, W), BGR, 0..255 less the mean colour.

        Returns:
            Shifts and growths of boxes (N, A, 4), scores in 0..1 (N, A), and shifts of landmarks
            (N, A, 10). The order of the A anchors is that of `anchors`.
        """
        levels = self.fpn(self.body(images))
        contexts = (self.ssh1, self.ssh2, self.ssh3)
        features = [context(level) for context, level in zip(contexts, levels, strict=True)]
        boxes, scores, landmarks = (
            torch.cat([head(feature) for head, feature in zip(heads, features, strict=True)], 1)
            for heads in (self.BboxHead, self.ClassHead, self.LandmarkHead)
        )
        return boxes, scores.softmax(-1)[..., 1], landmarks


def anchors(height: int, width: int) -> Tensor:
    """Return the middles and sides of the anchors of an image in pixels, shape (A, 3).

    Args:
        height: Height of the image.
        width: Width of the image.

    Example:
        >>> anchors(8, 8)[:2].tolist()
        [[4.0, 4.0, 16.0], [4.0, 4.0, 32.0]]
    """
    levels: list[Tensor] = []
    for stride, sides in zip(STRIDES, ANCHORS, strict=True):
        rows = (torch.arange(-(-height // stride)) + 0.5) * stride
        columns = (torch.arange(-(-width // stride)) + 0.5) * stride
        grid = torch.cartesian_prod(rows, columns, torch.tensor(sides, dtype=torch.float32))
        levels.append(grid[:, [1, 0, 2]])
    return torch.cat(levels)


def build_retinaface(state: Mapping[str, Tensor]) -> RetinaFace | None:
    """Return the network whose state dict this is, without its values; None for other networks."""
    if _OF_RESNET in state:
        return RetinaFace(_ResNet50(), (512, 1024, 2048), 256)
    if _OF_MOBILENET in state:
        return RetinaFace(_MobileNet(), (64, 128, 256), 64)
    return None


def _layer(
    inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution without bias and its batch normalisation."""
    convolution = nn.Conv2d(
        inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False
    )
    return [convolution, nn.BatchNorm2d(outputs)]


def _active(layer: list[nn.Module], slope: float) -> list[nn.Module]:
    return [*layer, nn.LeakyReLU(slope, inplace=True)]


def _slope(channels: int) -> float:
    """Return the slope below zero in the pyramid and the heads."""
    return 0.1 if channels <= 64 else 0.0


class _Pyramid(nn.Module):
    """Bring feature maps to one width, and add each to the finer ones."""

    def __init__(self, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        slope = _slope(channels)
        first, second, third = (
            nn.Sequential(*_active(_layer(count, channels, 1), slope)) for count in inputs
        )
        self.output1, self.output2, self.output3 = first, second, third
        self.merge1 = nn.Sequential(*_active(_layer(channels, channels), slope))
        self.merge2 = nn.Sequential(*_active(_layer(channels, channels), slope))

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return three feature maps of the same sizes."""
        fine, middle, coarse = (
            output(level)
            for output, level in zip(
                (self.output1, self.output2, self.output3), levels, strict=True
            )
        )
        middle = self.merge2(middle + F.interpolate(coarse, size=middle.shape[2:]))
        fine = self.merge1(fine + F.interpolate(middle, size=fine.shape[2:]))
        return [fine, middle, coarse]


class _Context(nn.Module):
    """Look at each position with three sizes of surroundings (SSH)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half, quarter, slope = channels // 2, channels // 4, _slope(channels)
        self.conv3X3 = nn.Sequential(*_layer(channels, half))
        self.conv5X5_1 = nn.Sequential(*_active(_layer(channels, quarter), slope))
        self.conv5X5_2 = nn.Sequential(*_layer(quarter, quarter))
        self.conv7X7_2 = nn.Sequential(*_active(_layer(quarter, quarter), slope))
        self.conv7x7_3 = nn.Sequential(*_layer(quarter, quarter))

    def forward(self, features: Tensor) -> Tensor:
        """Return a feature map of the same shape."""
        reduced = self.conv5X5_1(features)
        parts = [
            self.conv3X3(features),
            self.conv5X5_2(reduced),
            self.conv7x7_3(self.conv7X7_2(reduced)),
        ]
        return torch.cat(parts, 1).relu()


class _Head(nn.Module):
    """Predict values for each of the two anchors of a position."""

    def __init__(self, channels: int, values: int) -> None:
        super().__init__()
        self._values = values
        self.conv1x1 = nn.Conv2d(channels, len(ANCHORS[0]) * values, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return values of shape (N, anchors of this level, values)."""
        predicted = self.conv1x1(features).permute(0, 2, 3, 1)
        return predicted.reshape(len(features), -1, self._values)


def _heads(channels: int, values: int) -> nn.ModuleList:
    return nn.ModuleList(_Head(channels, values) for _ in STRIDES)


class _MobileNet(nn.Module):
    """MobileNet of a quarter of the usual width, without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        first = nn.Sequential(*_active(_layer(3, 8, stride=2), 0.1))
        self.stage1 = nn.Sequential(
            first,
            _separable(8, 16),
            _separable(16, 32, 2),
            _separable(32, 32),
            _separable(32, 64, 2),
            _separable(64, 64),
        )
        self.stage2 = nn.Sequential(
            _separable(64, 128, 2), *(_separable(128, 128) for _ in range(5))
        )
        self.stage3 = nn.Sequential(_separable(128, 256, 2), _separable(256, 256))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps at an eighth, a 16th and a 32nd of the size."""
        return _outputs(images, (self.stage1, self.stage2, self.stage3))


def _separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution of each channel, and one that mixes the channels."""
    depthwise = _layer(inputs, inputs, stride=stride, groups=inputs)
    return nn.Sequential(*_active(depthwise, 0.1), *_active(_layer(inputs, outputs, 1), 0.1))


class _ResNet50(nn.Module):
    """ResNet-50 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _bottlenecks(64, 64, 3, stride=1)
        self.layer2 = _bottlenecks(256, 128, 4, stride=2)
        self.layer3 = _bottlenecks(512, 256, 6, stride=2)
        self.layer4 = _bottlenecks(1024, 512, 3, stride=2)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps at an eighth, a 16th and a 32nd of the size."""
        first = F.max_pool2d(self.bn1(self.conv1(images)).relu_(), 3, 2, padding=1)
        return _outputs(self.layer1(first), (self.layer2, self.layer3, self.layer4))


def _outputs(features: Tensor, parts: Sequence[nn.Module]) -> list[Tensor]:
    """Return the outputs of consecutive parts of a backbone."""
    outputs: list[Tensor] = []
    for part in parts:
        features = cast(Tensor, part(features))
        outputs.append(features)
    return outputs


def _bottlenecks(inputs: int, width: int, count: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        _Bottleneck(inputs, width, stride),
        *(_Bottleneck(4 * width, width) for _ in range(count - 1)),
    )


class _Bottleneck(nn.Module):
    """Residual block that computes on a quarter of its output channels."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = _layer(inputs, width, 1)
        self.conv2, self.bn2 = _layer(width, width, 3, stride)
        self.conv3, self.bn3 = _layer(width, outputs, 1)
        is_plain = inputs == outputs and stride == 1
        self.downsample = None if is_plain else nn.Sequential(*_layer(inputs, outputs, 1, stride))

    def forward(self, features: Tensor) -> Tensor:
        """Return a feature map with four times `width` channels."""
        inner = self.bn1(self.conv1(features)).relu_()
        inner = self.bn2(self.conv2(inner)).relu_()
        inner = self.bn3(self.conv3(inner))
        shortcut = features if self.downsample is None else self.downsample(features)
        return inner.add_(shortcut).relu_()
