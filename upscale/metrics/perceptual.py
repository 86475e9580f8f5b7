"""Distances between what classification networks see: LPIPS, ST-LPIPS and DISTS.

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
from torch import Tensor, nn

from upscale.checkpoints import read_state_dict
from upscale.errors import CheckpointError
from upscale.metrics.backbones import alexnet, fill, steady_alexnet, vgg16
from upscale.metrics.samples import Pixels, UnfitError, checked_pair

SMALLEST_SIDE = 32
"""Pixels; of less, the deepest layers see next to nothing."""

_BYTES_A_PIXEL = 2048
"""Of memory, for both images in the first layers, which are the largest."""

_LPIPS_MEAN, _LPIPS_DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of samples in [-1, 1]."""

_DISTS_MEAN, _DISTS_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_DISTS_FEATURES = 3 + 64 + 128 + 256 + 512 + 512
_DISTS_STEADIER = 1e-6


class Lpips:
    """The weighted distance of features at five depths; less is better, equal images have 0."""

    def __init__(self, stages: nn.ModuleList, weights: list[Tensor], device: str) -> None:
        self._stages = stages.eval().requires_grad_(False).to(device)
        self._weights = [weight.reshape(-1, 1, 1).float().to(device) for weight in weights]
        self._device = device

    def __call__(self, a: Pixels, b: Pixels, *, border: int = 0) -> float:
        """Measure two images; see `psnr` for what they may be.

        Raises:
            ValueError: See `psnr`.
            UnfitError: The sizes differ, a side is below 32 pixels, or memory does not suffice.
        """
        with torch.inference_mode():
            features = _normal(
                _batch(a, b, border, self._device) * 2 - 1, _LPIPS_MEAN, _LPIPS_DEVIATION
            )
            total = features.new_zeros(())
            for stage, weight in zip(self._stages, self._weights, strict=True):
                features = stage(features)
                lengths = features.square().sum(1, keepdim=True).sqrt()
                one, other = features / (lengths + 1e-10)
                total += ((one - other).square() * weight).sum(0).mean()
        return float(total)


class Dists:
    """How unlike textures and structures are; less is better, equal images have 0."""

    def __init__(
        self, stages: nn.ModuleList, textures: Tensor, structures: Tensor, device: str
    ) -> None:
        self._stages = stages.eval().requires_grad_(False).to(device)
        whole = textures.sum() + structures.sum()
        self._textures = (textures / whole).flatten().float().to(device)
        self._structures = (structures / whole).flatten().float().to(device)
        self._device = device

    def __call__(self, a: Pixels, b: Pixels, *, border: int = 0) -> float:
        """Measure two images; see `Lpips`."""
        with torch.inference_mode():
            features = _batch(a, b, border, self._device)
            found = [_likeness(features)]
            features = _normal(features, _DISTS_MEAN, _DISTS_DEVIATION)
            for stage in self._stages:
                features = stage(features)
                found.append(_likeness(features))
            textures, structures = (torch.cat(part) for part in zip(*found, strict=True))
            alike = self._textures @ textures + self._structures @ structures
        return float(1 - alike)


def load_lpips(
    network: Literal["alexnet", "vgg16"], backbone: Path, weights: Path, device: str
) -> Lpips:
    """Read LPIPS 0.1 (Zhang et al. 2018).

    Args:
        network: Which one the files are for.
        backbone: The network as torchvision keeps it.
        weights: `alex.pth` or `vgg.pth` of LPIPS 0.1.
        device: Where it runs.

    Raises:
        CheckpointError: A file cannot be read, or is another one.
    """
    stages = alexnet() if network == "alexnet" else vgg16()
    fill(stages, read_state_dict(backbone), backbone)
    return Lpips(stages, _linear(read_state_dict(weights), stages, weights), device)


def load_st_lpips(file: Path, device: str) -> Lpips:
    """Read ST-LPIPS (Ghildyal and Liu 2022) with its AlexNet.

    Args:
        file: `alex_shift_tolerant.pth`.
        device: Where it runs.

    Raises:
        CheckpointError: The file cannot be read, or is another one.
    """
    state = read_state_dict(file)
    stages = steady_alexnet()
    fill(stages, {re.sub(r"^net\.slice\d", "features", key): state[key] for key in state}, file)
    return Lpips(stages, _linear(state, stages, file), device)


def load_dists(backbone: Path, weights: Path, device: str) -> Dists:
    """Read DISTS (Ding et al. 2020).

    Args:
        backbone: VGG16 as torchvision keeps it.
        weights: `weights.pt` of DISTS.
        device: Where it runs.

    Raises:
        CheckpointError: A file cannot be read, or is another one.
    """
    stages = vgg16(root_mean_square=True)
    fill(stages, read_state_dict(backbone), backbone)
    state = read_state_dict(weights)
    if any(key not in state or state[key].numel() != _DISTS_FEATURES for key in ("alpha", "beta")):
        raise CheckpointError(f"{weights}: is not the weights.pt of DISTS; get it again")
    return Dists(stages, state["alpha"], state["beta"], device)


def _linear(state: Mapping[str, Tensor], stages: nn.ModuleList, path: Path) -> list[Tensor]:
    """The weights of the features of each stage, (C,)."""
    found: list[Tensor] = []
    for place, stage in enumerate(stages):
        channels = [layer.out_channels for layer in stage.modules() if isinstance(layer, nn.Conv2d)]
        weight = state.get(f"lin{place}.model.1.weight")
        if weight is None or weight.numel() != channels[-1]:
            raise CheckpointError(f"{path}: has no weights for this network; give its own file")
        found.append(weight)
    return found


def _batch(a: Pixels, b: Pixels, border: int, device: str) -> Tensor:
    """Two images as (2, 3, H, W) in [0, 1]."""
    pair = checked_pair(a, b, border)
    height, width = pair[0].shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise UnfitError(f"{width}x{height} is less than {SMALLEST_SIDE}x{SMALLEST_SIDE}")
    needed = height * width * _BYTES_A_PIXEL
    if needed > _free_bytes(device):
        raise UnfitError(f"{width}x{height} needs about {needed / 2**30:.0f} GB of memory")
    arrays = [_unit(pixels) for pixels in pair]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous().to(device)


def _unit(pixels: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(H, W, 3) in [0, 1]."""
    full = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    return np.broadcast_to(pixels.astype(np.float32) / np.float32(full), (*pixels.shape[:2], 3))


def _free_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(torch.device(device))[0]
    return psutil.virtual_memory().available


def _normal(samples: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    centre = samples.new_tensor(mean).view(3, 1, 1)
    return (samples - centre) / samples.new_tensor(deviation).view(3, 1, 1)


def _likeness(features: Tensor) -> tuple[Tensor, Tensor]:
    """Likeness of the textures and of the structures of (2, C, H, W), (C,) each."""
    one, other = features
    mean_one, mean_other = one.mean((1, 2)), other.mean((1, 2))
    textures = (2 * mean_one * mean_other + _DISTS_STEADIER) / (
        mean_one.square() + mean_other.square() + _DISTS_STEADIER
    )
    variances = one.var((1, 2), correction=0) + other.var((1, 2), correction=0)
    covariance = (one * other).mean((1, 2)) - mean_one * mean_other
    structures = (2 * covariance + _DISTS_STEADIER) / (variances + _DISTS_STEADIER)
    return textures, structures
