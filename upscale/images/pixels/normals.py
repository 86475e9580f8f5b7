"""Normal maps: images whose colours are the directions of a surface."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32]

_TWO_CHANNELS = 0.02
"""Largest value of the third channel, of 1, that means that only two channels are used."""


def decoded(values: NDArray[Any]) -> _Floats:
    """Return directions (H, W, 3) in -1..1 for values in 0..1; see `encoded`.

    Where the third channel is empty, as decoders of BC5 leave it, it is rebuilt: directions have
    length 1 and point away from the surface.
    """
    vectors = (values * 2 - 1).astype(np.float32)
    if float(values[..., 2].max()) <= _TWO_CHANNELS:
        vectors[..., 2] = height_of(vectors[..., :2])
    return vectors


def encoded(vectors: NDArray[Any]) -> _Floats:
    """Return values in 0..1 for directions in -1..1."""
    return ((vectors + 1) / 2).astype(np.float32)


def height_of(flat: NDArray[Any]) -> _Floats:
    """Return the third component of directions of length 1, 0..1, from the first two."""
    return np.sqrt((1 - np.square(flat).sum(-1)).clip(0)).astype(np.float32)


def unit(vectors: NDArray[Any]) -> _Floats:
    """Return vectors (H, W, 3) with length 1; those without a direction point straight up."""
    length = np.sqrt(np.square(vectors).sum(-1, keepdims=True))
    up = np.array([0, 0, 1], np.float32)
    return np.where(length > 1e-4, vectors / np.maximum(length, 1e-4), up).astype(np.float32)
