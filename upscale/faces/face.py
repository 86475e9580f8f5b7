"""A face in an image, and what every face detector does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
"""Array of shape (H, W, 1 or 3): uint8, uint16, or float32 in 0..1."""

Points = NDArray[np.float64]
"""Array of shape (N, 2): positions as (x, y) in pixels, (0, 0) in the middle of the first pixel."""


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face that a detector has found.

    Attributes:
        box: Left, top, right and bottom in pixels; parts may lie outside the image.
        landmarks: Positions of the left eye, right eye, tip of the nose, left and right corner of
            the mouth, as seen in the image, shape (5, 2).
        score: Confidence of the detector, 0..1.
    """

    box: tuple[float, float, float, float]
    landmarks: Points
    score: float

    @property
    def side(self) -> float:
        """Longer side of the box in pixels."""
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)


class FaceDetector(Protocol):
    """Finds the faces in an image."""

    def detect(self, pixels: NDArray[np.uint8]) -> list[Face]:
        """Return the faces in an RGB image of shape (H, W, 3), those with the best score first."""
        ...
