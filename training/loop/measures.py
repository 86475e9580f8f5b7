"""The metrics of validation, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from upscale.errors import UsageError
from upscale.metrics import psnr, ssim

Pixels = NDArray[np.uint8]
Measure = Callable[[Pixels, Pixels, int], float]
"""Of a result, the truth and a border that does not count."""

_MEASURES: dict[str, Measure] = {
    "psnr": lambda result, high, border: psnr(result, high, border=border),
    "ssim": lambda result, high, border: ssim(result, high, border=border),
}


def measures(names: Sequence[str]) -> dict[str, Measure]:
    """The metrics of these names."""
    for name in names:
        if name not in _MEASURES:
            raise UsageError(f"validation.metrics: {name} is none of {', '.join(_MEASURES)}")
    return {name: _MEASURES[name] for name in names}


def lower_is_better(name: str) -> bool:
    """Whether a metric falls as pictures become better."""
    return False
