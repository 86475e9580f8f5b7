"""Losses that compare pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from upscale_training.losses.precision import widened

PixelKind = Literal["l1", "charbonnier"]

CHARBONNIER_EPSILON = 1e-3
"""LapSRN's, in units of an image in [0, 1]."""


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference: L_1 of ESRGAN (arXiv 1809.00219, with equation 3).

    Args:
        output: (N, C, H, W) in [0, 1], not clamped.
        target: the same shape.
    """
    return F.l1_loss(widened(output), widened(target))


def charbonnier(output: Tensor, target: Tensor, epsilon: float = CHARBONNIER_EPSILON) -> Tensor:
    """Return the mean of sqrt(difference^2 + epsilon^2), a smooth L1: LapSRN (arXiv 1704.03915).

    Args:
        output: (N, C, H, W) in [0, 1], not clamped.
        target: the same shape.
        epsilon: half-width of the smooth part. Basicsr's `eps` is its square.
    """
    difference = widened(output) - widened(target)
    return (difference.square() + epsilon**2).sqrt().mean()


@dataclass(frozen=True, slots=True)
class PixelLoss:
    """A weighted pixel loss.

    Attributes:
        kind: which.
        weight: factor of the result.
        epsilon: of `charbonnier`.
    """

    kind: PixelKind = "l1"
    weight: float = 1.0
    epsilon: float = CHARBONNIER_EPSILON

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """Compare (N, C, H, W) with the same; a scalar."""
        if self.kind == "l1":
            return self.weight * l1(output, target)
        return self.weight * charbonnier(output, target, self.epsilon)
