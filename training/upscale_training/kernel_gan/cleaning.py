"""Turn the kernel of a trained generator into the one that is saved."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from upscale_training.kernel_files import Kernel, centre_of_mass

_SIDE = 21
"""Side of a saved kernel in pixels."""

_HALVINGS = 6
"""From here on, the factors are 1 but for the rounding."""


def degradation_kernel(kernel: Kernel) -> Kernel:
    """Return the kernel that made an image, from the one that repeats its blur.

    A generator is trained to make a downscaled image look like the image itself. The image has a
    blur already, so that only the rest is missing: where details look alike at all sizes, the
    spectrum of the generator's kernel is K(f) = B(f) / B(f / 2) for a blur B (Michaeli and Irani,
    "Nonparametric Blind Super-Resolution", ICCV 2013). This is solved for B, the product of K(f),
    K(f / 2), K(f / 4), ...: a kernel with 4/3 of the variance. The authors of KernelGAN take K
    itself.

    Args:
        kernel: Kernel of a generator (n, n).

    Returns:
        Kernel (21, 21) without negative values, with a sum of 1.

    Example:
        >>> axis = np.arange(-6, 7)
        >>> gaussian = np.exp(-(axis**2) / 6)  # with a variance of 3
        >>> blur = degradation_kernel(np.outer(gaussian, gaussian))
        >>> float((blur.sum(0) * np.arange(-10, 11) ** 2).sum().round(1))
        4.0
    """
    kernel = _positive(kernel)
    places = np.arange(len(kernel), dtype=np.float64)
    rows, columns = (np.subtract(places, centre) for centre in centre_of_mass(kernel))
    blur = np.ones((_SIDE, _SIDE), np.complex128)
    for frequencies in (np.fft.fftfreq(_SIDE) / 2**halving for halving in range(_HALVINGS)):
        blur *= _waves(frequencies, rows) @ kernel @ _waves(frequencies, columns).T
    return _positive(np.fft.fftshift(np.fft.ifft2(blur).real))


def _waves(frequencies: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.complex128]:
    return np.exp(-2j * np.pi * np.outer(frequencies, places))


def _positive(kernel: Kernel) -> Kernel:
    kept = np.maximum(kernel, 0)
    return kept / kept.sum()


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
