"""Turn the kernel of a trained generator into the one that is saved."""

from __future__ import annotations

import numpy as np

from upscale_training.kernel_files import Kernel

_KEPT = 40
"""Number of values that are never cut."""


def cleaned(kernel: Kernel) -> Kernel:
    """Remove the small values of an estimated kernel, and normalise its sum."""
    limit = 0.75 * np.sort(kernel.ravel())[-_KEPT - 1]
    cut = np.maximum(kernel - limit, 0)
    return cut / cut.sum()


def applied_twice(kernel: Kernel) -> Kernel:
    """Return the kernel for a quarter of the size: that for a half, applied twice.

    Args:
        kernel: Kernel (n, n) for half the size, aligned.

    Returns:
        Aligned kernel of side 3n - 2 - 2 * (n // 2).
    """
    side = len(kernel)
    large = np.zeros((3 * side - 2,) * 2)
    for (row, column), value in np.ndenumerate(kernel):
        large[2 * row : 2 * row + side, 2 * column : 2 * column + side] += value * kernel
    cut = large[side // 2 : -(side // 2), side // 2 : -(side // 2)]
    return cut / cut.sum()
