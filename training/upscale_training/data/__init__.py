"""Data sets: tools that prepare images, and samplers that cut training patches from them.

This package does not import torch, so that processes that prepare images start quickly; the
patches of training are in `upscale_training.data.patches`.
"""

from __future__ import annotations

from upscale_training.data.crop import SubImageCropper
from upscale_training.data.index import IndexEntry, images_below, read_index, write_index
from upscale_training.data.multiscale import MultiscaleCopier
from upscale_training.data.noise import NoiseCollector
from upscale_training.data.pixels import as_rgb, read_rgb, write_png
from upscale_training.data.sampler import DistributedBatchSampler, EpochOrder
from upscale_training.data.scan import find_similar, perceptual_hash

__all__ = [
    "DistributedBatchSampler",
    "EpochOrder",
    "IndexEntry",
    "MultiscaleCopier",
    "NoiseCollector",
    "SubImageCropper",
    "as_rgb",
    "find_similar",
    "images_below",
    "perceptual_hash",
    "read_index",
    "read_rgb",
    "write_index",
    "write_png",
]
