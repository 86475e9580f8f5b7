"""Operations as basicsr 1.4.2 applies them, faults included, to reproduce its results.

Kernels, filtering and sharpening are the same in both modes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale_training.degradation.jpeg import (
    BLOCK,
    CHROMA_TABLE,
    LUMA_TABLE,
    across,
    down,
    in_blocks,
    mixed,
)
from upscale_training.degradation.noise import grey_of, peaks_of, seeded, shot_noise, to_levels
from upscale_training.degradation.operations import GaussianNoise, Jpeg, PoissonNoise, Resize

TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def resize(images: Tensor, size: tuple[int, int], operation: Resize) -> Tensor:
    """Resize (N, 3, H, W) without antialiasing.

    The first resize of a chain steps by 1 / factor, not by the ratio of sizes. At least one pixel
    is left, where basicsr would leave none.
    """
    if operation.scale is None and min(images.shape[2:]) * operation.factor >= 1:
        return F.interpolate(images, scale_factor=operation.factor, mode=operation.kind)
    return F.interpolate(images, size=size, mode=operation.kind)


def add_gaussian(images: Tensor, noises: Sequence[GaussianNoise]) -> Tensor:
    """Add noise from one stream for the whole batch; grey noise is the same in all images."""
    generator = seeded(noises[0].seed, images.device)
    spread = _column(images, [noise.sigma for noise in noises])
    grey = _column(images, [float(noise.grey) for noise in noises])
    field = torch.zeros_like(images[:1, :1])
    if any(noise.grey for noise in noises):
        field = torch.randn(images.shape[2:], generator=generator, device=images.device) * spread
    colour = torch.randn(images.shape, generator=generator, device=images.device) * spread
    return (images + (colour * (1 - grey) + field * grey) / 255).clamp_(0, 1)


def add_poisson(images: Tensor, noises: Sequence[PoissonNoise]) -> Tensor:
    """Add noise from one stream for the whole batch, sampled in colour and, if needed, in grey."""
    generator = seeded(noises[0].seed, images.device)
    scale = _column(images, [noise.scale for noise in noises])
    grey = _column(images, [float(noise.grey) for noise in noises])
    field = torch.zeros_like(images[:1, :1])
    if any(noise.grey for noise in noises):
        levels = to_levels(grey_of(images))
        field = shot_noise(levels, peaks_of(levels), generator)
    levels = to_levels(images)
    colour = shot_noise(levels, peaks_of(levels), generator)
    return (images + (colour * (1 - grey) + field * grey) * scale).clamp_(0, 1)


def jpeg(images: Tensor, operations: Sequence[Jpeg]) -> Tensor:
    """Compress as DiffJPEG does: a transposed luma table, no integers, black beyond the edge."""
    height, width = images.shape[-2:]
    side = 2 * BLOCK
    images = F.pad(images.clamp(0, 1), (0, -width % side, 0, -height % side))
    factors = images.new_tensor([_factor(each.quality) for each in operations]).view(-1, 1, 1)
    luma, chroma = images.new_tensor(LUMA_TABLE).T, images.new_tensor(CHROMA_TABLE)
    planes = mixed(images.new_tensor(TO_YCC), images * 255)
    first = _coded(planes[:, :1] - 128, luma * factors) + 128
    rest = _coded(F.avg_pool2d(planes[:, 1:], 2), chroma * factors)
    rest = rest.repeat_interleave(2, -1).repeat_interleave(2, -2)
    result = mixed(images.new_tensor(TO_RGB), torch.cat([first, rest], 1))
    return result.clamp(0, 255)[..., :height, :width] / 255


def _coded(planes: Tensor, table: Tensor) -> Tensor:
    """Quantise the cosine transforms of blocks, and transform back; tables (N, 8, 8)."""
    place = torch.arange(BLOCK, device=planes.device)
    cosines = torch.cos((2 * place + 1) * place[:, None] * (math.pi / (2 * BLOCK))) / 2
    cosines[0] /= math.sqrt(2)
    coefficients = down(across(planes, cosines), cosines)
    table = table[:, None, None, :, None, :]
    in_blocks(coefficients).div_(table).round_().mul_(table)
    return down(across(coefficients, cosines.T), cosines.T)


def _factor(quality: float) -> float:
    return (5000 / quality if quality < 50 else 200 - quality * 2) / 100


def _column(images: Tensor, values: list[float]) -> Tensor:
    return images.new_tensor(values).view(-1, 1, 1, 1)
