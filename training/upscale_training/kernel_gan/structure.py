"""The structure function of an image: how different pixels are on average, by their distance."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from upscale_training.kernel_gan.networks import KERNEL

_LAGS = 2
"""Largest distance that is compared, in pixels along each axis."""

_REACH = 2 * _LAGS + KERNEL - 1
"""Largest distance in the image that the compared ones of a downscaled image depend on."""

_WINDOW = 31
"""Side in pixels of the areas whose contrast is measured."""

_WEIGHT = 20.0

Floats = NDArray[np.float64]


class StructureLoss:
    """The loss of a kernel that changes how the difference of pixels grows with their distance.

    A downscaled image should look like the image itself. For pairs of pixels, this can be measured
    on the whole image and without a network: the mean squared differences of a downscaled image
    follow from those of the image and the kernel. They tell the widths of a kernel along all axes,
    which a discriminator of random crops finds slowly. A common factor is ignored, because contrast
    depends on the size of details in most images.

    Args:
        image: Grey image (H, W) with at least 2 * 16 + 1 pixels on each side.
        device: Device of the training.

    Example:
        >>> image = np.random.default_rng(0).random((86, 86))
        >>> loss = StructureLoss(image, torch.device("cpu"))
        >>> bool(loss(torch.full((13, 13), 1 / 169)) > 0)
        True
    """

    def __init__(self, image: Floats, device: torch.device) -> None:
        differences = structure_function(image.astype(np.float64), _REACH)
        # Up to a constant, the autocorrelation is minus half of the structure function.
        self._correlations = torch.from_numpy(-differences / 2).to(device, torch.float32)
        inner = slice(_REACH - _LAGS, _REACH + _LAGS + 1)
        self._expected = _logarithms(self._correlations[inner, inner])

    def __call__(self, kernel: Tensor) -> Tensor:
        """Return the loss of a kernel (`KERNEL`, `KERNEL`)."""
        twice = F.conv2d(kernel[None, None], kernel[None, None], padding=KERNEL - 1)
        downscaled = F.conv2d(self._correlations[None, None], twice, stride=2)[0, 0]
        return _WEIGHT * (_logarithms(downscaled) - self._expected).square().mean()


def structure_function(image: Floats, reach: int) -> Floats:
    """Return the mean squared difference of pixels for each distance.

    Areas with details count alike, whatever their contrast is; areas without details do not count.

    Args:
        image: Grey image (H, W).
        reach: Largest distance in pixels along each axis.

    Returns:
        Array (2 * reach + 1, 2 * reach + 1), symmetric about its centre.

    Example:
        >>> stripes = np.tile([0.0, 1.0], (40, 20))
        >>> structure_function(stripes, 1)[1].round(6).tolist()
        [1.0, 0.0, 1.0]
    """
    x = image - image.mean()
    weights = np.zeros_like(x)
    inside = (slice(reach, -reach), slice(reach, -reach))
    weights[inside] = _evened_contrast(x)[inside]
    products = _correlation(weights * x, x, reach)
    squares = (weights * x * x).sum() + _correlation(weights, x * x, reach)
    result = np.maximum(squares - 2 * products, 0) / weights.sum()
    return (result + result[::-1, ::-1]) / 2


def _evened_contrast(image: Floats) -> Floats:
    down, across = np.gradient(image)
    squares = np.asarray(down * down + across * across, np.float64)
    energy = np.asarray(cv2.blur(squares, (_WINDOW, _WINDOW)), np.float64)
    usual = max(float(energy.mean()), 1e-12)
    return (energy + 1e-6 * usual) / (energy + usual) ** 2


def _correlation(first: Floats, second: Floats, reach: int) -> Floats:
    """Return the sums of first[p] * second[p + distance] over p for each distance."""
    shape = [side + reach for side in first.shape]
    product = np.fft.rfft2(first, shape).conj() * np.fft.rfft2(second, shape)
    sums = np.fft.irfft2(product, shape)
    size = 2 * reach + 1
    return np.roll(sums, (reach, reach), (0, 1))[:size, :size]


def _logarithms(correlations: Tensor) -> Tensor:
    """Return the logarithms of the structure function for half of the distances, without mean."""
    middle = len(correlations) // 2
    differences = (correlations[middle, middle] - correlations).flatten()
    logarithms = differences[: len(differences) // 2].clamp_min(1e-12).log()
    return logarithms - logarithms.mean()
