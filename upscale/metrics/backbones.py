"""Networks for perceptual metrics, cut into the stages after which features are compared.

Importing this module imports torch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.errors import CheckpointError

_VGG16 = (
    *((3, 64), (64, 64)),
    *((64, 128), (128, 128)),
    *((128, 256), (256, 256), (256, 256)),
    *((256, 512), (512, 512), (512, 512)),
    *((512, 512), (512, 512), (512, 512)),
)
_VGG16_POOLED = (2, 4, 7, 10)
"""Before which of the convolutions there is a pooling."""


def alexnet() -> nn.ModuleList:
    """Torchvision's AlexNet in the five stages of LPIPS."""
    layers = [
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *_deep_alexnet(),
    ]
    return _stages(layers, (2, 5, 8, 10, 12))


def steady_alexnet() -> nn.ModuleList:
    """The AlexNet of ST-LPIPS, which blurs before it takes every other place."""
    layers = [
        *(nn.Conv2d(3, 64, 11, padding=2), _BlurPool(64), nn.ReLU(), nn.MaxPool2d(3, 1)),
        *(_BlurPool(64), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 1)),
        *(_BlurPool(192), *_deep_alexnet()),
    ]
    return _stages(layers, (3, 7, 11, 13, 15))


def vgg16(*, root_mean_square: bool = False) -> nn.ModuleList:
    """Torchvision's VGG16 in the five stages of LPIPS and DISTS.

    Args:
        root_mean_square: Pool blurred squares, as DISTS does, and not the largest value.
    """
    layers: list[nn.Module] = []
    taps: list[int] = []
    for place, (inputs, outputs) in enumerate(_VGG16):
        if place in _VGG16_POOLED:
            taps.append(len(layers))
            layers.append(_RootMeanSquarePool(inputs) if root_mean_square else nn.MaxPool2d(2, 2))
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    return _stages(layers, (*taps, len(layers)))


def fill(stages: nn.ModuleList, state: Mapping[str, Tensor], path: Path) -> None:
    """Give a network its weights, kept under torchvision's keys (`features.0.weight`).

    Raises:
        CheckpointError: They do not fit; `path` is named.
    """
    keys = {key: f"features.{key.partition('.')[2]}" for key in stages.state_dict()}
    missing = set(keys.values()) - state.keys()
    if missing:
        raise CheckpointError(f"{path}: lacks {min(missing)}; give the file of that name")
    try:
        stages.load_state_dict({key: state[there] for key, there in keys.items()})
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(f"{path}: does not fit its network ({reason})") from error


def _deep_alexnet() -> list[nn.Module]:
    return [
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    ]


def _stages(layers: Sequence[nn.Module], ends: Sequence[int]) -> nn.ModuleList:
    """Cut layers; each keeps its number in the whole network as its name."""
    named = [(str(place), layer) for place, layer in enumerate(layers)]
    starts = (0, *ends[:-1])
    return nn.ModuleList(
        nn.Sequential(OrderedDict(named[start:end]))
        for start, end in zip(starts, ends, strict=True)
    )


class _BlurPool(nn.Module):
    """Every other place of a binomial blur, with two more places on every side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._channels = channels

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H // 2 + 1, W // 2 + 1)."""
        line = features.new_tensor([1, 2, 1]) / 4
        kernel = torch.outer(line, line).expand(self._channels, 1, 3, 3)
        padded = F.pad(features, (2, 2, 2, 2), "reflect")
        return F.conv2d(padded, kernel, stride=2, groups=self._channels)


class _RootMeanSquarePool(nn.Module):
    """Every other place of the root of blurred squares."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._channels = channels

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, ceil(H / 2), ceil(W / 2))."""
        line = features.new_tensor([1, 2, 1]) / 4
        kernel = torch.outer(line, line).expand(self._channels, 1, 3, 3)
        blurred = F.conv2d(features.square(), kernel, stride=2, padding=1, groups=self._channels)
        return (blurred + 1e-12).sqrt()
