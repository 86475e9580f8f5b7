"""Image quality metrics as pure functions of arrays, and a registry of them.

Torch is imported only when a perceptual metric is loaded.
"""

from __future__ import annotations

from upscale.metrics import builtin as _builtin  # noqa: F401  # pyright: ignore[reportUnusedImport]
from upscale.metrics.brisque import brisque
from upscale.metrics.colour_shift import colour_shift
from upscale.metrics.fidelity import psnr, ssim
from upscale.metrics.flicker import flicker
from upscale.metrics.niqe import niqe
from upscale.metrics.piqe import piqe
from upscale.metrics.registry import (
    Measure,
    Metric,
    Resources,
    metric_names,
    metrics,
    register,
    unregister,
)
from upscale.metrics.samples import MetricError

__all__ = [
    "Measure",
    "Metric",
    "MetricError",
    "Resources",
    "brisque",
    "colour_shift",
    "flicker",
    "metric_names",
    "metrics",
    "niqe",
    "piqe",
    "psnr",
    "register",
    "ssim",
    "unregister",
]
