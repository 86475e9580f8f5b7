"""Alignment: the map that brings a face upright and into the middle of a square of 512 pixels.

Template, estimator and border colour are those of facexlib's FaceRestoreHelper, which the networks
were trained with.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from upscale.faces.face import Pixels, Points
from upscale.faces.sampling import REACH, Transform, fitted, sample
from upscale.images.pixels.depth import full_scale

SIDE = 512
"""Side of an aligned face in pixels."""

TEMPLATE: Points = np.array(
    [
        (192.98138, 239.94708),
        (318.90277, 240.1936),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ]
)
"""Landmarks of an aligned face."""

_RIM = 2 * REACH
"""Least width of the continued border in pixels of the aligned face, and of the image."""

_OUTSIDE = 132 / 255, 133 / 255, 135 / 255
"""Colour outside the image, RGB in 0..1."""


def alignment(landmarks: Points) -> Transform | None:
    """Return the map from an image to the aligned face; None if the landmarks coincide.

    The map rotates, scales and moves, and fits most landmarks where one is an outlier (LMedS).

    Args:
        landmarks: Landmarks of the face, shape (5, 2).

    Example:
        >>> matrix = alignment(TEMPLATE / 2)
        >>> np.allclose(matrix, [[2, 0, 0], [0, 2, 0]])
        True
    """
    return fitted(landmarks, TEMPLATE)


def aligned_face(pixels: Pixels, matrix: Transform) -> NDArray[np.float32]:
    """Cut an aligned face out of an image.

    Args:
        pixels: Image of shape (H, W, 1 or 3).
        matrix: Result of `alignment`.

    Returns:
        RGB in 0..1, shape (512, 512, 3).
    """
    full = full_scale(pixels.dtype)
    outside = (_OUTSIDE[0] * full, _OUTSIDE[1] * full, _OUTSIDE[2] * full)
    # The border is continued a little: pasting interpolates across it, and would show a grey line.
    rim = _RIM + math.ceil(_RIM / float(np.hypot(*matrix[:, 0])))
    face = sample(pixels, matrix, (SIDE, SIDE), outside, sharp=True, rim=rim) / np.float32(full)
    face = face.clip(0, 1)
    return face if face.shape[2] == 3 else face.repeat(3, axis=2)
