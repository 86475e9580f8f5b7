"""DISTS as a loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from upscale.metrics.perceptual import DistsNetwork
from upscale_training.losses.precision import widened


class DistsLoss(nn.Module):
    """Distance in structure and texture, averaged over a batch.

    Ding et al., "Image Quality Assessment: Unifying Structure and Texture Similarity" (arXiv
    2004.07728), equations 6 to 8.

    Args:
        network: Network of the metric.
        weight: Factor of the loss.

    Example:
        >>> from upscale.metrics.backbones import vgg16
        >>> weights = torch.ones(3 + 64 + 128 + 256 + 512 + 512)
        >>> loss = DistsLoss(DistsNetwork(vgg16(l2_pooling=True), weights, weights))
        >>> image = torch.rand(1, 3, 32, 32)
        >>> abs(loss(image, image).item()) < 1e-6
        True
    """

    def __init__(self, network: DistsNetwork, weight: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.weight = weight

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compare two tensors (N, 3, H, W), RGB in [0, 1]; return a scalar."""
        with torch.autocast(output.device.type, enabled=False):
            return self.weight * self.network(widened(output), widened(target)).mean()
