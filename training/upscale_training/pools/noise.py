"""The noise pool (RealSR, section 3.3): noise of real photos, cut from areas without content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from upscale.errors import TrainingError, UpscaleError
from upscale.files.hashing import sha256_of
from upscale_training.data.pixels import read_rgb
from upscale_training.degradation.operations import Operation
from upscale_training.degradation.randomness import Randomness
from upscale_training.degradation.steps import Step
from upscale_training.path_settings import FilePath
from upscale_training.pools.files import Sha256, check_digest, files_of, label_of
from upscale_training.schema import Probability, settings

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".webp")
"""Suffixes of patches; JPEG is missing, because its compression would be taken for noise."""

Share = Annotated[float, Field(ge=0, lt=1)]


@settings
class InjectedNoise(Operation):
    """Noise from a part of a patch, whose mean is subtracted for each channel.

    Attributes:
        file: Path of the patch.
        sha256: SHA-256 of the file.
        top: First row of the part, as a share of the rows where it can begin.
        left: First column of the part, as a share of the columns where it can begin.
    """

    do: ClassVar[str] = "injected_noise"
    file: str
    sha256: Sha256
    top: Share
    left: Share

    def __str__(self) -> str:
        return f"noise of {label_of(self.file)}"


@settings
class InjectedNoiseStep(Step):
    """Noise of real photos (RealSR, section 3.3).

    Attributes:
        do: Selects this step.
        pool: Folder of patches as written by `upscale dataset noise`; all are equally likely.
        probability: Probability of any noise.
    """

    do: Literal["injected_noise"] = field(default="injected_noise", kw_only=True, repr=False)
    pool: FilePath
    probability: Probability = 1.0

    def prepare(self) -> None:
        """List the pool, and read one patch."""
        _patch(_pool(self.pool)[0])

    def sample(self, own: Randomness, shared: Randomness, scale: int) -> tuple[Operation, ...]:
        """Sample a part of one patch, or no noise."""
        if not own.chance(self.probability):
            return ()
        file = own.pick(_pool(self.pool))
        place = own.uniform(0, 1), own.uniform(0, 1)
        return (InjectedNoise(file, _patch(file)[0], *place),)


def inject(images: Tensor, operations: Sequence[InjectedNoise]) -> Tensor:
    """Add noise to each image of (N, 3, H, W); the result is clipped to [0, 1].

    A patch that is smaller than the image is continued by its mirror image.
    """
    result = torch.empty_like(images)
    for image, operation, target in zip(images, operations, result, strict=True):
        torch.add(image, _noise(operation, image), out=target)
    return result.clamp_(0, 1)


def _noise(operation: InjectedNoise, image: Tensor) -> Tensor:
    """Return noise like an image (3, H, W)."""
    digest, patch = _patch(operation.file)
    check_digest(operation.file, digest, operation.sha256)
    rows = _places(operation.top, patch.shape[1], image.shape[1])
    columns = _places(operation.left, patch.shape[2], image.shape[2])
    part = patch[:, rows[:, None], columns].to(image.device, image.dtype) / 255
    return part - part.mean((1, 2), keepdim=True)


def _places(share: float, side: int, count: int) -> Tensor:
    """Return `count` neighbouring places in a side of a patch, mirrored at its ends."""
    first = int(share * max(side - count + 1, 1))
    places = (first + torch.arange(count)) % (2 * side)
    return torch.minimum(places, 2 * side - 1 - places)


@lru_cache(maxsize=16)
def _pool(pool: Path) -> tuple[str, ...]:
    return files_of(pool, SUFFIXES, "patches of noise")


@lru_cache(maxsize=1024)
def _patch(file: str) -> tuple[str, Tensor]:
    """Return the SHA-256 and the pixels (3, H, W), uint8, of a patch."""
    try:
        pixels = read_rgb(Path(file))
    except UpscaleError as error:
        raise TrainingError(f"{error} (in a pool of noise)") from error
    return sha256_of(Path(file)), torch.from_numpy(pixels.copy()).permute(2, 0, 1)
