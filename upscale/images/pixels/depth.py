"""Conversion of bit depths: 8, 10, 12, 16 bits and floats."""

from __future__ import annotations

from typing import Any

import numpy as np

from upscale.images.image import Pixels
from upscale.images.pixels.row_chunks import looked_up, row_chunks


def in_depth(samples: Pixels, depth: int) -> Pixels:
    """Round samples to a depth; those of at most that depth are returned as they are.

    Args:
        samples: Array of uint8, uint16 or float32. NaN becomes 0, and floats are clipped to 0..1.
        depth: 8, 16 or 32 bits per sample.
    """
    if samples.dtype.itemsize * 8 <= depth:
        return samples
    kind = np.uint8 if depth == 8 else np.uint16
    full = float(np.iinfo(kind).max)
    result = np.empty(samples.shape, kind)
    for rows in row_chunks(samples.shape):
        chunk = samples[rows]
        if chunk.dtype == np.uint16:
            # 65535 / 255 is odd, so halves do not occur.
            result[rows] = (chunk.astype(np.uint32) + 128) // 257
        else:
            clean = np.nan_to_num(chunk.astype(np.float64), nan=0.0).clip(0, 1)
            result[rows] = np.rint(clean * full)
    return result


def stretched(samples: Pixels, bits: int) -> Pixels:
    """Scale unsigned samples of fewer bits to the whole range of their type.

    Args:
        samples: Array of uint8 or uint16.
        bits: Bits per sample that are in use.

    Raises:
        IndexError: A sample has more bits.
    """
    return scaled(samples, 2**bits - 1, samples.dtype)


def narrowed(samples: Pixels, bits: int) -> Pixels:
    """Round uint16 samples to fewer bits: the inverse of `stretched`."""
    full = 2**bits - 1
    return looked_up(((np.arange(65536) * full + 32767) // 65535).astype(np.uint16), samples)


def scaled(samples: Pixels, top: int, kind: np.dtype[Any]) -> Pixels:
    """Scale samples to the whole range of an unsigned type.

    Args:
        samples: Array of unsigned integers in 0..top.
        top: Largest value that a sample can have.
        kind: Type of the result.

    Raises:
        IndexError: A sample is greater than `top`.
    """
    full = int(np.iinfo(kind).max)
    return looked_up(((np.arange(top + 1) * full + top // 2) // top).astype(kind), samples)


def full_scale(dtype: np.dtype[Any]) -> float:
    """Return the value of white: the largest of an integer type, or 1 for floats."""
    return float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0
