"""Downscale with a given kernel, and upscale with bicubic interpolation, as local operations."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from upscale_training.degradation.resizing import resize
from upscale_training.kernel_files import Kernel


def downscale(images: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """Correlate images with a kernel at every `scale`-th pixel, with repeated pixels at the border.

    Args:
        images: Tensor (N, C, H, W); H and W are multiples of the scale.
        kernel: Tensor (k, k), k odd, applied to every channel. Its middle is on the pixels 0,
            scale, 2 * scale, ... of each row and column.
        scale: Scale.

    Returns:
        Tensor (N, C, H / scale, W / scale).
    """
    reach = kernel.shape[0] // 2
    channels = F.pad(images, [reach] * 4, mode="replicate").flatten(0, 1)[:, None]
    small = F.conv2d(channels, kernel[None, None], stride=scale)
    return small[:, 0].unflatten(0, images.shape[:2])


def upscaling_weights(scale: int) -> Tensor:
    """Return bicubic interpolation (a = -0.5) as a convolution followed by a pixel-shuffle.

    Returns:
        Weights (scale**2, 1, 5, 5) for one channel.
    """
    impulse = torch.zeros(1, 1, 5, 5)
    impulse[0, 0, 2, 2] = 1
    response = resize(impulse, (5 * scale, 5 * scale), "bicubic")
    return F.pixel_unshuffle(response, scale)[0].flip(1, 2)[:, None]


def upscale(images: Tensor, weights: Tensor) -> Tensor:
    """Interpolate images, without the pixel-shuffle.

    Args:
        images: Tensor (N, C, H, W).
        weights: Weights that `upscaling_weights` returned, (scale**2, 1, 5, 5).

    Returns:
        Tensor (N, C * scale**2, H, W), as a pixel-shuffle takes it.
    """
    padded = F.pad(images, [2] * 4, mode="replicate").flatten(0, 1)[:, None]
    return F.conv2d(padded, weights).unflatten(0, images.shape[:2]).flatten(1, 2)


def bicubic_kernel(scale: int) -> Kernel:
    """Return the kernel of bicubic downscaling with antialiasing, for `downscale`."""
    side = 2 * (5 * scale // 2 - 1) + 1
    impulses = torch.eye(3 * 8 * scale).reshape(3 * 8 * scale, 1, 1, -1)
    rows = resize(impulses, (1, 3 * 8), "bicubic")[:, 0, 0]
    # The weights of one output pixel in the middle, from its first pixel on.
    middle = rows[12 * scale - side // 2 : 12 * scale - side // 2 + side, 12].double().numpy()
    return np.outer(middle, middle)
