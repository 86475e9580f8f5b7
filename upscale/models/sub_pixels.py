"""Move the convolution before a pixel-shuffle to another scale."""

from __future__ import annotations

import torch
from torch import Tensor

from upscale.models.registry import State


def rescale_last(state: State, last: str, channels: int, old: int, new: int) -> State:
    """Return the weights of a network for another scale, which only its last convolution has.

    Args:
        state: Weights of the network.
        last: Start of the names of the convolution before the pixel-shuffle.
        channels: Channels of the output image.
        old: Scale of the weights.
        new: Scale of the result.

    Example:
        >>> state = {"first.bias": torch.zeros(2), "last.bias": torch.tensor([1.0, 2.0, 3.0, 4.0])}
        >>> rescale_last(state, "last.", 1, 2, 1)["last.bias"]
        tensor([2.5000])
    """
    return {
        name: resample_sub_pixels(tensor, channels, old, new) if name.startswith(last) else tensor
        for name, tensor in state.items()
    }


def resample_sub_pixels(tensor: Tensor, channels: int, old: int, new: int) -> Tensor:
    """Return a weight or a bias for another number of sub-pixels per pixel.

    The new network initially gives the old result, resampled by the areas of the pixels: sub-pixels
    are repeated for a multiple of the scale, and averaged for a fraction.

    Args:
        tensor: Weight (channels * old**2, ...) or bias.
        channels: Channels of the output image.
        old: Scale of the tensor.
        new: Scale of the result.

    Example:
        >>> resample_sub_pixels(torch.tensor([1.0, 2.0, 3.0, 4.0]), 1, 2, 1)
        tensor([2.5000])
    """
    rest = tensor.shape[1:]
    areas = _areas(old, new).to(tensor.dtype)
    parts = tensor.reshape(channels, old, old, -1)
    return torch.einsum("ar,bs,crsk->cabk", areas, areas, parts).reshape(-1, *rest)


def _areas(old: int, new: int) -> Tensor:
    """Return the share (new, old) of each old sub-pixel in the area of each new one."""
    edges = torch.arange(new)[:, None] * old
    others = torch.arange(old)[None] * new
    overlaps = torch.minimum(edges + old, others + new) - torch.maximum(edges, others)
    return overlaps.clamp(min=0) / old
