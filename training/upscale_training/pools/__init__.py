"""Degradations that are measured instead of computed: pools of kernels and of noise.

Ji et al., "Real-World Super-Resolution via Kernel Estimation and Noise Injection" (RealSR,
CVPRW 2020), samples the blur and the noise of LR images from those of real photos. The files of a
pool are untrusted. A description names the file of each operation with its SHA-256, so that it
gives the same pixels again, or an error.

Importing this package makes the steps `kernel` and `injected_noise` available.
"""

from __future__ import annotations

# The steps of codecs come first, so that messages list all in one order.
import upscale_training.codecs  # noqa: F401  # pyright: ignore[reportUnusedImport]
from upscale_training.degradation import register_degradation
from upscale_training.pools.kernels import KernelStep, PoolKernel, filter_images
from upscale_training.pools.noise import InjectedNoise, InjectedNoiseStep, inject

register_degradation("kernel", KernelStep, {PoolKernel: filter_images})
register_degradation("injected_noise", InjectedNoiseStep, {InjectedNoise: inject})
