"""The U-Net discriminator of Real-ESRGAN."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

SLOPE = 0.2


class UNetDiscriminator(nn.Module):
    """U-Net with spectral normalisation: one logit for every pixel.

    Real-ESRGAN (arXiv 2107.10833), section 3.4 and figure 6. Maps (N, channels, H, W) in [0, 1]
    to logits (N, 1, H, W); H and W are at least 8.

    The keys are those of the official checkpoints (`weight_orig`, `weight_u`, `weight_v`). The
    outputs equal those of the official network, which runs only if 8 divides H and W. Each forward
    pass in training mode does one step of the power iteration of the spectral norms, even if its
    gradient is for the generator; in evaluation mode nothing changes.

    Args:
        channels: Channels of the images.
        features: Channels after the first convolution.

    Example:
        >>> import torch
        >>> UNetDiscriminator(features=4)(torch.rand(1, 3, 16, 16)).shape
        torch.Size([1, 1, 16, 16])
    """

    def __init__(self, channels: int = 3, features: int = 64) -> None:
        super().__init__()
        width = features
        self.conv0 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv1 = _halving(width, width * 2)
        self.conv2 = _halving(width * 2, width * 4)
        self.conv3 = _halving(width * 4, width * 8)
        self.conv4 = _keeping(width * 8, width * 4)
        self.conv5 = _keeping(width * 4, width * 2)
        self.conv6 = _keeping(width * 2, width)
        self.conv7 = _keeping(width, width)
        self.conv8 = _keeping(width, width)
        self.conv9 = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, 1, H, W) of images (N, channels, H, W), higher for more real."""
        full = _active(self.conv0(images))
        half = _active(self.conv1(full))
        quarter = _active(self.conv2(half))
        x = _active(self.conv3(quarter))
        x = _active(self.conv4(_upscaled(x, quarter))) + quarter
        x = _active(self.conv5(_upscaled(x, half))) + half
        x = _active(self.conv6(_upscaled(x, full))) + full
        return self.conv9(_active(self.conv8(_active(self.conv7(x)))))


def _halving(inputs: int, outputs: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False))


def _keeping(inputs: int, outputs: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))


def _active(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE, inplace=True)


def _upscaled(x: Tensor, like: Tensor) -> Tensor:
    # To the size of the shortcut rather than by 2, for sizes that 8 does not divide.
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
