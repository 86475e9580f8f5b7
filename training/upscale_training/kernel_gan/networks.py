"""The networks of KernelGAN: a linear generator and a discriminator of patches."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL = 13
"""Side of the generator's kernel in pixels."""

PATCH = 7
"""Side of the patches that the discriminator sees, in pixels."""

_SIDES = (7, 5, 3)
_MATRICES = 3
_FEATURES = 64
_HIDDEN_LAYERS = 5
_GAIN = 0.1


class LinearGenerator(nn.Module):
    """Downscale by 2 with one kernel, the product of six linear layers.

    Convolutions without activation, bias and padding are together one convolution: 7x7, 5x5, 3x3
    and three times 1x1. Its kernel is computed from the small weights, and then applied to the
    image once. Result and gradients are those of layer by layer, for a small part of the work. The
    layers still matter: trained through them, a kernel becomes smooth by itself.

    Args:
        random: Source of the first weights.
    """

    def __init__(self, random: torch.Generator) -> None:
        super().__init__()
        sides = (*_SIDES, *[1] * _MATRICES)
        channels = (1, *[_FEATURES] * (len(sides) - 1), 1)
        self.layers = nn.ParameterList(
            nn.init.xavier_normal_(torch.empty(outputs, inputs, side, side), _GAIN, random)
            for (inputs, outputs), side in zip(pairwise(channels), sides, strict=True)
        )

    def kernel(self) -> Tensor:
        """Return the kernel, (`KERNEL`, `KERNEL`), for a correlation with the image."""
        kernel = self.layers[-1]
        for weights in reversed(self.layers[:-1]):
            kernel = F.conv_transpose2d(kernel, weights)
        return kernel[0, 0]


def downscale(images: Tensor, kernel: Tensor) -> Tensor:
    """Correlate images with a kernel at every second pixel, without padding.

    Args:
        images: Tensor (N, C, H, W).
        kernel: Tensor (k, k), applied to every channel.

    Returns:
        Tensor (N, C, (H - k) // 2 + 1, (W - k) // 2 + 1).
    """
    channels = images.flatten(0, 1)[:, None]
    return F.conv2d(channels, kernel[None, None], stride=2)[:, 0].unflatten(0, images.shape[:2])


class PatchDiscriminator(nn.Module):
    """Tell for each patch of an image whether it comes from the image itself or the generator.

    Seven layers see one patch after another. Weights have the spectral norm 1, and the features of
    each image are normalised over its patches, as in a batch of one.
    Maps (N, 3, H, W) in -1..1 to (N, (H - 6) * (W - 6)) in 0..1, 1 for patches of the image.

    Args:
        random: Source of the first weights.
    """

    def __init__(self, random: torch.Generator) -> None:
        super().__init__()
        shapes = (
            (1, _FEATURES, 3 * PATCH**2),
            (_HIDDEN_LAYERS, _FEATURES, _FEATURES),
            (1, 1, _FEATURES),
        )
        areas = (PATCH**2, 1, 1)
        self.weights = nn.ParameterList(map(partial(_first_weights, random=random), shapes, areas))
        self.biases = nn.ParameterList(torch.zeros(*shape[:2], 1) for shape in shapes)
        scales = torch.empty(_HIDDEN_LAYERS, _FEATURES, 1)
        self.scales = nn.Parameter(nn.init.normal_(scales, 1, 0.02, random))
        self.shifts = nn.Parameter(torch.zeros(_HIDDEN_LAYERS, _FEATURES, 1))
        self._directions = [torch.randn(*shape[:2], 1, generator=random) for shape in shapes]

    def forward(self, images: Tensor) -> Tensor:
        """Return the probability of each patch."""
        first, hidden, last = map(self._normalised, range(3))
        x = first @ F.unfold(images, PATCH) + self.biases[0]
        for layer in range(_HIDDEN_LAYERS):
            x = hidden[layer] @ x + self.biases[1][layer]
            x = F.layer_norm(x, x.shape[2:])
            x = F.relu(torch.addcmul(self.shifts[layer], x, self.scales[layer]))
        return torch.sigmoid(last @ x + self.biases[2])[:, 0]

    def _normalised(self, index: int) -> Tensor:
        """Return weights (layers, outputs, inputs) divided by their largest singular values.

        These are found by one more step of the power method in each call.
        """
        weights = self.weights[index]
        with torch.no_grad():
            rows = self._directions[index].to(weights)
            columns = F.normalize(weights.mT @ rows, dim=1)
            rows = F.normalize(weights @ columns, dim=1)
            self._directions[index] = rows
        return weights / (rows.mT @ weights @ columns)


def _first_weights(shape: tuple[int, ...], area: int, random: torch.Generator) -> Tensor:
    """Return Xavier weights (layers, outputs, inputs) of convolutions over `area` pixels."""
    deviation = _GAIN * math.sqrt(2 / (shape[1] * area + shape[2]))
    return deviation * torch.randn(shape, generator=random)
