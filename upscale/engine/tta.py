"""Test-time augmentation: the average over the eight flips and quarter turns of an image.

Source: Timofte et al., "Seven ways to improve example-based single image super resolution" (2016),
section 3.5 (enhanced prediction, later called self-ensemble).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale.engine.memory import release_cached_memory
from upscale.tiling.recovery import with_less_memory

TRANSFORMS = 8


def transformed(
    source: NDArray[Any], target: NDArray[Any]
) -> Iterator[tuple[NDArray[Any], NDArray[Any], bool]]:
    """Yield eight transformed views of both arrays, and whether rows have become columns.

    Writing to the second array undoes the transform.
    """
    for turns in range(4):
        for flip in (False, True):
            views = [np.rot90(array, turns) for array in (source, target)]
            views = [view[:, ::-1] for view in views] if flip else views
            yield views[0], views[1], turns % 2 == 1


def tensor_transforms() -> Iterator[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]:
    """Yield eight pairs of functions on (N, C, H, W) tensors: a transform and its inverse."""
    for turns in range(4):
        for axes in ((), (3,)):
            yield (
                lambda image, turns=turns, axes=axes: torch.rot90(image, turns, (2, 3)).flip(axes),
                lambda image, turns=turns, axes=axes: torch.rot90(image.flip(axes), -turns, (2, 3)),
            )


def average_to(total: NDArray[np.float32], image: NDArray[Any], highest: int) -> None:
    """Convert a mean in 0..1 to the type of `image`, one row at a time to save memory."""

    def convert() -> None:
        for row, target in zip(total, image, strict=True):
            levels = np.clip(row, 0, 1) * highest
            target[...] = np.rint(levels) if image.dtype != np.float32 else levels

    with_less_memory(convert, release_cached_memory)
