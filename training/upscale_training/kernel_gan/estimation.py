"""Estimate the kernel of an image by training a small GAN on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale.errors import ImageError
from upscale_training.kernel_files import Kernel, aligned
from upscale_training.kernel_gan.cleaning import applied_twice, degradation_kernel
from upscale_training.kernel_gan.crops import crop_corners
from upscale_training.kernel_gan.networks import (
    KERNEL,
    LinearGenerator,
    PatchDiscriminator,
    downscale,
)
from upscale_training.kernel_gan.regularisation import Regularisation, bicubic_kernel
from upscale_training.kernel_gan.structure import StructureLoss

CROP = 64
"""Side of the generator's input in pixels."""

BORDER = 10
"""Pixels at each side of the image that the generator never sees."""

SMALLEST_SIDE = CROP + 2 * BORDER + 2
"""Shorter side in pixels of the smallest image whose kernel can be estimated."""

_REAL_CROP = (CROP - KERNEL) // 2 + 1
_LEARNING_RATE = 2e-4
_BETAS = (0.5, 0.999)
_FIT_ITERATIONS, _FIT_RATE = 150, 1e-3


@dataclass(frozen=True, slots=True)
class EstimateSettings:
    """How a kernel is estimated.

    Attributes:
        scale: Scale that the kernel downscales by, 2 or 4.
        iterations: Number of iterations of each training.
        seed: Seed of all random numbers.
        device: Device that computes.
        runs: Number of trainings, at least 1.
    """

    scale: int = 2
    iterations: int = 1500
    seed: int = 0
    device: str = "cpu"
    runs: int = 5


def estimate_kernel(
    image: NDArray[np.uint8],
    settings: EstimateSettings,
    progress: Callable[[int, int], None] | None = None,
) -> Kernel:
    """Estimate the kernel that makes downscaled patches of an image look like its own patches.

    The generator moves around its goal while it is trained against the discriminator, so that the
    kernels of the second half of the iterations are averaged. A loss that is measured on the whole
    image (`StructureLoss`) keeps it near the right widths. Where it ends still depends on the
    crops, and a few trainings go astray: the result is the median of several.

    Args:
        image: Array (H, W, 3), uint8, RGB.
        settings: Scale, length, number and seed of the trainings.
        progress: Function that is called after each iteration with those done and in total.

    Returns:
        Kernel (n, n), n odd, with a sum of 1, aligned: see `upscale_training.kernel_files`.

    Raises:
        ImageError: The image is too small.

    Example:
        >>> import numpy as np
        >>> image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        >>> settings = EstimateSettings(iterations=4, runs=2)
        >>> bool(abs(estimate_kernel(image, settings).sum() - 1) < 1e-6)
        True
    """
    if min(image.shape[:2]) < SMALLEST_SIDE:
        raise ImageError(
            f"has {image.shape[1]}x{image.shape[0]} pixels; a kernel can only be estimated from "
            f"images with at least {SMALLEST_SIDE} pixels on each side"
        )
    total = settings.runs * settings.iterations
    kernels: list[Kernel] = []
    for done in range(0, total, settings.iterations):
        seed = settings.runs * settings.seed + len(kernels)
        step = partial(_report, progress, done, total)
        kernels.append(_trained_kernel(image, replace(settings, seed=seed), step))
    kernel = np.median(kernels, axis=0)
    kernel = aligned(kernel / kernel.sum(), 0.5)
    return kernel if settings.scale == 2 else applied_twice(kernel)


def _report(
    progress: Callable[[int, int], None] | None, earlier: int, total: int, done: int
) -> None:
    if progress is not None:
        progress(earlier + done, total)


def _trained_kernel(
    image: NDArray[np.uint8], settings: EstimateSettings, progress: Callable[[int], None]
) -> Kernel:
    """Return the kernel of one training, centred."""
    training = _Training(image, settings)
    total = np.zeros((KERNEL, KERNEL))
    for iteration in range(settings.iterations):
        training.step(iteration)
        if iteration >= settings.iterations // 2:
            total += training.kernel()
        progress(iteration + 1)
    return degradation_kernel(total)


