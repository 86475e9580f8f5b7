"""Zero-shot super-resolution: a small network that is trained on one image, to upscale that image.

Source: Shocher, Cohen and Irani, "Zero-Shot Super-Resolution using Deep Internal Learning" (CVPR
2018), and its public code.
"""

from __future__ import annotations

from upscale_training.zero_shot.network import ZeroShotNetwork, ZeroShotSpec
from upscale_training.zero_shot.training import ZeroShotSettings, train_on

__all__ = ["ZeroShotNetwork", "ZeroShotSettings", "ZeroShotSpec", "train_on"]
