"""RetinaFace as a detector: images of several sizes in, faces out."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from upscale.engine.device import computing_on, pick_device
from upscale.engine.memory import release_cached_memory
from upscale.faces.boxes import best_boxes
from upscale.faces.face import Face
from upscale.models.faces.retinaface import anchors
from upscale.tiling.recovery import with_less_memory

THRESHOLD = 0.97
"""Lowest score of a face, as GFPGAN uses it."""

_MEAN = (104, 117, 123)
"""Mean colour of the training images, BGR."""

_SHIFT, _GROWTH = 0.1, 0.2
"""Units of the predictions: parts of the side of an anchor, and natural logarithms."""

_OVERLAP = 0.4
"""Largest overlap of two faces, as a part of their union."""

_LARGEST = 1024
"""Longest side of an image in which the largest anchors fit the largest faces."""

_SMALLEST = 20
"""Side in pixels that a face needs."""

_MOST_PIXELS = 12_000_000
"""Most pixels that pass through the network at once, to save memory."""

_Found = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Boxes (N, 4), scores (N,) and landmarks (N, 5, 2)."""


class RetinaFaceDetector:
    """Find faces with RetinaFace; one thread at a time.

    The largest anchor has 512 pixels, so images are searched again at half their size, and so on.

    Args:
        network: Result of `load_face_detector`.
        device: Device as for `Upscaler`.
        minimum: Smallest side of a face in pixels.
        threshold: Lowest score of a face, 0..1.

    Raises:
        UsageError: The device is invalid.
        DeviceError: The device is not available.
    """

    def __init__(
        self,
        network: nn.Module,
        device: str = "auto",
        minimum: int = _SMALLEST,
        threshold: float = THRESHOLD,
    ) -> None:
        self._device = pick_device(device)
        self._network = network.to(self._device)
        self._minimum, self._threshold = minimum, threshold

    def detect(self, pixels: NDArray[np.uint8]) -> list[Face]:
        """Return the faces in an RGB image of shape (H, W, 3), those with the best score first.

        Raises:
            MemoryExhaustedError: The device has not enough memory.
        """
        found = [self._found(pixels, scale) for scale in _scales(pixels.shape, self._minimum)]
        boxes, scores, landmarks = (np.concatenate(each) for each in zip(*found, strict=True))
        faces: list[Face] = []
        for number in best_boxes(boxes, scores, _OVERLAP):
            left, top, right, bottom = boxes[number].tolist()
            score = float(scores[number])
            faces.append(Face((left, top, right, bottom), landmarks[number], score))
        return [face for face in faces if face.side >= self._minimum]

    def _found(self, pixels: NDArray[np.uint8], scale: float) -> _Found:
        """Return what is found in one size of the image, in pixels of the image."""
        height, width = (max(round(side * scale), 1) for side in pixels.shape[:2])
        small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        image = np.asarray(small, np.uint8) if scale < 1 else pixels
        boxes, scores, landmarks = with_less_memory(
            lambda: self._predicted(image), release_cached_memory
        )
        ratio = np.array([pixels.shape[1] / width, pixels.shape[0] / height])
        # Edges of the image stay at 0 and W, and the middle of the first pixel stays at 0.
        return boxes * np.hstack([ratio, ratio]), scores, landmarks * ratio + (ratio - 1) / 2

    def _predicted(self, pixels: NDArray[np.uint8]) -> _Found:
        with computing_on(self._device):
            planes = torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1])).to(self._device)
            mean = torch.tensor(_MEAN, dtype=torch.float32, device=self._device)
            images = (planes.float() - mean).permute(2, 0, 1)[None].contiguous()
            shifts, scores, points = (each[0] for each in self._network(images))
            sure = scores > self._threshold
            around = anchors(*pixels.shape[:2]).to(self._device)[sure]
            boxes = _boxes(around, shifts[sure])
            landmarks = _landmarks(around, points[sure])
            values = [each.double().cpu().numpy() for each in (boxes, scores[sure], landmarks)]
        return values[0], values[1], values[2]


def _boxes(around: Tensor, shifts: Tensor) -> Tensor:
    """Return boxes (N, 4) from anchors (N, 3) and predictions (N, 4)."""
    middles = around[:, :2] + shifts[:, :2] * _SHIFT * around[:, 2:]
    sides = around[:, 2:] * (shifts[:, 2:] * _GROWTH).exp()
    return torch.cat([middles - sides / 2, middles + sides / 2], 1)


def _landmarks(around: Tensor, shifts: Tensor) -> Tensor:
    """Return landmarks (N, 5, 2) from anchors (N, 3) and predictions (N, 10)."""
    middles, sides = around[:, None, :2], around[:, None, 2:]
    return middles + shifts.reshape(-1, 5, 2) * _SHIFT * sides


def _scales(shape: tuple[int, ...], minimum: int) -> Iterator[float]:
    """Yield the sizes in which an image is searched, from large to small."""
    scale = 1.0
    while shape[0] * shape[1] * scale**2 > _MOST_PIXELS or minimum * scale >= 2 * _SMALLEST:
        scale /= 2
    yield scale
    while max(shape[:2]) * scale > _LARGEST:
        scale /= 2
        yield scale
