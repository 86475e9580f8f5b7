"""Network interpolation: a weighted mean of two networks of the same shape.

Source: Wang et al., "Deep Network Interpolation for Continuous Imagery Effect Transition" (2019).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from upscale.errors import CheckpointError


def blend(a: Mapping[str, Tensor], b: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Return alpha * a + (1 - alpha) * b, computed in float32.

    Args:
        a: State dict of the network that alpha = 1 gives.
        b: State dict of the network that alpha = 0 gives.
        alpha: Weight of `a`, 0..1.

    Returns:
        float32 tensors for floating-point ones; others are taken from `a`.

    Raises:
        CheckpointError: the networks differ in a tensor's name or shape; it names the first.
    """
    for key in (*a, *b):
        if key not in a or key not in b:
            raise CheckpointError(f"the two networks cannot be blended: only one has {key}")
        if a[key].shape != b[key].shape:
            shapes = f"{tuple(a[key].shape)} and {tuple(b[key].shape)}"
            raise CheckpointError(f"the two networks cannot be blended: {key} is {shapes}")
    return {key: _mean(tensor, b[key], alpha) for key, tensor in a.items()}


def _mean(one: Tensor, other: Tensor, alpha: float) -> Tensor:
    if not one.is_floating_point():
        return one.clone()
    one, other = one.to(torch.float32), other.to(torch.float32)
    return one * alpha + other * (1 - alpha)  # exact at both ends, which lerp is not
