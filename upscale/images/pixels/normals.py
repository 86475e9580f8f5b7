"""Normal maps: images whose colours are the directions of a surface."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscale.images.image import Pixels
from upscale.images.pixels.depth import full_scale
from upscale.images.pixels.row_chunks import row_chunks

_Floats = NDArray[np.float32]

_LEAST = -0.01
"""Value below which directions are not stored in 0..1; filters overshoot by less."""

_TWO_CHANNELS = 0.02
"""Largest value of the third channel, of 1, that means that only two channels are used."""


def are_signed(pixels: Pixels) -> bool:
    """Return whether directions are stored in -1..1, as some floating-point files do."""
    return pixels.dtype.kind == "f" and float(pixels.min()) < _LEAST


def with_third_channel(pixels: Pixels) -> Pixels:
    """Rebuild the third channel where it is empty, as decoders of BC5 leave it.

    Directions have length 1 and point away from the surface.

    Args:
        pixels: Array of shape (H, W, 3), uint8, uint16 or float32; returned if nothing is missing.
    """
    full = full_scale(pixels.dtype)
    if float(pixels[..., 2].max()) > _TWO_CHANNELS * full:
        return pixels
    result = pixels.copy()
    for rows in row_chunks(pixels.shape):
        flat = _decoded(pixels[rows][..., :2], full)
        height = np.sqrt((1 - np.square(flat).sum(-1)).clip(0))
        result[rows][..., 2] = _stored(height, pixels.dtype)
    return result


def renormalised(pixels: Pixels) -> Pixels:
    """Give all directions length 1; see `unit`.

    Args:
        pixels: Array of shape (H, W, 3), uint8, uint16 or float32.
    """
    result = np.empty_like(pixels)
    full = full_scale(pixels.dtype)
    for rows in row_chunks(pixels.shape):
        result[rows] = _stored(unit(_decoded(pixels[rows], full)), pixels.dtype)
    return result


def decoded(values: NDArray[Any]) -> _Floats:
    """Return directions in -1..1 for values in 0..1; see `encoded`."""
    return _decoded(values, 1)


def encoded(vectors: NDArray[Any]) -> _Floats:
    """Return values in 0..1 for directions in -1..1."""
    return ((vectors + 1) / 2).astype(np.float32)


def unit(vectors: NDArray[Any]) -> _Floats:
    """Return vectors (H, W, 3) with length 1; those without a direction point straight up."""
    length = np.sqrt(np.square(vectors).sum(-1, keepdims=True))
    up = np.array([0, 0, 1], np.float32)
    return np.where(length > 1e-4, vectors / np.maximum(length, 1e-4), up).astype(np.float32)


def _decoded(values: NDArray[Any], full: float) -> _Floats:
    return (values * np.float32(2 / full) - 1).astype(np.float32)


def _stored(vectors: NDArray[Any], dtype: np.dtype[Any]) -> Pixels:
    values = encoded(vectors) * np.float32(full_scale(dtype))
    return (np.rint(values) if dtype.kind == "u" else values).astype(dtype)
