"""Gaussian and Poisson noise in colour and grey (Real-ESRGAN, section 3.1).

Every image has its own seed, so its noise does not depend on the other images of the batch.
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
    """Add noise to each image of (N, C, H, W); the result is clipped to [0, 1]."""
    result = torch.empty_like(images)
    for image, noise, target in zip(images, noises, result, strict=True):
        shape = (1, *image.shape[1:]) if noise.grey else image.shape
        generator = seeded(noise.seed, images.device)
        field = torch.randn(shape, generator=generator, device=images.device)
        torch.add(image, field, alpha=noise.sigma / 255, out=target)
    return result.clamp_(0, 1)


def add_poisson(images: Tensor, noises: Sequence[PoissonNoise]) -> Tensor:
    """Add noise to each image of (N, 3, H, W) without waiting for the device."""
    result = torch.empty_like(images)
    for image, noise, target in zip(images.split(1), noises, result, strict=True):
        levels = to_levels(grey_of(image) if noise.grey else image)
        peaks = peaks_of(levels) if noise.peak is None else levels.new_full((), noise.peak)
        field = shot_noise(levels, peaks, seeded(noise.seed, images.device))
        torch.add(image[0], field[0], alpha=noise.scale, out=target)
    return result.clamp_(0, 1)


def add_poisson_together(images: Sequence[Tensor], noises: Sequence[PoissonNoise]) -> list[Tensor]:
    """Do the work of `add_poisson` for images (1, 3, H, W) of different sizes with few calls."""
    bases = [
        grey_of(image) if noise.grey else image for image, noise in zip(images, noises, strict=True)
    ]
    sizes = [base.numel() for base in bases]
    levels = to_levels(torch.cat([base.flatten() for base in bases]))
    lengths = torch.tensor(sizes).to(levels.device, non_blocking=True)
    number = torch.arange(len(sizes), device=levels.device)
    number = number.repeat_interleave(lengths, output_size=len(levels))
    chosen = levels.new_tensor([noise.peak or 0 for noise in noises])
    indices = (levels * 255).round().long() + number * LEVELS
    counts = levels.new_zeros(len(sizes) * LEVELS).scatter_(0, indices, 1).view(-1, LEVELS).sum(1)
    peaks = torch.where(chosen > 0, chosen, _power_of_two(counts))[number]
    events = [
        torch.poisson(part.view(base.shape), generator=seeded(noise.seed, levels.device)).flatten()
        for part, base, noise in zip((levels * peaks).split(sizes), bases, noises, strict=True)
    ]
    fields = (torch.cat(events) / peaks - levels).split(sizes)
    return [
        torch.add(image, field.view(base.shape), alpha=noise.scale).clamp_(0, 1)
        for image, field, base, noise in zip(images, fields, bases, noises, strict=True)
    ]


def seeded(seed: int, device: torch.device) -> torch.Generator:
    """Return a new generator on a device."""
    return torch.Generator(device).manual_seed(seed)


def grey_of(images: Tensor) -> Tensor:
    """Return the luminance (N, 1, H, W) of (N, 3, H, W)."""
    red, green, blue = (images[:, place, None] for place in range(3))
    return LUMINANCE[0] * red + LUMINANCE[1] * green + LUMINANCE[2] * blue


def to_levels(images: Tensor) -> Tensor:
    """Clip images to [0, 1] and round them to 8 bits."""
    return (images * 255).round().clamp(0, 255) / 255


def peaks_of(levels: Tensor) -> Tensor:
    """Return the number of different levels of each image, rounded up to a power of two.

    The result has the shape (N, 1, 1, 1). Levels are counted on the device, which `torch.unique`
    would wait for.
    """
    indices = (levels * 255).round().flatten(1).long()
    counts = levels.new_zeros(len(levels), LEVELS).scatter_(1, indices, 1).sum(1)
    return _power_of_two(counts).view(-1, 1, 1, 1)


def _power_of_two(counts: Tensor) -> Tensor:
    """Round numbers of levels up to powers of two."""
    powers = 2.0 ** torch.arange(9, device=counts.device)
    return powers[torch.searchsorted(powers, counts)]


def shot_noise(levels: Tensor, peaks: Tensor, generator: torch.Generator) -> Tensor:
    """Return the noise that counting `levels * peaks` events adds to the levels."""
    return torch.poisson(levels * peaks, generator=generator) / peaks - levels
