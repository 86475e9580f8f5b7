"""Samples in fewer bits than their arrays have, as 10 or 12 of 16: stretched over all of them."""

from __future__ import annotations

import numpy as np

from upscale.pictures.picture import Pixels


def stretched(samples: Pixels, bits: int) -> Pixels:
    """Unsigned samples of `bits` bits over the whole range of their type.

    Raises:
        IndexError: A sample has more bits.
    """
    full, widest = 2**bits - 1, int(np.iinfo(samples.dtype).max)
    return ((np.arange(full + 1) * widest + full // 2) // full).astype(samples.dtype)[samples]


def narrowed(samples: Pixels, bits: int) -> Pixels:
    """uint16 samples rounded to `bits` bits: the inverse of `stretched`."""
    full = 2**bits - 1
    return ((np.arange(65536) * full + 32767) // 65535).astype(np.uint16)[samples]
