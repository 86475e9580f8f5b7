"""Crops of an image for KernelGAN, taken more often where there is detail."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_EDGE = 5
"""Pixels at the border of the image whose gradients are ignored."""


def crop_corners(
    image: Floats, crop: int, count: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Return the top left corners of random crops.

    Args:
        image: Grey image (H, W).
        crop: Side of a crop in pixels.
        count: Number of crops.
        random: Source of random numbers.

    Returns:
        Even (top, left) of each crop, (count, 2).
    """
    shares = _shares(_detail(image), crop)
    centres = random.choice(shares.size, count, p=shares.ravel())
    corners = np.stack(np.unravel_index(centres, shares.shape), 1) - crop // 2
    return corners // 2 * 2


def _detail(image: Floats) -> Floats:
    """Return how much detail there is around each pixel."""
    down, across = np.gradient(image)
    parts = (np.abs(across), np.abs(down), np.hypot(across, down))
    total = sum((_strong(part) for part in parts), np.zeros_like(image))
    blurred = cv2.blur(total, (5, 5))
    return np.asarray(blurred / max(float(blurred.mean()), 1e-12), np.float32)


def _strong(gradient: Floats) -> Floats:
    """Return the strongest gradients, all alike and with a sum of 1."""
    limit = np.percentile(gradient, 97)
    strong = np.where(gradient > limit, limit, 0).astype(np.float32)
    inner = np.zeros_like(strong)
    inside = (slice(_EDGE, -_EDGE), slice(_EDGE, -_EDGE))
    inner[inside] = strong[inside]
    return inner / max(float(inner.sum()), 1e-12)


def _shares(detail: Floats, crop: int) -> NDArray[np.float64]:
    """Return the probability of each pixel to be the centre of a crop."""
    side = crop // 2
    mean = cv2.blur(detail, (side, side)).astype(np.float64)
    shares = np.zeros_like(mean)
    rows, columns = (slice(side, max(length - side, side + 1)) for length in mean.shape)
    shares[rows, columns] = mean[rows, columns]
    if shares.sum() == 0:  # an image without detail
        shares[rows, columns] = 1
    return shares / shares.sum()
