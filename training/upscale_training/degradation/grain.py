"""Grain: blurred noise that is strongest in midtones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale_training.degradation.noise import LUMINANCE, grey_of, seeded
from upscale_training.degradation.operations import FilmGrain

_REACH = 3.0
"""Radius of the blur, in standard deviations."""


def add_grain(images: Tensor, operations: Sequence[FilmGrain]) -> Tensor:
    """Add grain to each image of (N, 3, H, W); the result is clipped to [0, 1].

    The standard deviation is `strength` where the luminance is 1/2, and falls to 0 in black and in
    white.
    """
    result = torch.empty_like(images)
    for image, operation, target in zip(images.split(1), operations, result, strict=True):
        luminance = (grey_of(image) / sum(LUMINANCE)).clamp(0, 1)
        amplitude = 2 * (luminance * (1 - luminance)).sqrt()
        field = _field(operation, image)
        torch.addcmul(image[0], amplitude[0], field[0], value=operation.strength / 255, out=target)
    return result.clamp_(0, 1)


def _field(operation: FilmGrain, image: Tensor) -> Tensor:
    """Return noise (1, 1 or 3, H, W) with a standard deviation of 1."""
    channels = 1 if operation.grey else image.shape[1]
    height, width = image.shape[-2:]
    reach = math.ceil(_REACH * operation.size)
    shape = (channels, 1, height + 2 * reach, width + 2 * reach)
    generator = seeded(operation.seed, image.device)
    noise = torch.randn(shape, generator=generator, device=image.device)
    if reach:
        places = torch.arange(-reach, reach + 1, device=image.device)
        kernel = torch.exp(-0.5 * (places / operation.size).square())
        kernel = kernel / kernel.square().sum().sqrt()  # keeps the deviation of white noise
        noise = F.conv2d(noise, kernel.view(1, 1, 1, -1))
        noise = F.conv2d(noise, kernel.view(1, 1, -1, 1))
    return noise.view(1, channels, height, width)
