"""The output size, and the resize from the network's scale to it."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from upscale.engine.canvas import DEPTHS
from upscale.engine.memory import release_cached_memory
from upscale.engine.temporary import image_array
from upscale.errors import UsageError
from upscale.tiling.recovery import with_less_memory
from upscale.tiling.wrapping import NO_WRAP, Wrap

LOBES = 3
"""Lobes of the Lanczos filter on each side."""

BLOCK = 256
"""Output samples of an axis that are filtered by one matrix product."""


def output_size(
    width: int, height: int, scale: float, size: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Return the output size of an image.

    Args:
        width: Width of the image.
        height: Height of the image.
        scale: Ratio of output to input size; the result is at least one pixel.
        size: Output size as (width, height), instead of `scale`.

    Returns:
        Output size as (width, height).

    Raises:
        UsageError: The size or scale is not positive.
    """
    if size is not None:
        if min(size) < 1:
            raise UsageError(f"a size of {size[0]}x{size[1]} is impossible: use positive numbers")
        return size
    if not scale > 0 or scale == float("inf"):
        raise UsageError(f"a scale of {scale} is impossible: use a positive number")
    return max(round(width * scale), 1), max(round(height * scale), 1)


def resize(image: NDArray[Any], width: int, height: int, wrap: Wrap = NO_WRAP) -> NDArray[Any]:
    """Resize an (H, W, C) image with an antialiased Lanczos filter (three lobes), in fp32.

    Each channel is filtered separately and rounded once, so that any type keeps its precision.

    Args:
        image: Image of shape (H, W, C), uint8, uint16 or float32.
        width: Width of the result.
        height: Height of the result.
        wrap: Directions in which the image repeats.
    """
    result = image_array((height, width, image.shape[2]), image.dtype)
    for channel in range(image.shape[2]):
        with_less_memory(
            partial(_resize_channel, image[:, :, channel], result[:, :, channel], wrap),
            release_cached_memory,
        )
    return result


def _resize_channel(samples: NDArray[Any], result: NDArray[Any], wrap: Wrap) -> None:
    """Resize an (H, W) array to the size of `result`, and write it there."""
    (height, width), (rows, columns) = samples.shape, result.shape
    down = _reach(height, rows) if wrap.rows else 0
    across = _reach(width, columns) if wrap.columns else 0
    highest = DEPTHS[samples.dtype]
    samples = samples.astype(np.float32)
    if down or across:
        samples = np.pad(samples, ((down, down), (across, across)), mode="wrap")
    box = (across, down, across + width, down + height)
    # Pillow's filter also reads the samples around the box.
    plane = Image.fromarray(samples, mode="F")
    resized = np.asarray(plane.resize((columns, rows), Image.Resampling.LANCZOS, box))
    if result.dtype == np.float32:
        result[...] = resized
    else:
        result[...] = np.clip(np.rint(resized), 0, highest)


def description(model_scale: int, width: int, height: int) -> str:
    """Return the text for reports about a resize from a model's scale to a size."""
    return f"x{model_scale} to {width}x{height}, Lanczos"


def _reach(length: int, target: int) -> int:
    """Return the samples beyond its end that the filter of an axis reads, at most."""
    return int(LOBES * max(length / target, 1)) + 1


def resize_tensor(image: Tensor, width: int, height: int) -> Tensor:
    """Resize a (1, C, H, W) float32 tensor on its device with the filter of `resize`.

    Values are not clamped. Results differ from `resize` only by the order of sums, by at most
    5e-7 (measured).
    """
    return with_less_memory(
        lambda: _resize_axis(_resize_axis(image, 3, width), 2, height), release_cached_memory
    )


def _resize_axis(image: Tensor, axis: int, length: int) -> Tensor:
    """Resize one axis with one product with a narrow matrix per block of samples."""
    if image.shape[axis] == length:
        return image
    parts: list[Tensor] = []
    for first, weights in _weights(image.shape[axis], length, image.device):
        source = image.narrow(axis, first, weights.shape[1])
        parts.append(source @ weights.T if axis == 3 else weights @ source)
    return torch.cat(parts, axis)


@lru_cache(maxsize=8)  # all frames of a video need the same weights
def _weights(length: int, target: int, device: torch.device) -> list[tuple[int, Tensor]]:
    """Return the filter weights that resize an axis of `length` samples to `target`.

    Returns:
        For each block of output samples, the first input sample and a float32 matrix on the
        device, (output samples, input samples).
    """
    ratio = length / target
    stretch = max(ratio, 1.0)
    reach = LOBES * stretch
    centres = (torch.arange(target, dtype=torch.float64) + 0.5) * ratio
    blocks: list[tuple[int, Tensor]] = []
    for part in centres.split(BLOCK):
        first = max(int(part[0] - reach), 0)
        samples = torch.arange(first, min(int(part[-1] + reach) + 1, length)) + 0.5
        distance = (samples - part[:, None]) / stretch
        weights = torch.sinc(distance) * torch.sinc(distance / LOBES) * (distance.abs() < LOBES)
        weights /= weights.sum(1, keepdim=True)
        blocks.append((first, weights.float().to(device)))
    return blocks
