"""Gaussian and Poisson noise in colour and grey (Real-ESRGAN, section 3.1).

Every image has a seed of its own: its noise does not depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from upscale_training.degradation.operations import GaussianNoise, PoissonNoise

LUMINANCE = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a grey image."""

LEVELS = 256


def add_gaussian(images: Tensor, noises: Sequence[GaussianNoise]) -> Tensor:
    """Add noise to each of (N, C, H, W), clipped to [0, 1]."""
    result = torch.empty_like(images)
    for image, noise, target in zip(images, noises, result, strict=True):
        shape = (1, *image.shape[1:]) if noise.grey else image.shape
        generator = seeded(noise.seed, images.device)
        field = torch.randn(shape, generator=generator, device=images.device)
        torch.add(image, field, alpha=noise.sigma / 255, out=target)
    return result.clamp_(0, 1)


def add_poisson(images: Tensor, noises: Sequence[PoissonNoise]) -> Tensor:
    """Add noise to each of (N, 3, H, W), clipped to [0, 1]; never waits for the device."""
    result = torch.empty_like(images)
    for image, noise, target in zip(images.split(1), noises, result, strict=True):
        levels = to_levels(grey_of(image) if noise.grey else image)
        peaks = peaks_of(levels) if noise.peak is None else levels.new_full((), noise.peak)
        field = shot_noise(levels, peaks, seeded(noise.seed, images.device))
        torch.add(image[0], field[0], alpha=noise.scale, out=target)
    return result.clamp_(0, 1)


def seeded(seed: int, device: torch.device) -> torch.Generator:
    """A new stream."""
    return torch.Generator(device).manual_seed(seed)


def grey_of(images: Tensor) -> Tensor:
    """(N, 3, H, W) to its luminance, (N, 1, H, W)."""
    red, green, blue = (images[:, place, None] for place in range(3))
    return LUMINANCE[0] * red + LUMINANCE[1] * green + LUMINANCE[2] * blue


def to_levels(images: Tensor) -> Tensor:
    """Clipped to [0, 1] and rounded to 8 bits."""
    return (images * 255).round().clamp(0, 255) / 255


def peaks_of(levels: Tensor) -> Tensor:
    """How many different levels each of (N, C, H, W) has, up to a power of two; (N, 1, 1, 1).

    Counted on the device, where `torch.unique` would wait for it.
    """
    places = (levels * 255).round().flatten(1).long()
    found = levels.new_zeros(len(levels), LEVELS).scatter_(1, places, 1).sum(1)
    powers = 2.0 ** torch.arange(9, device=levels.device)
    return powers[torch.searchsorted(powers, found)].view(-1, 1, 1, 1)


def shot_noise(levels: Tensor, peaks: Tensor, generator: torch.Generator) -> Tensor:
    """What counting `levels * peaks` events would add."""
    return torch.poisson(levels * peaks, generator=generator) / peaks - levels
