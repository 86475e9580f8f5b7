"""Whether an image holds the finest details that its size allows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from upscale.selection.patches import Patch, luma_of

_SIDE = 64
_MIDDLE, _HIGH = (0.10, 0.25), (0.36, 0.50)
# Power of the rounding to whole levels, which no blur takes away.
_ROUNDING = 1 / 12


def sharpness_of(patches: Sequence[Patch]) -> float:
    """Return the power near the finest detail over that of middle detail, in decades.

    Natural images fall by about 0.5 to 1.5; out of focus or upscaled ones by 2 and more
    (D. J. Field, Relations between the statistics of natural images, JOSA A 4(12), 1987).

    Args:
        patches: Patches of one image.
    """
    spectra = [power for patch in patches for power in _spectra(luma_of(patch))]
    if not spectra:
        return 0.0
    middle, high = np.array(spectra).T
    strong = middle >= np.quantile(middle, 0.5)
    return float(np.median(np.log10((high[strong] + _ROUNDING) / (middle[strong] + _ROUNDING))))


def _spectra(luma: Patch) -> list[tuple[float, float]]:
    side = min(_SIDE, *luma.shape)
    if side < 16:
        return []
    window = np.outer(np.hanning(side), np.hanning(side))
    window /= np.sqrt(np.square(window).mean())
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    bands = [(frequency >= low) & (frequency < high) for low, high in (_MIDDLE, _HIGH)]
    powers: list[tuple[float, float]] = []
    for y in range(0, luma.shape[0] - side + 1, side):
        for x in range(0, luma.shape[1] - side + 1, side):
            block = luma[y : y + side, x : x + side]
            power = np.square(np.abs(np.fft.rfft2((block - block.mean()) * window))) / side**2
            powers.append((float(power[bands[0]].mean()), float(power[bands[1]].mean())))
    return powers
