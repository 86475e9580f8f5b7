"""Network interpolation: the weighted mean of two networks of the same architecture.

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
        a: State dict of the first network, the result for alpha = 1.
        b: State dict of the second network, the result for alpha = 0.
        alpha: Weight of `a`, 0..1.

    Returns:
        Blended tensors in float32; integer tensors are taken from `a`.

    Raises:
        CheckpointError: The networks differ in the name or shape of a tensor, or a value of the
            result is not finite.
    """
    for key in (*a, *b):
        if key not in a or key not in b:
            raise CheckpointError(f"the two networks cannot be blended: only one has {key}")
        if a[key].shape != b[key].shape:
            shapes = f"{tuple(a[key].shape)} and {tuple(b[key].shape)}"
            raise CheckpointError(f"the two networks cannot be blended: {key} is {shapes}")
    blended = {key: _mean(tensor, b[key], alpha) for key, tensor in a.items()}
    _check_finite(blended, "float32")
    return blended


def to_half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with all floats in fp16.

    Raises:
        CheckpointError: A value exceeds the range of fp16, whose largest number is 65504.
    """
    half = {
        key: tensor.half() if tensor.is_floating_point() else tensor
        for key, tensor in state.items()
    }
    _check_finite(half, "fp16; leave out --half")
    return half


def _check_finite(state: Mapping[str, Tensor], kind: str) -> None:
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{key[:60]} has values beyond the range of {kind}")


def _mean(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    if not a.is_floating_point():
        return a.clone()
    a, b = a.to(torch.float32), b.to(torch.float32)
    return a * alpha + b * (1 - alpha)  # exact for alpha = 0 and 1, unlike lerp
