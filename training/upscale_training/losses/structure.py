"""Losses that compare structure instead of single pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale_training.losses.pixels import register_loss
from upscale_training.losses.precision import widened

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the scales (Wang et al., "Multi-scale structural similarity", section 3.2)."""


def ms_ssim(output: Tensor, target: Tensor) -> Tensor:
    """Return 1 - MS-SSIM: Wang, Simoncelli and Bovik, "Multi-scale structural similarity" (2003).

    Images of less than 176 pixels have no room for a window in all five scales. The scales that
    they have keep their relative weights.

    Args:
        output: Tensor of shape (N, C, H, W) in [0, 1], not clamped; sides of at least 11 pixels.
        target: Tensor of the same shape.

    Example:
        >>> import torch
        >>> images = torch.rand(1, 3, 48, 48)
        >>> round(ms_ssim(images, images).item(), 4)
        0.0
    """
    output, target = widened(output), widened(target)
    scales = _count_scales(min(output.shape[-2:]))
    weights = torch.tensor(_WEIGHTS[:scales], device=output.device)
    terms: list[Tensor] = []
    for scale in range(scales):
        structure, luminance = _ssim_terms(output, target)
        last = scale + 1 == scales
        terms.append((structure * luminance if last else structure).flatten(2).mean(2))
        if not last:
            output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
    # The gradient of a power is infinite at 0, and terms of different images can be negative.
    stacked = torch.stack(terms, -1).clamp(min=1e-6)
    return 1 - (stacked ** (weights / weights.sum())).prod(-1).mean()


def focal_frequency(output: Tensor, target: Tensor) -> Tensor:
    """Return the focal frequency loss: Jiang et al. (arXiv 2012.12821), equation 8, with alpha 1.

    Args:
        output: Tensor of shape (N, C, H, W) in [0, 1], not clamped.
        target: Tensor of the same shape.

    Example:
        >>> import torch
        >>> focal_frequency(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
        tensor(1.)
    """
    difference = torch.fft.fft2(widened(output) - widened(target), norm="ortho")
    distance = difference.real.square() + difference.imag.square()
    weight = distance.detach().sqrt()
    largest = weight.amax((-2, -1), keepdim=True)
    return (weight / largest.clamp(min=1e-12) * distance).mean()


def _count_scales(side: int) -> int:
    count = 1
    while count < len(_WEIGHTS) and side >> count >= _WINDOW:
        count += 1
    return count


def _ssim_terms(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maps of contrast and structure, and of luminance (section 2)."""
    mean_1, mean_2 = _blurred(one), _blurred(other)
    variance_1 = _blurred(one * one) - mean_1 * mean_1
    variance_2 = _blurred(other * other) - mean_2 * mean_2
    covariance = _blurred(one * other) - mean_1 * mean_2
    structure = (2 * covariance + _C2) / (variance_1 + variance_2 + _C2)
    luminance = (2 * mean_1 * mean_2 + _C1) / (mean_1.square() + mean_2.square() + _C1)
    return structure, luminance


def _blurred(images: Tensor) -> Tensor:
    """Filter with a Gaussian window, without padding."""
    positions = torch.arange(_WINDOW, device=images.device, dtype=images.dtype) - _WINDOW // 2
    window = torch.exp(-positions.square() / (2 * _SIGMA**2))
    window = (window / window.sum()).expand(images.shape[1], 1, 1, _WINDOW)
    rows = F.conv2d(images, window, groups=images.shape[1])
    return F.conv2d(rows, window.transpose(2, 3), groups=images.shape[1])


register_loss("ms-ssim", ms_ssim)
register_loss("focal-frequency", focal_frequency)
