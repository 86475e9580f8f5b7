"""The patch discriminator of pix2pix."""

from __future__ import annotations

from torch import Tensor, nn

SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """PatchGAN 70x70: one logit for every overlapping patch of 70x70 pixels.

    pix2pix (arXiv 1611.07004), section 6.1.2: C64-C128-C256-C512 with batch normalisation from
    the second on, and weights sampled from N(0, 0.02) as in its section 6.2. Maps (N, channels, H,
    W) in [0, 1] to logits (N, 1, H / 8 - 2, W / 8 - 2); H and W are at least 24. The keys are
    those of the official checkpoints.

    Args:
        channels: Channels of the images.
        features: Channels after the first convolution.

    Example:
        >>> import torch
        >>> PatchDiscriminator(features=4)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 1, 2, 2])
    """

    def __init__(self, channels: int = 3, features: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels, features, 4, stride=2, padding=1),
            nn.LeakyReLU(SLOPE, inplace=True),
        ]
        for width, stride in ((2, 2), (4, 2), (8, 1)):
            inputs, outputs = features * width // 2, features * width
            layers += [
                nn.Conv2d(inputs, outputs, 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(SLOPE, inplace=True),
            ]
        layers.append(nn.Conv2d(features * 8, 1, 4, padding=1))
        self.model = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, 1, H / 8 - 2, W / 8 - 2) of (N, channels, H, W), high if real."""
        return self.model(images)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
