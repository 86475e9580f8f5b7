"""Train a network on one image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from upscale.errors import ImageError
from upscale.images.pixels.depth import in_depth
from upscale_training.kernel_files import Kernel, aligned
from upscale_training.kernel_gan import EstimateSettings, estimate_kernel
from upscale_training.zero_shot.fathers import Fathers, Floats
from upscale_training.zero_shot.network import ZeroShotNetwork, ZeroShotSpec
from upscale_training.zero_shot.resampling import bicubic_kernel, downscale

CROP = 96
"""Side of the crops that the network learns to recover, in pixels."""

SMALLEST_SIDE = 16
"""Shorter side in pixels of the smallest image that a network can be trained on."""

_LEARNING_RATE = 1e-3
_BACK_PROJECTIONS = {"bicubic": 10, "given": 2}

Progress = Callable[[int, int], None]
"""Called with the iterations done and in total."""


@dataclass(frozen=True, slots=True)
class ZeroShotSettings:
    """How a network is trained on an image.

    Attributes:
        scale: Output pixels per image pixel and axis, 2 or 4.
        kernel: Kernel that the image was downscaled with; None for bicubic interpolation.
        estimates_kernel: Whether the kernel is estimated from the image instead.
        iterations: Number of iterations.
        seed: Seed of all random numbers.
        device: Device that computes.
    """

    scale: int = 2
    kernel: Kernel | None = None
    estimates_kernel: bool = False
    iterations: int = 600
    seed: int = 0
    device: str = "cpu"


def train_on(
    image: NDArray[Any], settings: ZeroShotSettings, progress: Progress | None = None
) -> ZeroShotNetwork:
    """Train a network to upscale one image, from copies of the image that are even smaller.

    Args:
        image: Array (H, W, C), C = 1 or 3, RGB; uint8, uint16, or float32 in 0..1.
        settings: Scale, kernel, length and seed of the training.
        progress: Function that is called after each iteration.

    Returns:
        The network, in evaluation mode.

    Raises:
        ImageError: The image is too small.
    """
    if min(image.shape[:2]) < SMALLEST_SIDE:
        raise ImageError(
            f"has {image.shape[1]}x{image.shape[0]} pixels; a network can only be trained on "
            f"images with at least {SMALLEST_SIDE} pixels on each side"
        )
    rgb = image if image.shape[2] == 3 else image.repeat(3, axis=2)
    kernel = settings.kernel
    if settings.estimates_kernel:
        estimate = EstimateSettings(settings.scale, seed=settings.seed, device=settings.device)
        kernel = estimate_kernel(in_depth(rgb, 8), estimate, progress).astype(np.float64)
    training = _Training(_in_unit_range(rgb), kernel, settings)
    for iteration in range(settings.iterations):
        training.step(iteration)
        if progress is not None:
            progress(iteration + 1, settings.iterations)
    return training.network.requires_grad_(False).eval()


class _Training:
    """A network, the image that it is trained on, and the random numbers."""

    def __init__(self, image: Floats, kernel: Kernel | None, settings: ZeroShotSettings) -> None:
        self._scale = settings.scale
        self._device = torch.device(settings.device)
        side = min(CROP, *image.shape[:2]) // settings.scale * settings.scale
        random = np.random.default_rng(settings.seed)
        self._fathers = Fathers(image, side, settings.iterations, random, turns=kernel is None)
        self.network = _new_network(kernel, settings).to(self._device)
        self._optimiser = torch.optim.Adam(self.network.parameters(), _LEARNING_RATE)
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self._optimiser, settings.iterations
        )

    def step(self, iteration: int) -> None:
        """Train with one crop and its downscaled copy."""
        target = self._target(iteration)
        source = downscale(target, self.network.kernel, self._scale).clamp(0, 1)
        loss = F.l1_loss(self.network.predict(source), target)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        self._schedule.step()

    def _target(self, iteration: int) -> Tensor:
        """Return a random crop, (1, 3, side, side)."""
        crop = self._fathers.crop(iteration)
        planes = np.ascontiguousarray(crop.transpose(2, 0, 1))
        return torch.from_numpy(planes)[None].to(self._device)


def _new_network(kernel: Kernel | None, settings: ZeroShotSettings) -> ZeroShotNetwork:
    scale = settings.scale
    projections = _BACK_PROJECTIONS["bicubic" if kernel is None else "given"]
    given = bicubic_kernel(scale) if kernel is None else aligned(kernel, (scale - 1) / 2)
    spec = ZeroShotSpec(scale, kernel_side=len(given), back_projections=projections)
    random = torch.Generator().manual_seed(settings.seed)
    return ZeroShotNetwork(spec, torch.from_numpy(given).float(), random)


def _in_unit_range(image: NDArray[Any]) -> Floats:
    if image.dtype.kind == "f":
        return np.clip(image.astype(np.float32), 0, 1)
    return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
