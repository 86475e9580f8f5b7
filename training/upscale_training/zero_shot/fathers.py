"""Random crops of an image, which the network learns to recover from their downscaled copies."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale_training.kernel_gan.crops import crop_corners

Floats = NDArray[np.float32]

_PLAIN, _WARPED = 0.05, 0.55
"""Probabilities below which a crop is the image as it is, and below which it is warped."""


class Fathers:
    """Crops where there is detail: as they are, flipped and turned, or smaller and distorted.

    Args:
        image: Image (H, W, 3) in 0..1.
        side: Side of a crop in pixels, at most H and W.
        count: Number of crops.
        random: Source of random numbers.
        turns: Whether distorted crops are rotated by any angle, too.
    """

    def __init__(
        self, image: Floats, side: int, count: int, random: np.random.Generator, *, turns: bool
    ) -> None:
        self._image = image
        self._side = side
        self._random = random
        self._turns = turns
        self._corners = crop_corners(image.mean(2), side, count, random)

    def crop(self, number: int) -> Floats:
        """Return a crop, (side, side, 3)."""
        random, side = self._random, self._side
        top, left = self._corners[number]
        kind = random.uniform()
        if _PLAIN <= kind < _WARPED:
            return self._warped((left + side / 2, top + side / 2))
        crop = self._image[top : top + side, left : left + side]
        if kind < _PLAIN:
            return crop
        crop = np.rot90(crop, int(random.integers(4)))
        return crop[:, ::-1] if random.integers(2) else crop

    def _warped(self, centre: tuple[float, float]) -> Floats:
        """Return a crop around (x, y) after an affine transform (section 3.2 of the paper)."""
        side = self._side
        inverse = np.linalg.inv(_random_transform(self._random, turns=self._turns))
        reach = np.abs(inverse).sum(1) * side / 2
        lengths = self._image.shape[1::-1]
        inside = [_inside(*each) for each in zip(centre, reach.tolist(), lengths, strict=True)]
        offset = np.array(inside) - inverse @ np.full(2, (side - 1) / 2)
        warped = cv2.warpAffine(
            self._image,
            np.column_stack((inverse, offset)),
            (side, side),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
        return np.asarray(warped, np.float32).clip(0, 1)


def _random_transform(random: np.random.Generator, *, turns: bool) -> NDArray[np.float64]:
    """Return a matrix (2, 2) that makes the image smaller, and stretches, shears and turns it."""
    size = random.uniform(0.5, 1)
    stretch = np.clip(1 + random.normal(0, 0.25), 0.5, 1.5)
    shear = np.clip(random.normal(0, 0.1), -0.3, 0.3)
    angle = random.uniform(0, 2 * math.pi) if turns else 0.0
    mirror = random.choice((-1, 1))
    shape = np.array([[mirror * size, shear], [0, min(size * stretch, 1)]])
    sine, cosine = math.sin(angle), math.cos(angle)
    return np.array([[cosine, -sine], [sine, cosine]]) @ shape


def _inside(centre: float, reach: float, length: int) -> float:
    """Move a centre so that the crop lies in the image, to the middle if none does."""
    margin = min(reach, (length - 1) / 2)
    return min(max(centre, margin), length - 1 - margin)
