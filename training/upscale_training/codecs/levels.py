"""Images of a batch as arrays of 8 bits, one after the other, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Levels = NDArray[np.uint8]
T = TypeVar("T")


MIN_SIDE = 16
"""Smaller images are continued, because a macroblock has 16 pixels."""


def filled(image: Levels) -> Levels:
    """Return an image with even sides of at least `MIN_SIDE`, continued at its ends.

    Args:
        image: Array of shape (H, W, 3).
    """
    rows, columns = (max(side + side % 2, MIN_SIDE) - side for side in image.shape[:2])
    return np.pad(image, [(0, rows), (0, columns), (0, 0)], mode="edge")


def each_coded(
    images: Tensor, operations: Sequence[T], code: Callable[[Levels, T], Levels]
) -> Tensor:
    """Return the images of a batch after a codec has written and read each.

    Args:
        images: Tensor of shape (N, 3, H, W) in [0, 1], on any device.
        operations: N operations.
        code: Function from an image (H, W, 3), whose sides are even and at least `MIN_SIDE`, and an
            operation to an image of the same shape.

    Returns:
        Tensor of shape (N, 3, H, W), 8-bit levels in [0, 1], on the same device.
    """
    levels = (images * 255).round().clamp(0, 255).to(torch.uint8)
    arrays = levels.permute(0, 2, 3, 1).cpu().numpy()
    height, width = images.shape[-2:]
    coded = [
        code(filled(array), operation)[:height, :width]
        for array, operation in zip(arrays, operations, strict=True)
    ]
    result = torch.from_numpy(np.stack(coded)).permute(0, 3, 1, 2)
    return result.to(images.device, images.dtype) / 255
