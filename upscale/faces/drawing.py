"""Draw boxes and landmarks, so that people can see what was found."""

from __future__ import annotations

import cv2
import numpy as np

from upscale.faces.face import Face, Pixels
from upscale.images.pixels.depth import full_scale

_BOX = (255, 0, 255)
_LANDMARKS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))
"""Colours in RGB: left eye, right eye, nose, left and right corner of the mouth."""


def draw_face(large: Pixels, face: Face, size: tuple[int, int]) -> None:
    """Draw the box, the landmarks and the score of a face into an upscaled image, in place.

    Args:
        large: Upscaled image of shape (H', W', 1 or 3).
        face: Face in the image before upscaling.
        size: Width and height of the image before upscaling.
    """
    scale = np.array([large.shape[1] / size[0], large.shape[0] / size[1]])
    width = max(round(face.side * float(scale[0]) / 80), 1)
    corners = np.rint(np.array(face.box).reshape(2, 2) * scale).astype(int).tolist()
    layer = np.zeros((*large.shape[:2], 3), np.uint8)  # OpenCV writes text into 8 bits only
    cv2.rectangle(layer, corners[0], corners[1], _BOX, width)
    place = [corners[0][0], max(corners[0][1], 0) + 9 * width]
    font, size_of_text = cv2.FONT_HERSHEY_SIMPLEX, 0.3 * width
    cv2.putText(layer, f"{face.score:.3f}", place, font, size_of_text, _BOX, max(width // 2, 1))
    points = face.landmarks * scale + (scale - 1) / 2
    for point, colour in zip(np.rint(points).astype(int).tolist(), _LANDMARKS, strict=True):
        cv2.circle(layer, point, 2 * width, colour, cv2.FILLED)
    drawn = layer.any(-1)
    colours = layer[drawn] if large.shape[2] == 3 else layer[drawn].max(-1, keepdims=True)
    large[drawn] = (colours * (full_scale(large.dtype) / 255)).astype(large.dtype)
