"""Arrays and tensors in temporary files, for data that does not fit into memory."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from upscale.engine.memory import MEMORY_SHARE, available_memory
from upscale.errors import OutputError


def mapped_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a tensor in a temporary file that is deleted with the tensor."""
    size = prod(shape) * dtype.itemsize
    return torch.from_numpy(mapped_array((size,), np.uint8)).view(dtype).view(shape)


def mapped_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array in a temporary file that is deleted with the array.

    Raises:
        OutputError: The disk is full.
    """
    folder = temporary_folder()
    with tempfile.TemporaryFile(prefix="upscale-", dir=folder) as file:
        try:
            _reserve(file.fileno(), prod(shape) * np.dtype(dtype).itemsize)
            return np.memmap(file, dtype=dtype, mode="w+", shape=shape)
        except OSError as error:
            raise OutputError(
                f"{folder}: no space for a temporary file ({error.strerror}); "
                "free some, or set TMPDIR to a larger disk"
            ) from error


def temporary_folder() -> str:
    """Return TMPDIR if set, else /var/tmp, because /tmp is often in memory."""
    if "TMPDIR" not in os.environ and Path("/var/tmp").is_dir():
        return "/var/tmp"
    return tempfile.gettempdir()


def _reserve(descriptor: int, size: int) -> None:
    """Reserve the blocks of a file: writing to a mapped hole on a full disk kills the process."""
    if hasattr(os, "posix_fallocate") and size:
        os.posix_fallocate(descriptor, 0, size)


def image_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an uninitialised image: in memory if it fits, else in a temporary file."""
    size = prod(shape) * np.dtype(dtype).itemsize
    if size <= available_memory(torch.device("cpu")) * MEMORY_SHARE:
        with suppress(MemoryError):
            return np.empty(shape, dtype)
    return mapped_array(shape, dtype)
