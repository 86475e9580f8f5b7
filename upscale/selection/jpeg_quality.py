"""Quality of a JPEG from its quantisation table, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Luma quantisation at quality 50 (ITU-T T.81, table K.1).
_LUMA = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
    92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
])  # fmt: skip


def quality_of(steps: Sequence[int]) -> int | None:
    """Return the lowest libjpeg quality whose luma table is as fine as a file's.

    Args:
        steps: Luma table of the file.
    """
    if len(steps) != len(_LUMA):
        return None
    return next((q for q in range(1, 101) if int(luma_table(q).sum()) <= sum(steps)), 100)


def luma_table(quality: int) -> NDArray[np.int64]:
    """Return libjpeg's luma quantisation for a quality (its function jpeg_quality_scaling).

    Args:
        quality: Quality 1..100.

    Returns:
        64 steps, row by row.
    """
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((_LUMA * percent + 50) // 100).clip(1, 255)
