"""Mipmaps: ever smaller copies of a texture, each half as large as the one before."""

from __future__ import annotations

from enum import Enum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.images.pixels import normals

_Floats = NDArray[np.float32]


class Content(Enum):
    """What the channels of a texture are, which decides how they are averaged."""

    COLOUR = "colour as in sRGB, with transparency"
    DATA = "independent values"
    NORMALS = "directions, and independent values in the alpha channel"


def mipmaps(samples: NDArray[np.uint8], content: Content) -> list[NDArray[np.uint8]]:
    """Return all smaller copies of a texture, down to one pixel.

    Colours are averaged in linear light and weighted by alpha, so that dark edges and the colours
    of transparent pixels do not spread. Directions are averaged as vectors of length 1.

    Args:
        samples: Array of shape (H, W, 4).
        content: Kind of the channels.

    Example:
        >>> checks = np.indices((4, 4)).sum(0) % 2 * np.uint8(255)
        >>> texture = np.dstack([checks] * 3 + [np.full((4, 4), 255)]).astype(np.uint8)
        >>> [int(level[0, 0, 0]) for level in mipmaps(texture, Content.COLOUR)]
        [188, 188]
    """
    levels: list[NDArray[np.uint8]] = []
    values = _to_averaged(samples, content)
    while max(values.shape[:2]) > 1:
        values = _halved(values)
        if content is Content.NORMALS:
            values[..., :3] = normals.unit(values[..., :3])
        levels.append(_from_averaged(values, content))
    return levels


def _halved(values: _Floats) -> _Floats:
    """Average blocks of 2x2 values, and a little more where a side is odd."""
    height, width = (max(side // 2, 1) for side in values.shape[:2])
    planes = [
        cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA)
        for plane in np.moveaxis(values, 2, 0)
    ]
    return np.dstack(planes).astype(np.float32)


def _to_averaged(samples: NDArray[np.uint8], content: Content) -> _Floats:
    """Return values that can be averaged; colour is followed by colour times alpha."""
    values = samples.astype(np.float32) / np.float32(255)
    if content is Content.NORMALS:
        return np.dstack((normals.decoded(values[..., :3]), values[..., 3]))
    if content is Content.DATA:
        return values
    light = _to_light(values[..., :3])
    return np.dstack((light, light * values[..., 3:], values[..., 3]))


def _from_averaged(values: _Floats, content: Content) -> NDArray[np.uint8]:
    alpha = values[..., -1:]
    if content is Content.NORMALS:
        first = normals.encoded(values[..., :3])
    elif content is Content.DATA:
        first = values[..., :3]
    else:
        weighted = values[..., 3:6] / np.maximum(alpha, np.float32(1e-6))
        first = _to_srgb(np.where(alpha > 1 / 512, weighted, values[..., :3]).clip(0, 1))
    return _levels(np.dstack((first, alpha)))


def _levels(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)


def _to_light(values: _Floats) -> _Floats:
    curved = ((values + 0.055) / 1.055) ** 2.4
    return np.where(values <= 0.04045, values / 12.92, curved).astype(np.float32)


def _to_srgb(light: _Floats) -> _Floats:
    curved = light ** (1 / 2.4) * 1.055 - 0.055
    return np.where(light <= 0.0031308, light * 12.92, curved).astype(np.float32)
