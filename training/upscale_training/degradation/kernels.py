"""Blur kernels (Real-ESRGAN, arXiv 2107.10833, sections 3.1, "Blur", and 3.3, "sinc filter").

Coordinates are in pixels from the centre of the kernel; every kernel sums to 1.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from upscale_training.degradation.operations import Blur

CACHED_GRIDS = 32
"""Number of sizes of kernels whose coordinates are kept; usual chains have eight."""


def kernel(blur: Blur) -> Tensor:
    """Return the kernel of a description as a tensor (size, size), float64, on the CPU."""
    if blur.family == "sinc":
        values = _sinc(blur.size, blur.cutoff)
    else:
        values = _profile(_squared_distance(blur), blur)
    return values / values.sum()


@lru_cache(maxsize=CACHED_GRIDS)
def _grid(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the coordinates down (size, 1) and across (1, size), and their sum of squares."""
    axis = torch.arange(size, dtype=torch.float64) - size // 2
    down, across = axis[:, None], axis[None, :]
    return down, across, across**2 + down**2


@lru_cache(maxsize=CACHED_GRIDS)
def _radius(size: int) -> tuple[Tensor, Tensor]:
    """Return where the centre is, and the distance from it, which is 1 at the centre."""
    down, across, _ = _grid(size)
    radius = torch.hypot(down, across)
    centre = radius == 0
    return centre, radius.masked_fill(centre, 1)


def _squared_distance(blur: Blur) -> Tensor:
    """Return C^T Sigma^-1 C, where C is (across, down)."""
    down, across, squares = _grid(blur.size)
    if not blur.family.endswith("aniso"):
        return squares / blur.sigma_x**2
    cosine, sine = math.cos(blur.rotation), math.sin(blur.rotation)
    first = (across * cosine + down * sine) / blur.sigma_x
    second = (down * cosine - across * sine) / blur.sigma_y
    return first**2 + second**2


def _profile(squared: Tensor, blur: Blur) -> Tensor:
    """Return a Gaussian (equation 2), a generalised Gaussian or a plateau (section 3.1)."""
    if blur.family.startswith("generalised"):
        return torch.exp(-0.5 * squared**blur.beta)
    if blur.family.startswith("plateau"):
        return 1 / (1 + squared**blur.beta)
    return torch.exp(-0.5 * squared)


def _sinc(size: int, cutoff: float) -> Tensor:
    """Return the circular low-pass filter of section 3.3, with its limit at the centre."""
    centre, radius = _radius(size)
    values = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius)
    return values.masked_fill(centre, cutoff**2 / (4 * math.pi))