class _Training:
    """The two networks, and the crops that they are trained on."""

    def __init__(self, image: NDArray[np.uint8], settings: EstimateSettings) -> None:
        self._device = torch.device(settings.device)
        self._random = torch.Generator().manual_seed(settings.seed)
        self._inputs, self._reals = _crops(image, settings)
        self._generator = LinearGenerator(self._random).to(self._device)
        self._discriminator = PatchDiscriminator(self._random).to(self._device)
        self._regularisation = Regularisation(self._device)
        self._structure = StructureLoss(_grey(image).astype(np.float64), self._device)
        _start_from(bicubic_kernel().to(self._device), self._generator)
        self._optimisers = [
            torch.optim.Adam(network.parameters(), _LEARNING_RATE, _BETAS, fused=True)
            for network in (self._generator, self._discriminator)
        ]

    def step(self, iteration: int) -> None:
        """Train the generator, then the discriminator."""
        image = self._tensor(self._inputs(iteration))
        real = self._tensor(self._reals(iteration))
        fake = self._train_generator(image)
        self._train_discriminator(real, fake)

    def kernel(self) -> NDArray[np.float32]:
        """Return the kernel of the generator, (`KERNEL`, `KERNEL`)."""
        return self._generator.kernel().detach().cpu().numpy()

    def _train_generator(self, image: Tensor) -> Tensor:
        self._discriminator.requires_grad_(False)
        kernel = self._generator.kernel()
        fake = downscale(image, kernel)
        adversarial = (1 - self._discriminator(fake)).mean()
        plausible = self._regularisation.loss(kernel) + self._structure(kernel)
        self._optimise(0, adversarial + plausible)
        return fake.detach()

    def _train_discriminator(self, real: Tensor, fake: Tensor) -> None:
        self._discriminator.requires_grad_(True)
        both = torch.cat((self._noisy(real, 2 / 255), self._noisy(fake, 1 / 255)))
        is_real, is_fake = self._discriminator(both)
        self._optimise(1, 0.5 * ((1 - is_real).mean() + is_fake.mean()))

    def _optimise(self, index: int, loss: Tensor) -> None:
        self._optimisers[index].zero_grad()
        loss.backward()
        self._optimisers[index].step()

    def _noisy(self, images: Tensor, deviation: float) -> Tensor:
        noise = torch.randn(images.shape, generator=self._random)
        return images + deviation * noise.to(self._device)

    def _tensor(self, crop: NDArray[np.uint8]) -> Tensor:
        """Return a crop (H, W, 3) as a tensor (1, 3, H, W) in -1..1."""
        values = torch.from_numpy(crop).to(self._device, torch.float32)
        return (values / 127.5 - 1).permute(2, 0, 1)[None].contiguous()


def _start_from(kernel: Tensor, generator: LinearGenerator) -> None:
    """Fit the first weights to a kernel.

    The authors' code reaches the bicubic kernel by a loss that fades once the generator is similar
    to it. Whether that works depends on the brightness of the image; a direct fit always works.
    """
    optimiser = torch.optim.Adam(generator.parameters(), _FIT_RATE, fused=True)
    for _ in range(_FIT_ITERATIONS):
        loss = (generator.kernel() - kernel).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


Crops = Callable[[int], NDArray[np.uint8]]
"""Returns the crop of an iteration."""


def _crops(image: NDArray[np.uint8], settings: EstimateSettings) -> tuple[Crops, Crops]:
    """Return the crops of the generator and those of the discriminator."""
    random = np.random.default_rng(settings.seed)
    inner = image[BORDER:-BORDER, BORDER:-BORDER]
    inner = inner[: inner.shape[0] // 2 * 2, : inner.shape[1] // 2 * 2]
    grey, inner_grey = _grey(image), _grey(inner)
    size = (inner.shape[1] // 2, inner.shape[0] // 2)
    half = np.asarray(cv2.resize(inner_grey, size, interpolation=cv2.INTER_AREA), np.float32)
    count = settings.iterations
    real_corners = crop_corners(grey, _REAL_CROP, count, random)
    corners = crop_corners(half.repeat(2, 0).repeat(2, 1), CROP, count, random)
    return (
        lambda iteration: _crop(inner, corners[iteration], CROP),
        lambda iteration: _crop(image, real_corners[iteration], _REAL_CROP),
    )


def _grey(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)


def _crop(image: NDArray[np.uint8], corner: NDArray[np.int64], side: int) -> NDArray[np.uint8]:
    top, left = corner
    return np.ascontiguousarray(image[top : top + side, left : left + side])
