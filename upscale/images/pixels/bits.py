"""Samples in fewer bits than their arrays have, as 10 or 12 of 16: stretched over all of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from upscale.images.image import Pixels

_BAND_ROWS = 256


def stretched(samples: Pixels, bits: int) -> Pixels:
    """Unsigned samples of `bits` bits over the whole range of their type.

    Raises:
        IndexError: A sample has more bits.
    """
    return scaled(samples, 2**bits - 1, samples.dtype)


def narrowed(samples: Pixels, bits: int) -> Pixels:
    """uint16 samples rounded to `bits` bits: the inverse of `stretched`."""
    full = 2**bits - 1
    return looked_up(((np.arange(65536) * full + 32767) // 65535).astype(np.uint16), samples)


def scaled(samples: Pixels, top: int, kind: np.dtype[Any]) -> Pixels:
    """Samples of 0..top over the whole range of an unsigned type.

    Raises:
        IndexError: A sample is greater than `top`.
    """
    widest = int(np.iinfo(kind).max)
    return looked_up(((np.arange(top + 1) * widest + top // 2) // top).astype(kind), samples)


def looked_up(table: Pixels, samples: Pixels) -> Pixels:
    """What a table holds for each sample; a band at a time, as numpy makes eight bytes of each.

    Raises:
        IndexError: The table ends before.
    """
    result = np.empty(samples.shape, table.dtype)
    for top in range(0, len(samples), _BAND_ROWS):
        result[top : top + _BAND_ROWS] = table[samples[top : top + _BAND_ROWS]]
    return result
