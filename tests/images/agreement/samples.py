"""Decoded images in one form, and the difference between two of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FULL = 65535
_LEVEL = 257
"""One level of 8 bits in samples of 16 bits."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The first image of a file, upright.

    Attributes:
        samples: Array of shape (H, W, 4), uint16: RGB, and alpha that is not premultiplied.
        bits: Bits per sample that the reader delivered: 8, 16 or 32.
    """

    samples: NDArray[np.uint16]
    bits: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference of two images of one size, in levels of 8 bits.

    Attributes:
        most: Largest difference.
        mean: Mean difference of all samples.
        place: Column and row of the largest difference.
    """

    most: float
    mean: float
    place: tuple[int, int]

    def __str__(self) -> str:
        return f"up to {self.most:.4g} levels at {self.place}, mean {self.mean:.3g}"


def decoded(samples: NDArray[Any], most: int | None = None) -> Decoded:
    """Bring samples into the common form.

    Args:
        samples: Array of shape (H, W) or (H, W, 1 to 4): grey or RGB, with or without alpha;
            integers, or floats in 0..1.
        most: Value of white; None for the largest of an integer type.
    """
    if samples.dtype == np.bool_:
        samples, most = samples.astype(np.uint8), 1
    is_float = samples.dtype.kind == "f"
    bits = 32 if is_float else 8 * samples.dtype.itemsize
    scale = 1 if is_float else most or int(np.iinfo(samples.dtype).max)
    samples = samples.reshape(*samples.shape[:2], -1)
    if samples.dtype != np.uint16 or scale != _FULL:
        in_range = np.nan_to_num(samples.astype(np.float64) / scale).clip(0, 1)
        samples = np.rint(in_range * _FULL).astype(np.uint16)
    height, width, channels = samples.shape
    common = np.full((height, width, 4), _FULL, np.uint16)
    common[..., :3] = samples[..., :3] if channels > 2 else samples[..., :1]
    if channels % 2 == 0:
        common[..., 3] = samples[..., -1]
    return Decoded(common, bits)


def difference(one: Decoded, other: Decoded) -> Difference | None:
    """Compare two images; None where their sizes differ.

    Colours are weighted by alpha, so those of transparent pixels do not count.
    """
    if one.samples.shape != other.samples.shape:
        return None
    apart = np.abs(_premultiplied(one) - _premultiplied(other)).max(axis=2) / _LEVEL
    row, column = np.unravel_index(int(apart.argmax()), apart.shape)
    return Difference(float(apart.max()), float(apart.mean()), (int(column), int(row)))


def _premultiplied(image: Decoded) -> NDArray[np.float32]:
    samples = image.samples.astype(np.float32)
    samples[..., :3] *= samples[..., 3:] / _FULL
    return samples
