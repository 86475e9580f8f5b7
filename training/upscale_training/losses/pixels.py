"""Losses that compare pixels, and the registry of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from upscale.errors import UsageError
from upscale_training.losses.precision import widened

CHARBONNIER_EPSILON = 1e-3
"""Epsilon of LapSRN, in units of an image in [0, 1]."""

PIXEL_LOSSES: dict[str, Callable[..., Tensor]] = {}
"""Pixel losses by their names in recipes (`pixel.kind`); `register_loss` adds to them."""


def register_loss(name: str, function: Callable[..., Tensor]) -> None:
    """Make a pixel loss available to recipes as `pixel.kind`.

    Args:
        name: Name in recipes.
        function: Takes the output and the target, (N, C, H, W) each, and returns a scalar. If it
            has a parameter `epsilon`, it gets `pixel.epsilon` of the recipe; if it has a parameter
            `average`, the output of the averaged weights.

    Raises:
        UsageError: The name is taken.

    Example:
        >>> import torch
        >>> register_loss("maximum", lambda output, target: (output - target).abs().max())
        >>> PixelLoss("maximum", weight=2.0)(torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2))
        tensor(2.)
        >>> unregister_loss("maximum")
    """
    if name in PIXEL_LOSSES:
        raise UsageError(f"{name}: a loss of this name is registered already")
    PIXEL_LOSSES[name] = function


def unregister_loss(name: str) -> None:
    """Remove a loss that `register_loss` added.

    Args:
        name: Name in recipes.

    Raises:
        KeyError: There is no such loss.

    Example:
        >>> unregister_loss("unknown")
        Traceback (most recent call last):
        KeyError: 'unknown'
    """
    del PIXEL_LOSSES[name]


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference: L_1 of ESRGAN (arXiv 1809.00219, with equation 3).

    Args:
        output: Tensor of shape (N, C, H, W) in [0, 1], not clamped.
        target: Tensor of the same shape.

    Example:
        >>> import torch
        >>> l1(torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2))
        tensor(1.)
    """
    return F.l1_loss(widened(output), widened(target))


def charbonnier(output: Tensor, target: Tensor, epsilon: float = CHARBONNIER_EPSILON) -> Tensor:
    """Return the mean of sqrt(difference^2 + epsilon^2), a smooth L1: LapSRN (arXiv 1704.03915).

    Args:
        output: Tensor of shape (N, C, H, W) in [0, 1], not clamped.
        target: Tensor of the same shape.
        epsilon: Half-width of the smooth part. Basicsr's `eps` is its square.

    Example:
        >>> import torch
        >>> charbonnier(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2))
        tensor(0.0010)
    """
    difference = widened(output) - widened(target)
    return (difference.square() + epsilon**2).sqrt().mean()


register_loss("l1", l1)
register_loss("charbonnier", charbonnier)


@dataclass(frozen=True, slots=True)
class PixelLoss:
    """A weighted pixel loss.

    Attributes:
        kind: Name of a registered loss.
        weight: Factor of the loss.
        epsilon: Epsilon of losses that have one, such as `charbonnier`.

    Example:
        >>> import torch
        >>> PixelLoss("l1", weight=0.5)(torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2))
        tensor(0.5000)
    """

    kind: str = "l1"
    weight: float = 1.0
    epsilon: float = CHARBONNIER_EPSILON

    @property
    def needs_average(self) -> bool:
        """Whether the loss also reads the output of the averaged weights."""
        return "average" in inspect.signature(PIXEL_LOSSES[self.kind]).parameters

    def __call__(self, output: Tensor, target: Tensor, average: Tensor | None = None) -> Tensor:
        """Compare two tensors of shape (N, C, H, W); return a scalar.

        Args:
            output: Output of the network.
            target: Ground truth.
            average: Output of the averaged weights, for losses that need it.
        """
        function = PIXEL_LOSSES[self.kind]
        more = {"epsilon": self.epsilon, "average": average}
        known = inspect.signature(function).parameters
        chosen = {name: value for name, value in more.items() if name in known}
        return self.weight * function(output, target, **chosen)
