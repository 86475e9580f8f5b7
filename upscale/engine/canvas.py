"""Between an image and the tiles of it that are computed.

An image is an array of its own depth in the host's memory, or a tensor in [0, 1] that lies on the
computing device, or elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from upscale.errors import CheckpointError, UsageError
from upscale.tiling.grid import Rect
from upscale.tiling.interfaces import PrecisionLossError

DEPTHS: dict[np.dtype[Any], int] = {
    np.dtype(np.uint8): 255,
    np.dtype(np.uint16): 65535,
    np.dtype(np.float32): 1,
}
"""The value that stands for 1.0 in each depth."""

WRITES_IN_FLIGHT = 2


IMAGE_CHANNELS = frozenset({1, 3})


def as_image(array: NDArray[Any]) -> NDArray[Any]:
    """View an array as (H, W, C) after checking its shape and depth.

    Raises:
        UsageError: it is no uint8, uint16 or float32 image with 1 or 3 channels.
    """
    image = array[:, :, None] if array.ndim == 2 else array
    if image.ndim != 3 or image.shape[2] not in IMAGE_CHANNELS or image.size == 0:
        raise UsageError(f"an array of shape {array.shape} is no (H, W), (H, W, 1) or (H, W, 3)")
    if image.dtype not in DEPTHS:
        raise UsageError(f"an array of {array.dtype} is no image: use uint8, uint16 or float32")
    if image.dtype == np.float32 and not np.isfinite(image).all():
        raise UsageError("the image holds values that are not finite")
    return image


@dataclass(frozen=True, slots=True)
class Computing:
    """How tiles are computed.

    Attributes:
        device: where.
        dtype: in which precision.
        scale: output pixels per source pixel and axis.
        channels: what the network reads and writes; grey is copied to all of them and averaged
            back, so that it cannot gain colour.
        unshuffle: source pixels per plane pixel and axis. Sides that it does not divide are
            extended by reflection, and the extension is cut off again.
    """

    device: torch.device
    dtype: torch.dtype
    scale: int
    channels: int = 3
    unshuffle: int = 1


class ImageCanvas(ABC):
    """What canvases share: where tiles lie in an image, and what networks take and give.

    Args:
        height: rows of the image that is read.
        width: its columns.
        computing: how tiles are computed.
    """

    def __init__(self, height: int, width: int, computing: Computing) -> None:
        self._size = height, width
        self._computing = computing
        self._finite: Tensor | None = None

    @property
    def height(self) -> int:
        """Rows of a plane."""
        return -(-self._size[0] // self._computing.unshuffle)

    @property
    def width(self) -> int:
        """Columns of a plane."""
        return -(-self._size[1] // self._computing.unshuffle)

    @abstractmethod
    def read(self, rect: Rect) -> Tensor:
        """The source under `rect`: (1, channels * unshuffle**2, h, w) in [0, 1]."""

    @abstractmethod
    def write(self, rect: Rect, tile: Tensor) -> None:
        """Put a (1, channels, h * scale, w * scale) result in its place."""

    def finish(self) -> None:
        """Wait for what is under way, and see whether all results were finite.

        They are looked at here because a GPU that is asked about each tile has to wait for it. No
        later layer makes a value finite again, so that results tell about all that lies before.

        Raises:
            CheckpointError: an fp32 result was not.
            PrecisionLossError: a half-precision result was not.
        """
        if self._finite is None or bool(self._finite):
            return
        if self._computing.dtype != torch.float32:
            raise PrecisionLossError(f"results exceed {self._computing.dtype}")
        raise CheckpointError(
            "the network's output is not finite even in fp32: its checkpoint is damaged"
        )

    def _under(self, rect: Rect) -> tuple[slice | NDArray[np.intp], slice | NDArray[np.intp]]:
        """The rows and the columns of the image under a part of a plane."""
        side, (height, width) = self._computing.unshuffle, self._size
        rows = _reflected(rect.top * side, rect.bottom * side, height)
        return rows, _reflected(rect.left * side, rect.right * side, width)

    def _as_input(self, tile: Tensor) -> Tensor:
        """(1, C, h, w) on the computing device, as the network takes it."""
        computing = self._computing
        tile = tile.expand(-1, computing.channels, -1, -1).to(computing.dtype)
        if computing.unshuffle > 1:
            tile = F.pixel_unshuffle(tile, computing.unshuffle)
        return tile.contiguous(memory_format=torch.channels_last)

    def _as_output(self, rect: Rect, tile: Tensor, channels: int) -> tuple[Rect, Tensor]:
        """Where in the target a result belongs, and it: (channels, h, w) float32."""
        computing = self._computing
        # A sum is finite if all is, and takes one pass instead of the five of `isfinite` and `all`.
        finite = torch.isfinite(tile.sum(dtype=torch.float32))
        self._finite = finite if self._finite is None else self._finite & finite
        height, width = (side * computing.scale for side in self._size)
        place = rect.times(computing.unshuffle * computing.scale).clip(height, width)
        pixels = tile[0, :, : place.height, : place.width].float()
        return place, pixels.mean(0, keepdim=True) if channels == 1 else pixels


class ArrayCanvas(ImageCanvas):
    """Reads tiles of one array and writes their results to another.

    Args:
        source: (H, W, C), C = 1 or 3.
        target: (H * scale, W * scale, C) of the source's depth, or of float32 for sums.
        computing: how tiles are computed.
        weight: add `weight` times each tile to the target, unclamped, instead of replacing.
    """

    def __init__(
        self,
        source: NDArray[Any],
        target: NDArray[Any],
        computing: Computing,
        weight: float | None = None,
    ) -> None:
        super().__init__(source.shape[0], source.shape[1], computing)
        self._source = source
        self._target = target
        self._device = computing.device
        self._weight = weight
        self._in_flight: deque[tuple[Rect, Tensor, torch.cuda.Event]] = deque()

    def read(self, rect: Rect) -> Tensor:
        """The source under `rect`: (1, channels * unshuffle**2, h, w) in [0, 1]."""
        rows, columns = self._under(rect)
        pixels = np.ascontiguousarray(self._source[rows][:, columns])
        tile = self._upload(
            torch.from_numpy(pixels.astype(_tensor_depth(pixels.dtype), copy=False))
        )
        tile = (tile.float() / DEPTHS[self._source.dtype]).clamp_(0, 1)
        return self._as_input(tile.permute(2, 0, 1)[None])

    def write(self, rect: Rect, tile: Tensor) -> None:
        """Put a (1, channels, h * scale, w * scale) result in its place, in the target's depth."""
        place, pixels = self._as_output(rect, tile, self._target.shape[2])
        pixels = self._encode(pixels).permute(1, 2, 0)
        if self._device.type != "cuda":
            self._store(place, pixels.cpu())
            return
        self._download(place, pixels)

    def finish(self) -> None:
        """Wait for results that are still on their way from the device; see `ImageCanvas`."""
        while self._in_flight:
            self._land()
        super().finish()

    def _encode(self, pixels: Tensor) -> Tensor:
        if self._weight is not None:
            return pixels * self._weight
        pixels = pixels.clamp_(0, 1)
        if self._target.dtype == np.float32:
            return pixels
        levels = (pixels * DEPTHS[self._target.dtype]).round_()
        return levels.to(torch.uint8 if self._target.dtype == np.uint8 else torch.int32)

    def _upload(self, tile: Tensor) -> Tensor:
        if self._device.type == "cuda":
            tile = tile.pin_memory()
        return tile.to(self._device, non_blocking=True)

    def _download(self, place: Rect, pixels: Tensor) -> None:
        """Copy asynchronously; the tile after next finds the copy finished."""
        host = torch.empty(pixels.shape, dtype=pixels.dtype, pin_memory=True)
        host.copy_(pixels, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._in_flight.append((place, host, event))
        if len(self._in_flight) > WRITES_IN_FLIGHT:
            self._land()

    def _land(self) -> None:
        place, host, event = self._in_flight.popleft()
        event.synchronize()
        self._store(place, host)

    def _store(self, place: Rect, pixels: Tensor) -> None:
        target = self._target[place.top : place.bottom, place.left : place.right]
        if self._weight is None:
            target[...] = pixels.numpy()
        else:
            target += pixels.numpy()


class TensorCanvas(ImageCanvas):
    """Reads tiles of one tensor and writes their results to another, wherever the two lie.

    Args:
        source: (1, C, H, W) float32 in [0, 1], C = 1 or 3.
        target: (1, C, H * scale, W * scale) float32; values are not clamped.
        computing: how tiles are computed.
    """

    def __init__(self, source: Tensor, target: Tensor, computing: Computing) -> None:
        super().__init__(source.shape[2], source.shape[3], computing)
        self._source = source
        self._target = target

    def read(self, rect: Rect) -> Tensor:
        """The source under `rect`: (1, channels * unshuffle**2, h, w) in [0, 1]."""
        rows, columns = self._under(rect)
        return self._as_input(self._source[:, :, rows][..., columns].to(self._computing.device))

    def write(self, rect: Rect, tile: Tensor) -> None:
        """Put a (1, channels, h * scale, w * scale) result in its place."""
        place, pixels = self._as_output(rect, tile, self._target.shape[1])
        self._target[0, :, place.top : place.bottom, place.left : place.right] = pixels


def _reflected(start: int, stop: int, length: int) -> slice | NDArray[np.intp]:
    """Indices [start, stop) of an axis that is reflected at its far end."""
    if stop <= length:
        return slice(start, stop)
    indices = np.arange(start, stop)
    return np.maximum(np.where(indices < length, indices, 2 * (length - 1) - indices), 0)


def _tensor_depth(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A type that torch computes with on every device: uint16 it only stores."""
    return np.dtype(np.int32) if dtype == np.uint16 else dtype
