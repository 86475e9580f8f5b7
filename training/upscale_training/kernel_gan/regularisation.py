"""What a plausible kernel looks like: the regularisation of KernelGAN's generator."""

from __future__ import annotations

import torch
from torch import Tensor

from upscale_training.kernel_gan.networks import KERNEL

_BICUBIC = (-1.5, -4.5, 14.5, 55.5, 55.5, 14.5, -4.5, -1.5)
"""Antialiased bicubic weights (a = -0.5) for half the size, times 128."""

_CENTRE = KERNEL / 2
"""Centre of mass in pixels that keeps the downscaled image aligned: between two pixels."""

_MARGIN = 2
"""Rows and columns at each edge of the kernel that should be empty."""

_SUM, _BOUNDARY, _SPARSE, _CENTRED = 0.5, 0.5, 5.0, 1.0
"""Weights of the terms in the authors' code."""


def bicubic_kernel(size: int = KERNEL) -> Tensor:
    """Return the bicubic kernel for half the size in a square of `size` pixels, an odd number."""
    row = torch.zeros(size)
    start = size // 2 - 3
    row[start : start + len(_BICUBIC)] = torch.tensor(_BICUBIC) / 128
    return torch.outer(row, row)


class Regularisation:
    """The loss of a kernel whose sum is not 1, or that is not sparse, centred and small.

    Args:
        device: Device of the training.
    """

    def __init__(self, device: torch.device) -> None:
        self._far = _distance_penalty().to(device)
        self._positions = torch.arange(KERNEL, device=device, dtype=torch.float32)

    def loss(self, kernel: Tensor) -> Tensor:
        """Return the loss of a kernel (`KERNEL`, `KERNEL`)."""
        magnitude = kernel.abs()
        return (
            _SUM * (1 - kernel.sum()).abs()
            + _BOUNDARY * (magnitude * self._far).mean()
            + _SPARSE * (magnitude + 1e-20).pow(0.2).mean()
            + _CENTRED * (self._centre(kernel) - _CENTRE).square().mean()
        )

    def _centre(self, kernel: Tensor) -> Tensor:
        sums = torch.stack((kernel.sum(1), kernel.sum(0)))
        return sums @ self._positions / kernel.sum()


def _distance_penalty() -> Tensor:
    """Return the weight of each value in the term that keeps the kernel's boundaries empty."""
    axis = torch.arange(KERNEL, dtype=torch.float32) - (KERNEL - 1) / 2
    gaussian = torch.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * KERNEL**2))
    penalty = 30 * (1 - gaussian / gaussian.max())
    penalty[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = 0
    return penalty
