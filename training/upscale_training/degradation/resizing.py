"""Resizing with filters that widen when an image shrinks, as two matrix products."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale_training.degradation.operations import Kind

CACHED_MATRICES = 128
"""Number of matrices kept; the largest of a usual chain, 400 x 600, has 1 MB."""

_REACH: dict[Kind, float] = {
    "nearest": 0.5,
    "area": 1,
    "bilinear": 1,
    "bicubic": 2,
    "lanczos": 3,
}
"""Radius of each filter at scale 1, in pixels."""


def resize(images: Tensor, size: tuple[int, int], kind: Kind) -> Tensor:
    """Resize (N, C, H, W) to a height and width with aligned pixel centres.

    `nearest` is not antialiased, `bicubic` (a = -0.5) is MATLAB's `imresize`, `lanczos` has three
    lobes. `area` averages the pixels that an output pixel covers. It upscales as `bilinear` does,
    because averaging would repeat pixels, and the paper excludes nearest neighbours (section 3.1).
    """
    if images.shape[-2:] == size:
        return images
    rows = _matrix(kind, images.shape[-2], size[0], images.device)
    columns = _matrix(kind, images.shape[-1], size[1], images.device)
    return rows @ images @ columns.T


@lru_cache(maxsize=CACHED_MATRICES)
def _matrix(kind: Kind, inputs: int, outputs: int, device: torch.device) -> Tensor:
    """Return the weight of each input pixel in each output pixel, (outputs, inputs).

    It is made on the CPU and copied at once: a GPU would start six kernels for it.
    """
    indices, weights = _taps(kind, inputs, outputs)
    matrix = np.zeros((outputs, inputs), np.float32)
    # Mirrored taps share an index; they are added in a fixed order.
    np.add.at(matrix, (np.arange(outputs)[:, None], indices), weights.astype(np.float32))
    return torch.from_numpy(matrix).to(device)


def _taps(kind: Kind, inputs: int, outputs: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return indices of inputs and their weights, (outputs, taps) each, mirrored at the edge."""
    ratio = inputs / outputs
    if kind == "area" and ratio < 1:
        kind = "bilinear"
    stretch = 1.0 if kind == "nearest" else max(ratio, 1.0)
    centres = (np.arange(outputs)[:, None] + 0.5) * ratio - 0.5
    reach = int(np.ceil(_REACH[kind] * stretch))
    indices = np.floor(centres).astype(np.int64) + np.arange(-reach, reach + 2)
    weights = _weights(kind, indices - centres, stretch)
    indices %= 2 * inputs
    return np.minimum(indices, 2 * inputs - 1 - indices), weights / weights.sum(1, keepdims=True)


def _weights(kind: Kind, distance: NDArray[np.float64], stretch: float) -> NDArray[np.float64]:
    """Return weights of pixels by their distance from the output's centre, not normalised."""
    if kind == "nearest":
        return ((distance > -0.5) & (distance <= 0.5)).astype(np.float64)
    if kind == "area":
        return np.clip(stretch / 2 + 0.5 - np.abs(distance), 0, 1)
    x = np.abs(distance / stretch)
    if kind == "bilinear":
        return np.clip(1 - x, 0, None)
    if kind == "lanczos":
        return np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
