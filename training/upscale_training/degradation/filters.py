"""Filtering with one kernel per image, and sharpening."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale_training.degradation.kernels import kernel
from upscale_training.degradation.operations import Blur
from upscale_training.degradation.precision import as_single, full_precision

SPECTRUM_STEP = 16
"""Sides of spectra are multiples of this number: few sizes, which are fast to transform."""

SHARPENING_RADIUS = 25
SHARPENING_SIGMA = 8.0
"""Sigma that OpenCV takes for a kernel of 51: 0.3 * ((51 - 1) / 2 - 1) + 0.8."""


def blur(images: Tensor, blurs: Sequence[Blur]) -> Tensor:
    """Filter each image of (N, C, H, W) with its own kernel."""
    return filter_each(images, stack_kernels(blurs).to(images.device, images.dtype))


def stack_kernels(blurs: Sequence[Blur]) -> Tensor:
    """Return the kernels of descriptions as (N, S, S), float64, on the CPU."""
    return stack([kernel(each) for each in blurs])


def stack(kernels: Sequence[Tensor]) -> Tensor:
    """Return kernels (S, S) of odd sides as (N, S, S), padded with zeros to the largest."""
    largest = max(len(each) for each in kernels)
    return torch.stack([F.pad(each, [(largest - len(each)) // 2] * 4) for each in kernels])


def filter_each(images: Tensor, kernels: Tensor) -> Tensor:
    """Correlate each image of (N, C, H, W) with its own kernel of (N, S, S).

    Edges are mirrored without repeating the edge pixel (OpenCV's BORDER_REFLECT_101). Products of
    spectra take the same time for kernels of any size.
    """
    if images.device.type == "cpu":  # one at a time, so that the spectra stay in the cache
        pairs = zip(images.split(1), kernels.split(1), strict=True)
        return torch.cat([filter_together(*pair) for pair in pairs])
    return filter_together(images, kernels)


def filter_together(images: Tensor, kernels: Tensor) -> Tensor:
    """Do the work of `filter_each` for all images at once, which is fastest on GPUs."""
    height, width = images.shape[-2:]
    padded = mirror(images, kernels.shape[-1] // 2)
    size = [-(-side // SPECTRUM_STEP) * SPECTRUM_STEP for side in padded.shape[-2:]]
    spectrum = torch.fft.rfft2(padded, s=size)
    spectrum *= torch.fft.rfft2(kernels[:, None], s=size).conj()
    return torch.fft.irfft2(spectrum, s=size)[..., :height, :width]


def mirror(images: Tensor, margin: int) -> Tensor:
    """Pad (..., H, W) by a margin of any size, mirrored about the edge pixels."""
    height, width = images.shape[-2:]
    if margin < min(height, width):
        return F.pad(images, [margin] * 4, mode="reflect")
    rows, columns = (_mirrored(side, margin, images.device) for side in (height, width))
    return images[..., rows[:, None], columns]


def _mirrored(side: int, margin: int, device: torch.device) -> Tensor:
    places = torch.arange(-margin, side + margin, device=device).abs()
    period = max(2 * (side - 1), 1)
    return (side - 1) - ((places % period) - (side - 1)).abs() if side > 1 else places * 0


def sharpen(images: Tensor, weight: float = 0.5, threshold: float = 10) -> Tensor:
    """Sharpen the ground truth by unsharp masking (Real-ESRGAN, arXiv 2107.10833, section 4.1).

    The difference to a wide Gaussian blur is added where it exceeds a threshold, through a soft
    mask.

    Args:
        images: Tensor of shape (N, C, H, W) in [0, 1], floats.
        weight: Factor of the added difference.
        threshold: Smallest difference that is added, in levels of 255.

    Returns:
        Tensor of shape (N, C, H, W) in [0, 1], float32.

    Raises:
        ValueError: The images are not floats.

    Example:
        >>> import torch
        >>> sharpen(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 3, 32, 32])
    """
    images = as_single(images)
    with torch.no_grad(), full_precision(images.device):
        residual = images - _wide_blur(images)
        soft = _wide_blur((residual.abs() * 255 > threshold).to(images.dtype))
        sharp = (images + weight * residual).clamp(0, 1)
        return torch.lerp(images, sharp, soft)


def _wide_blur(images: Tensor) -> Tensor:
    """Blur with two products with banded matrices: far faster than 51 taps on a CPU."""
    height, width = images.shape[-2:]
    rows, columns = (_wide_matrix(side, images.device) for side in (height, width))
    return rows @ images @ columns.T


@lru_cache(maxsize=4)
def _wide_matrix(side: int, device: torch.device) -> Tensor:
    radius = SHARPENING_RADIUS
    distance = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-(distance**2) / (2 * SHARPENING_SIGMA**2))
    places = _mirrored(side, radius, torch.device("cpu")).unfold(0, 2 * radius + 1, 1)
    matrix = torch.zeros(side, side, dtype=torch.float64)
    matrix.scatter_add_(1, places, (taps / taps.sum()).expand_as(places))
    return matrix.to(device, torch.float32)
