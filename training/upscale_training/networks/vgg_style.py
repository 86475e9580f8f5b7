"""The VGG-style discriminator of SRGAN and ESRGAN."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from upscale.errors import UsageError

SIZES = (128, 256)
SLOPE = 0.2
_LAST_SIZE = 4
_WIDEST = 8


class VGGStyleDiscriminator(nn.Module):
    """Strided convolutions with batch normalisation and two linear layers: one logit per crop.

    ESRGAN (arXiv 1809.00219), section 3.2, from SRGAN (arXiv 1609.04802), figure 4. Maps (N,
    channels, size, size) in [0, 1] to logits (N, 1). The keys and outputs are those of the
    official checkpoints.

    Args:
        channels: Channels of the images.
        features: Channels after the first convolution.
        size: Side of the crops in pixels, 128 or 256.

    Raises:
        UsageError: The size is another one.

    Example:
        >>> import torch
        >>> VGGStyleDiscriminator(features=2, size=128)(torch.rand(1, 3, 128, 128)).shape
        torch.Size([1, 1])
    """

    def __init__(self, channels: int = 3, features: int = 64, size: int = 128) -> None:
        super().__init__()
        if size not in SIZES:
            raise UsageError(f"a VGG-style discriminator takes crops of 128 or 256, not {size}")
        self.size = size
        self._steps: list[str] = []
        levels = (size // _LAST_SIZE).bit_length() - 1
        inputs = channels
        for level in range(levels):
            width = features * min(2**level, _WIDEST)
            self._add(f"{level}_0", nn.Conv2d(inputs, width, 3, padding=1, bias=level == 0))
            self._add(f"{level}_1", nn.Conv2d(width, width, 4, stride=2, padding=1, bias=False))
            inputs = width
        self.linear1 = nn.Linear(inputs * _LAST_SIZE**2, 100)
        self.linear2 = nn.Linear(100, 1)

    def _add(self, step: str, convolution: nn.Conv2d) -> None:
        self._steps.append(step)
        self.add_module(f"conv{step}", convolution)
        if convolution.bias is None:
            self.add_module(f"bn{step}", nn.BatchNorm2d(convolution.out_channels))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, 1) of images (N, channels, size, size), higher for more real.

        Raises:
            UsageError: The images have another size.
        """
        height, width = images.shape[2:]
        if (height, width) != (self.size, self.size):
            raise UsageError(
                f"this VGG-style discriminator takes crops of {self.size}x{self.size}, "
                f"not {width}x{height}; set its size or the crop's"
            )
        x = images
        modules = dict(self.named_children())
        for step in self._steps:
            x = modules[f"conv{step}"](x)
            if f"bn{step}" in modules:
                x = modules[f"bn{step}"](x)
            x = F.leaky_relu(x, SLOPE, inplace=True)
        x = F.leaky_relu(self.linear1(x.flatten(1)), SLOPE, inplace=True)
        return self.linear2(x)
