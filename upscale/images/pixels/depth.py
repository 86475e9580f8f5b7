"""Samples in fewer bits."""

from __future__ import annotations

import numpy as np

from upscale.images.image import Pixels

_BAND_SAMPLES = 4 * 1024 * 1024


def in_depth(samples: Pixels, depth: int) -> Pixels:
    """Samples rounded to at most 8 or 16 bits (32 leaves them as they are), a band at a time.

    What is no number becomes 0, and floats outside 0..1 are clipped.
    """
    if samples.dtype.itemsize * 8 <= depth:
        return samples
    kind = np.uint8 if depth == 8 else np.uint16
    full = float(np.iinfo(kind).max)
    result = np.empty(samples.shape, kind)
    rows = max(1, _BAND_SAMPLES // samples[0].size)
    for top in range(0, len(samples), rows):
        band = samples[top : top + rows]
        if band.dtype == np.uint16:
            # 65535 / 255 is odd, so that halves do not occur.
            result[top : top + rows] = (band.astype(np.uint32) + 128) // 257
        else:
            clean = np.nan_to_num(band.astype(np.float64), nan=0.0).clip(0, 1)
            result[top : top + rows] = np.rint(clean * full)
    return result
