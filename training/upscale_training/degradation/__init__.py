"""Degradations that turn HR images into LR images: sampled, described, replayed.

    settings = real_esrgan(scale=4)
    degradations = sample(settings, len(hr), np.random.default_rng(seed))
    lr = apply(sharpen(hr), degradations)

A `Degradation` consists of plain values: `print` shows it, `as_dict` and `from_dict` store it, and
the same one gives the same pixels again.
"""

from __future__ import annotations

from upscale_training.degradation.chain import (
    apply,
    register_degradation,
    unregister_degradation,
)
from upscale_training.degradation.filters import sharpen
from upscale_training.degradation.operations import Degradation
from upscale_training.degradation.pool import PairPool
from upscale_training.degradation.settings import (
    DegradationSettings,
    classical,
    generic,
    real_esrgan,
    sample,
)

__all__ = [
    "Degradation",
    "DegradationSettings",
    "PairPool",
    "apply",
    "classical",
    "generic",
    "real_esrgan",
    "register_degradation",
    "sample",
    "sharpen",
    "unregister_degradation",
]
