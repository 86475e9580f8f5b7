"""LPIPS, ST-LPIPS and DISTS: distances between features of classification networks.

Importing this module imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from upscale.checkpoints import read_state_dict
from upscale.errors import CheckpointError
from upscale.metrics.backbones import alexnet, antialiased_alexnet, load_weights, vgg16
from upscale.metrics.samples import MetricError, Pixels, check_pair

SMALLEST_SIDE = 32
"""Pixels; the deepest features of smaller images carry next to no information."""

_BYTES_PER_PIXEL = 2048
"""Memory of both images in the first layers, which need most."""

# For samples in [-1, 1] (LPIPS) and [0, 1] (DISTS).
_LPIPS_MEAN, _LPIPS_DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_DISTS_MEAN, _DISTS_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_DISTS_FEATURES = 3 + 64 + 128 + 256 + 512 + 512
_DISTS_CONSTANT = 1e-6


class Lpips:
    """Weighted distance between features at five depths; lower is better, equal images give 0.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric"
    (2018), equation 1.
    """

    def __init__(self, slices: nn.ModuleList, weights: list[Tensor], device: str) -> None:
        self._slices = slices.eval().requires_grad_(False).to(device)
        self._weights = [weight.reshape(-1, 1, 1).float().to(device) for weight in weights]
        self._device = device

    def __call__(self, a: Pixels, b: Pixels, *, border: int = 0) -> float:
        """Return the distance between two images; see `psnr` for the arguments.

        Raises:
            ValueError: See `psnr`.
            MetricError: The sizes differ, a side is below 32 pixels, or memory does not suffice.
        """
        with torch.inference_mode():
            samples = _batch(a, b, border, self._device) * 2 - 1
            features = _normalise(samples, _LPIPS_MEAN, _LPIPS_DEVIATION)
            total = features.new_zeros(())
            for part, weight in zip(self._slices, self._weights, strict=True):
                features = part(features)
                lengths = features.square().sum(1, keepdim=True).sqrt()
                x, y = features / (lengths + 1e-10)
                total += ((x - y).square() * weight).sum(0).mean()
        return float(total)


class DistsNetwork(nn.Module):
    """Distance in structure and texture, with gradients.

    Source: Ding et al., "Image Quality Assessment: Unifying Structure and Texture Similarity"
    (2020), equations 6 to 8.

    Args:
        slices: Backbone, whose weights stay as they are.
        textures: Weights of the similarities of textures.
        structures: Weights of the similarities of structures.
    """

    textures: Tensor
    structures: Tensor

    def __init__(self, slices: nn.ModuleList, textures: Tensor, structures: Tensor) -> None:
        super().__init__()
        self.slices = slices.eval().requires_grad_(False)
        total = textures.sum() + structures.sum()
        self.register_buffer("textures", (textures / total).flatten().float())
        self.register_buffer("structures", (structures / total).flatten().float())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the distances (N,) of images (N, 3, H, W) in 0..1, RGB."""
        pairs = [_similarities(x, y)]
        x, y = (_normalise(each, _DISTS_MEAN, _DISTS_DEVIATION) for each in (x, y))
        for part in self.slices:
            x, y = part(x), part(y)
            pairs.append(_similarities(x, y))
        textures, structures = (torch.cat(part, 1) for part in zip(*pairs, strict=True))
        return 1 - (textures @ self.textures + structures @ self.structures)


class Dists:
    """DISTS as a metric; lower is better, equal images give 0."""

    def __init__(self, network: DistsNetwork, device: str) -> None:
        self.network = network.to(device)
        self._device = device

    def __call__(self, a: Pixels, b: Pixels, *, border: int = 0) -> float:
        """Return the distance between two images; see `Lpips`."""
        with torch.inference_mode():
            pair = _batch(a, b, border, self._device)
            return float(self.network(pair[:1], pair[1:]))


