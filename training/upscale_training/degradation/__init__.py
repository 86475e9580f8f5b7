"""Degradations of good photographs into bad ones: drawn, described, replayed.

    settings = real_esrgan(scale=4)
    degradations = draw(settings, len(images), np.random.default_rng(seed))
    bad = apply(sharpen(images), degradations)

A `Degradation` is plain values: `print` shows it, `to_json` and `from_json` keep it, and the same
one gives the same pixels again.
"""

from __future__ import annotations

from upscale_training.degradation.chain import apply
from upscale_training.degradation.filters import sharpen
from upscale_training.degradation.operations import Degradation
from upscale_training.degradation.pool import PairPool
from upscale_training.degradation.settings import (
    DegradationSettings,
    classical,
    draw,
    generic,
    real_esrgan,
)

__all__ = [
    "Degradation",
    "DegradationSettings",
    "PairPool",
    "apply",
    "classical",
    "draw",
    "generic",
    "real_esrgan",
    "sharpen",
]
