"""KernelGAN: estimate the kernel that an image was downscaled with, from the image itself.

Source: Bell-Kligler, Shocher and Irani, "Blind Super-Resolution Kernel Estimation using an
Internal-GAN" (NeurIPS 2019), and its public code.
"""

from __future__ import annotations

from upscale_training.kernel_gan.estimation import SMALLEST_SIDE, EstimateSettings, estimate_kernel

__all__ = ["SMALLEST_SIDE", "EstimateSettings", "estimate_kernel"]