def load_lpips(
    network: Literal["alexnet", "vgg16"], backbone: Path, weights: Path, device: str
) -> Lpips:
    """Load LPIPS 0.1 (Zhang et al. 2018).

    Args:
        network: Backbone that the files belong to.
        backbone: Weights of the backbone as torchvision stores them.
        weights: `alex.pth` or `vgg.pth` of LPIPS 0.1.
        device: Torch device, for example `cuda:0`.

    Raises:
        CheckpointError: A file cannot be read, or is a different file.
    """
    slices = alexnet() if network == "alexnet" else vgg16()
    load_weights(slices, read_state_dict(backbone), backbone)
    return Lpips(slices, _linear_weights(read_state_dict(weights), slices, weights), device)


def load_st_lpips(file: Path, device: str) -> Lpips:
    """Load ST-LPIPS (Ghildyal and Liu 2022) with its AlexNet.

    Args:
        file: `alex_shift_tolerant.pth`.
        device: Torch device, for example `cuda:0`.

    Raises:
        CheckpointError: The file cannot be read, or is a different file.
    """
    state = read_state_dict(file)
    slices = antialiased_alexnet()
    renamed = {re.sub(r"^net\.slice\d", "features", key): state[key] for key in state}
    load_weights(slices, renamed, file)
    return Lpips(slices, _linear_weights(state, slices, file), device)


def load_dists(backbone: Path, weights: Path, device: str) -> Dists:
    """Load DISTS (Ding et al. 2020).

    Args:
        backbone: Weights of VGG16 as torchvision stores them.
        weights: `weights.pt` of DISTS.
        device: Torch device, for example `cuda:0`.

    Raises:
        CheckpointError: A file cannot be read, or is a different file.
    """
    slices = vgg16(l2_pooling=True)
    load_weights(slices, read_state_dict(backbone), backbone)
    state = read_state_dict(weights)
    if any(key not in state or state[key].numel() != _DISTS_FEATURES for key in ("alpha", "beta")):
        raise CheckpointError(f"{weights}: is not the weights.pt of DISTS; download it again")
    return Dists(DistsNetwork(slices, state["alpha"], state["beta"]), device)


def _linear_weights(state: Mapping[str, Tensor], slices: nn.ModuleList, path: Path) -> list[Tensor]:
    """Return the weights of each slice's features, (C,)."""
    weights: list[Tensor] = []
    for index, part in enumerate(slices):
        channels = [layer.out_channels for layer in part.modules() if isinstance(layer, nn.Conv2d)]
        weight = state.get(f"lin{index}.model.1.weight")
        if weight is None or weight.numel() != channels[-1]:
            raise CheckpointError(
                f"{path}: has no weights for this network; use the file that belongs to it"
            )
        weights.append(weight)
    return weights


def _batch(a: Pixels, b: Pixels, border: int, device: str) -> Tensor:
    """Return two images as (2, 3, H, W) in [0, 1]."""
    pair = check_pair(a, b, border)
    height, width = pair[0].shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise MetricError(f"{width}x{height} is smaller than {SMALLEST_SIDE}x{SMALLEST_SIDE}")
    needed = height * width * _BYTES_PER_PIXEL
    if needed > _free_bytes(device):
        raise MetricError(f"{width}x{height} needs about {needed / 2**30:.0f} GB of memory")
    arrays = [_to_unit_range(pixels) for pixels in pair]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous().to(device)


def _to_unit_range(pixels: Pixels) -> NDArray[np.float32]:
    """Return (H, W, 3) in [0, 1]."""
    full = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    return np.broadcast_to(pixels.astype(np.float32) / np.float32(full), (*pixels.shape[:2], 3))


def _free_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(torch.device(device))[0]
    return psutil.virtual_memory().available


def _normalise(samples: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    centred = samples - samples.new_tensor(mean).view(3, 1, 1)
    return centred / samples.new_tensor(deviation).view(3, 1, 1)


def _similarities(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the texture and the structure similarities of (N, C, H, W), each (N, C)."""
    mean_x, mean_y = x.mean((2, 3)), y.mean((2, 3))
    textures = (2 * mean_x * mean_y + _DISTS_CONSTANT) / (
        mean_x.square() + mean_y.square() + _DISTS_CONSTANT
    )
    variances = x.var((2, 3), correction=0) + y.var((2, 3), correction=0)
    covariance = (x * y).mean((2, 3)) - mean_x * mean_y
    structures = (2 * covariance + _DISTS_CONSTANT) / (variances + _DISTS_CONSTANT)
    return textures, structures
