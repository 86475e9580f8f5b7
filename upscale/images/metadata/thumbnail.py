"""The thumbnail that EXIF blocks contain."""

from __future__ import annotations

import cv2
import imagecodecs
import numpy as np

from upscale.images.image import Image
from upscale.images.pixels.depth import in_depth

_SIDE = 160
_QUALITY = 85


def thumbnail(image: Image) -> bytes:
    """Return a JPEG of at most 160 px per side, without transparency."""
    longest = max(image.width, image.height)
    # Rows and columns are skipped first, so that a huge image is not converted as a whole.
    step = max(1, longest // (4 * _SIDE))
    pixels = in_depth(np.ascontiguousarray(image.pixels[::step, ::step]), 8)
    height, width = pixels.shape[:2]
    ratio = min(1.0, _SIDE / max(height, width))
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    return bytes(
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(
                small.squeeze(2) if small.ndim == 3 and small.shape[2] == 1 else small
            ),
            _QUALITY,
        )
    )
