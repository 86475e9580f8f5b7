"""How good an image is: pure functions of arrays. No torch, unless a perceptual one is called."""

from __future__ import annotations

from upscale.metrics.brisque import brisque
from upscale.metrics.fidelity import psnr, ssim
from upscale.metrics.niqe import niqe
from upscale.metrics.piqe import piqe
from upscale.metrics.samples import UnfitError

__all__ = ["UnfitError", "brisque", "niqe", "piqe", "psnr", "ssim"]
