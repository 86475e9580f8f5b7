"""Single precision for degradations, whatever precision the networks compute in."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def as_single(images: Tensor) -> Tensor:
    """Return images in [0, 1] as float32.

    Raises:
        ValueError: The images are not floats, so they hold levels.
    """
    if not images.is_floating_point():
        raise ValueError(f"images are floats in [0, 1], not {images.dtype}")
    return images.float()


@contextmanager
def full_precision(device: torch.device) -> Generator[None]:
    """Disable autocast and TF32: a small error can change a rounding, which JPEG amplifies."""
    backends: list[Any] = [
        torch.backends.cuda.matmul,
        torch.backends.mkldnn.matmul,  # pyright: ignore[reportAttributeAccessIssue]
    ]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
