"""Blur kernels (Real-ESRGAN, arXiv 2107.10833, sections 3.1, "Blur", and 3.3, "sinc filter").

Coordinates are pixels from the kernel's middle; every kernel sums to 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from upscale_training.degradation.operations import Blur


def kernel(blur: Blur) -> Tensor:
    """The kernel of a description, (size, size), float64, on the CPU."""
    axis = torch.arange(blur.size, dtype=torch.float64) - blur.size // 2
    down, across = axis[:, None], axis[None, :]
    if blur.family == "sinc":
        found = _sinc(torch.hypot(down, across), blur.cutoff)
    else:
        found = _profile(_squared_distance(down, across, blur), blur)
    return found / found.sum()


def _squared_distance(down: Tensor, across: Tensor, blur: Blur) -> Tensor:
    """C^T Sigma^-1 C, where C is (across, down)."""
    if not blur.family.endswith("aniso"):
        return (across**2 + down**2) / blur.sigma_x**2
    cosine, sine = math.cos(blur.rotation), math.sin(blur.rotation)
    first = (across * cosine + down * sine) / blur.sigma_x
    second = (down * cosine - across * sine) / blur.sigma_y
    return first**2 + second**2


def _profile(squared: Tensor, blur: Blur) -> Tensor:
    """Gaussian (equation 2), generalised Gaussian (section 3.1), plateau (section 3.1)."""
    if blur.family.startswith("generalised"):
        return torch.exp(-0.5 * squared**blur.beta)
    if blur.family.startswith("plateau"):
        return 1 / (1 + squared**blur.beta)
    return torch.exp(-0.5 * squared)


def _sinc(radius: Tensor, cutoff: float) -> Tensor:
    """The circular low-pass filter of section 3.3, with its limit in the middle."""
    middle = radius == 0
    radius = radius.masked_fill(middle, 1)
    found = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius)
    return found.masked_fill(middle, cutoff**2 / (4 * math.pi))
