"""Backbones of perceptual metrics, split into slices after which features are compared.

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

# Input and output channels of VGG16's convolutions, a line for each resolution.
_VGG16 = (
    *((3, 64), (64, 64)),
    *((64, 128), (128, 128)),
    *((128, 256), (256, 256), (256, 256)),
    *((256, 512), (512, 512), (512, 512)),
    *((512, 512), (512, 512), (512, 512)),
)
_POOLED_BEFORE = (2, 4, 7, 10)


def alexnet() -> nn.ModuleList:
    """Return torchvision's AlexNet in the five slices of LPIPS."""
    layers = [
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *_deep_alexnet_layers(),
    ]
    return _slices(layers, (2, 5, 8, 10, 12))


def antialiased_alexnet() -> nn.ModuleList:
    """Return the AlexNet of ST-LPIPS, which blurs before each downsampling."""
    layers = [
        *(nn.Conv2d(3, 64, 11, padding=2), _BlurPool(), nn.ReLU(), nn.MaxPool2d(3, 1)),
        *(_BlurPool(), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 1)),
        *(_BlurPool(), *_deep_alexnet_layers()),
    ]
    return _slices(layers, (3, 7, 11, 13, 15))


def vgg16(*, l2_pooling: bool = False) -> nn.ModuleList:
    """Return torchvision's VGG16 in the five slices of LPIPS and DISTS.

    Args:
        l2_pooling: Replace maximum pooling by L2 pooling, as DISTS does.
    """
    layers: list[nn.Module] = []
    ends: list[int] = []
    for index, (inputs, outputs) in enumerate(_VGG16):
        if index in _POOLED_BEFORE:
            ends.append(len(layers))
            layers.append(_L2Pool() if l2_pooling else nn.MaxPool2d(2, 2))
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    return _slices(layers, (*ends, len(layers)))


def load_weights(slices: nn.ModuleList, state: Mapping[str, Tensor], path: Path) -> None:
    """Load weights that are stored under torchvision's keys (`features.0.weight`).

    Args:
        slices: Backbone, as the functions above return it.
        state: State dict of the file.
        path: The file, for error messages.

    Raises:
        CheckpointError: The weights do not fit the backbone.
    """
    keys = {key: f"features.{key.partition('.')[2]}" for key in slices.state_dict()}
    missing = set(keys.values()) - state.keys()
    if missing:
        raise CheckpointError(f"{path}: lacks {min(missing)}; use the file of that name")
    try:
        slices.load_state_dict({key: state[stored] for key, stored in keys.items()})
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(f"{path}: does not fit its network ({reason})") from error


def _deep_alexnet_layers() -> list[nn.Module]:
    return [
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    ]


def _slices(layers: Sequence[nn.Module], ends: Sequence[int]) -> nn.ModuleList:
    """Split layers into slices; each layer is named by its index in the whole network."""
    named = [(str(index), layer) for index, layer in enumerate(layers)]
    starts = (0, *ends[:-1])
    return nn.ModuleList(
        nn.Sequential(OrderedDict(named[start:end]))
        for start, end in zip(starts, ends, strict=True)
    )


def _binomial_blur(features: Tensor, padding: int) -> Tensor:
    """Filter each channel with a 3x3 binomial kernel and a stride of 2."""
    channels = features.shape[1]
    line = features.new_tensor([1, 2, 1]) / 4
    kernel = torch.outer(line, line).expand(channels, 1, 3, 3)
    return F.conv2d(features, kernel, stride=2, padding=padding, groups=channels)


class _BlurPool(nn.Module):
    """Binomial blur with a stride of 2 and two reflected pixels on every side."""

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, C, H // 2 + 1, W // 2 + 1) for (N, C, H, W)."""
        return _binomial_blur(F.pad(features, (2, 2, 2, 2), "reflect"), 0)


class _L2Pool(nn.Module):
    """L2 pooling: the root of the blurred squares, with a stride of 2.

    Source: Ding et al., "Image Quality Assessment: Unifying Structure and Texture Similarity"
    (2020), equation 4.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, C, ceil(H / 2), ceil(W / 2)) for (N, C, H, W)."""
        return (_binomial_blur(features.square(), 1) + 1e-12).sqrt()
