"""Pixel losses whose weights depend on gradients or on local variance."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale_training.losses.pixels import register_loss
from upscale_training.losses.precision import widened

GRADIENT_FACTOR = 4.0
"""Factor of the differences of gradients in `gradient_weighted`."""

WINDOW = 7
"""Side of the window of local variances in `ldl`."""

PATCH_EXPONENT = 0.2
"""Exponent of the variance of a whole patch in `ldl`."""

_SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


def gradient_weighted(output: Tensor, target: Tensor) -> Tensor:
    """Return an L1 loss that weighs pixels more where the gradients differ.

    Wei et al., "Component Divide-and-Conquer for Real-World Image Super-Resolution" (arXiv
    2008.01928): each difference is multiplied by 1 + 4 times the difference of the
    gradients along rows, and the same along columns.

    Args:
        output: Tensor of shape (N, C, H, W) in [0, 1], not clamped.
        target: Tensor of the same shape.

    Example:
        >>> import torch
        >>> gradient_weighted(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
        tensor(0.)
    """
    output, target = widened(output), widened(target)
    weight = torch.ones_like(output)
    for ours, theirs in zip(_gradients(output), _gradients(target), strict=True):
        weight = weight * (1 + GRADIENT_FACTOR * (ours - theirs).abs())
    return (weight * (output - target).abs()).mean()


def ldl(output: Tensor, target: Tensor, average: Tensor) -> Tensor:
    """Return an L1 loss of the places that look like artefacts of a GAN.

    Liang, Zeng and Zhang, "Details or Artifacts: A Locally Discriminative Learning Approach to
    Realistic Image Super-Resolution" (arXiv 2203.09195): pixels count where the
    residual varies, unless the averaged weights are farther from the ground truth.

    Args:
        output: Tensor of shape (N, C, H, W) in [0, 1], not clamped.
        target: Tensor of the same shape.
        average: Output of the averaged weights, of the same shape.

    Example:
        >>> import torch
        >>> image = torch.rand(1, 3, 16, 16)
        >>> ldl(image, image, image)
        tensor(0.)
    """
    output, target = widened(output), widened(target)
    weight = _artefacts(output.detach(), target, widened(average.detach()))
    return (weight * (output - target).abs()).mean()


def _artefacts(output: Tensor, target: Tensor, average: Tensor) -> Tensor:
    """Return the weights (N, 1, H, W) of pixels."""
    residual = (target - output).abs().sum(1, keepdim=True)
    whole = residual.var((1, 2, 3), keepdim=True) ** PATCH_EXPONENT
    margin = WINDOW // 2
    padded = F.pad(residual, (margin,) * 4, mode="reflect")
    windows = padded.unfold(2, WINDOW, 1).unfold(3, WINDOW, 1)
    local = windows.var((-1, -2))
    improves = residual < (target - average).abs().sum(1, keepdim=True)
    return (whole * local).masked_fill(improves, 0)


def _gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Sobel gradients along rows and along columns, without padding at the edges."""
    channels = images.shape[1]
    kernel = images.new_tensor(_SOBEL).expand(channels, 1, 3, 3)
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    along_rows = F.conv2d(padded, kernel, groups=channels)
    return along_rows, F.conv2d(padded, kernel.transpose(2, 3), groups=channels)


register_loss("gradient-weighted", gradient_weighted)
register_loss("ldl", ldl)
