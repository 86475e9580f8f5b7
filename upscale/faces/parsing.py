"""Parsing: a mask along the outline of a restored face, in place of the soft square."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from upscale.engine.device import computing_on, pick_device
from upscale.engine.memory import release_cached_memory
from upscale.tiling.recovery import with_less_memory

_OUTSIDE = (0, 14, 16, 17, 18)
"""Labels that do not belong to the mask: background, hat, necklace, neck and clothes."""

_BLUR, _SIGMA, _ROUNDS = 101, 11, 2
"""Side of the Gaussian kernel, its standard deviation, and how often it is applied."""

_RIM = 10
"""Pixels along the border of the aligned face that are left as they are."""


class Parser(Protocol):
    """Finds the outline of an aligned face."""

    def mask(self, face: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mask of an RGB face in 0..1, shape (512, 512, 3): (512, 512) in 0..1."""
        ...


class NetworkParser:
    """ParseNet on a device, with the mask of facexlib.

    Args:
        network: Result of `load_face_parser`.
        device: Device as for `Upscaler`.

    Raises:
        UsageError: The device is invalid.
        DeviceError: The device is not available.
    """

    def __init__(self, network: nn.Module, device: str = "auto") -> None:
        self._device = pick_device(device)
        self._network = network.to(self._device)

    def mask(self, face: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mask of an RGB face in 0..1, shape (512, 512, 3): (512, 512) in 0..1.

        Raises:
            MemoryExhaustedError: The device has not enough memory.
        """
        labels = with_less_memory(lambda: self._labels(face), release_cached_memory)
        return soft_mask(labels)

    def _labels(self, face: NDArray[np.float32]) -> NDArray[np.int64]:
        with computing_on(self._device):
            planes = np.ascontiguousarray(face.transpose(2, 0, 1)[None])
            source = torch.from_numpy(planes).to(self._device, torch.float32) * 2 - 1
            return self._network(source)[0].argmax(0).cpu().numpy()


def soft_mask(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the blurred mask of a face.

    Args:
        labels: Label of each pixel, shape (H, W).

    Returns:
        Array of shape (H, W) in 0..1, which is 0 along its border.
    """
    mask = np.isin(labels, _OUTSIDE, invert=True).astype(np.float32)
    for _ in range(_ROUNDS):
        mask = cv2.GaussianBlur(mask, (_BLUR, _BLUR), _SIGMA)
    result = np.zeros(labels.shape, np.float32)
    inner = slice(_RIM, -_RIM)
    result[inner, inner] = np.asarray(mask, np.float32)[inner, inner]
    return result
