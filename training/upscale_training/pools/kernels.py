"""The kernel pool (RealSR, algorithm 1): blur with a kernel that was estimated from a photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from upscale.errors import TrainingError, UsageError
from upscale.files.hashing import sha256_of
from upscale.files.printable import printable
from upscale_training.degradation.filters import filter_each, stack
from upscale_training.degradation.operations import Operation
from upscale_training.degradation.randomness import Randomness
from upscale_training.degradation.steps import ResizeStep, Step
from upscale_training.kernel_files import SUFFIXES, Kernel, aligned, read_kernels
from upscale_training.path_settings import FilePath
from upscale_training.pools.files import Sha256, check_digest, files_of, label_of
from upscale_training.schema import settings


@settings
class PoolKernel(Operation):
    """A filter with one kernel of a file.

    Attributes:
        file: Path of the file.
        index: Number of the kernel in the file, from 0.
        sha256: SHA-256 of the file.
        scale: Scale of the kernel, which the image is divided by afterwards.
    """

    do: ClassVar[str] = "kernel"
    file: str
    index: NonNegativeInt
    sha256: Sha256
    scale: PositiveInt

    def __str__(self) -> str:
        number = f" {self.index}" if self.index else ""
        return f"kernel {label_of(self.file)}{number}"


@settings
class KernelStep(Step):
    """Blur with a kernel of a pool (RealSR, algorithm 1).

    The next step must be a `resize` of kind `nearest` to the size of the result, which keeps one
    pixel of each square. Kernels are moved so that LR images are aligned with their ground truth.

    Attributes:
        do: Selects this step.
        pool: Folder of kernels (.npy, .npz, .mat, .png), or a single file; all kernels are equally
            likely. They must have been made for the scale of the network.
    """

    do: Literal["kernel"] = field(default="kernel", kw_only=True, repr=False)
    pool: FilePath

    def check_following(self, steps: Sequence[Step]) -> None:
        """Check that one pixel of each square is kept next."""
        following = steps[0] if steps else None
        if not isinstance(following, ResizeStep) or not (
            following.of == "result" and following.kinds == ("nearest",)
        ):
            raise UsageError(
                "the step kernel must be followed by {do: resize, up: 0, down: 0, keep: 1, "
                "of: result, kinds: [nearest]}, which keeps one pixel of each square"
            )

    def prepare(self) -> None:
        """Read the pool."""
        _pool(self.pool)

    def sample(self, own: Randomness, shared: Randomness, scale: int) -> tuple[Operation, ...]:
        """Sample one kernel."""
        file, index = own.pick(_pool(self.pool))
        return (PoolKernel(file, index, _file(file)[0], scale),)


def filter_images(images: Tensor, operations: Sequence[PoolKernel]) -> Tensor:
    """Correlate each image of (N, C, H, W) with its own kernel."""
    kernels = stack([_kernel(each) for each in operations])
    return filter_each(images, kernels.to(images.device, images.dtype))


@lru_cache(maxsize=16)
def _pool(pool: Path) -> tuple[tuple[str, int], ...]:
    """Return the file and the index of each kernel."""
    files = files_of(pool, SUFFIXES, "kernels")
    return tuple((file, index) for file in files for index in range(len(_file(file)[1])))


@lru_cache(maxsize=8192)
def _file(file: str) -> tuple[str, tuple[Kernel, ...]]:
    """Return the SHA-256 and the kernels of a file."""
    kernels = read_kernels(Path(file))
    return sha256_of(Path(file)), kernels


@lru_cache(maxsize=8192)
def _kernel(operation: PoolKernel) -> Tensor:
    """Return the kernel (T, T), float64, for an image of which `nearest` keeps every S-th pixel.

    Of the pixels 0 to S - 1, `nearest` keeps S // 2, but their centre is at (S - 1) / 2.
    """
    digest, kernels = _file(operation.file)
    check_digest(operation.file, digest, operation.sha256)
    if operation.index >= len(kernels):
        raise TrainingError(
            f"{printable(Path(operation.file))}: has {len(kernels)} kernels, so there is no kernel "
            f"{operation.index}; they count from 0"
        )
    distance = (operation.scale - 1) / 2 - operation.scale // 2
    return torch.from_numpy(aligned(kernels[operation.index], distance))
