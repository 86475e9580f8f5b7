"""Compare an ONNX model with the network that it was made from."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from upscale.errors import CheckpointError
from upscale.models import Network

SIZES = ((24, 32), (37, 21))
"""Heights and widths of the compared images."""

TOLERANCE = 1e-3
HALF_TOLERANCE = 0.1
"""Largest difference in 0..1; that of fp16 is larger, because its sums are rounded."""


def largest_difference(model: bytes, network: Network[Any], *, half: bool = False) -> float | None:
    """Return the largest difference between ONNX Runtime and PyTorch.

    Images of two sizes are compared, of which one needs padding for a pixel-unshuffle.

    Args:
        model: Content of the ONNX file.
        network: Network on the CPU, in evaluation mode, in float32.
        half: Whether the model computes in fp16.

    Returns:
        The difference for images in 0..1; None if ONNX Runtime is not installed.

    Raises:
        CheckpointError: The difference is too large.
    """
    try:
        runtime: Any = importlib.import_module("onnxruntime")
    except ImportError:
        return None
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    dtype = np.float16 if half else np.float32
    random = np.random.default_rng(0)
    differences: list[float] = []
    for height, width in SIZES:
        image = random.random((1, network.spec.in_channels, height, width), np.float32)
        result = session.run(None, {"input": image.astype(dtype)})[0].astype(np.float32)
        differences.append(float(np.abs(result - _reference(network, image)).max()))
    largest = float(np.max(differences))  # NaN if one of them is
    if not largest <= (HALF_TOLERANCE if half else TOLERANCE):
        raise CheckpointError(
            f"ONNX Runtime differs from PyTorch by {largest:.3g}; nothing was written"
        )
    return largest


def _reference(network: Network[Any], image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return PyTorch's result for an image of any size, continued by reflection."""
    (height, width), side = image.shape[2:], network.unshuffle
    rows, columns = _reflected(height, side), _reflected(width, side)
    padded = torch.from_numpy(image[:, :, rows][:, :, :, columns])
    with torch.inference_mode():
        result = network(padded)
    return result[:, :, : height * network.scale, : width * network.scale].numpy()


def _reflected(length: int, side: int) -> NDArray[np.intp]:
    """Return the indices of an edge that is continued to a multiple of `side`."""
    indices = np.arange(length + -length % side)
    return np.maximum(np.minimum(indices, 2 * (length - 1) - indices), 0)
