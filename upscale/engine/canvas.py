"""Between arrays of a picture's own depth and tensors in [0, 1]: the numpy-tensor border."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from upscale.errors import CheckpointError, UsageError
from upscale.tiling.grid import Rect

DEPTHS: dict[np.dtype[Any], int] = {
    np.dtype(np.uint8): 255,
    np.dtype(np.uint16): 65535,
    np.dtype(np.float32): 1,
}
"""The value that stands for 1.0 in each depth."""

WRITES_IN_FLIGHT = 2


def as_picture(array: NDArray[Any]) -> NDArray[Any]:
    """View an array as (H, W, C) after checking its shape and depth.

    Raises:
        UsageError: it is no uint8, uint16 or float32 picture with 1 or 3 channels.
    """
    picture = array[:, :, None] if array.ndim == 2 else array
    if picture.ndim != 3 or picture.shape[2] not in {1, 3} or picture.size == 0:
        raise UsageError(f"an array of shape {array.shape} is no (H, W), (H, W, 1) or (H, W, 3)")
    if picture.dtype not in DEPTHS:
        raise UsageError(f"an array of {array.dtype} is no picture: use uint8, uint16 or float32")
    if picture.dtype == np.float32 and not np.isfinite(picture).all():
        raise UsageError("the picture holds values that are not finite")
    return picture


class ArrayCanvas:
    """Reads tiles of one array and writes their results to another.

    Args:
        source: (H, W, C), C = 1 or 3.
        target: (H * scale, W * scale, C) of the source's depth, or of float32 for sums.
        device: where tiles are computed.
        dtype: in which precision.
        scale: output pixels per source pixel and axis.
        channels: what the network reads and writes; grey is copied to all of them and averaged
            back, so that it cannot gain colour.
        unshuffle: source pixels per plane pixel and axis. Sides that it does not divide are
            extended by reflection, and the extension is cut off again.
        weight: add `weight` times each tile to the target, unclamped, instead of replacing.
    """

    def __init__(
        self,
        source: NDArray[Any],
        target: NDArray[Any],
        *,
        device: torch.device,
        dtype: torch.dtype,
        scale: int,
        channels: int = 3,
        unshuffle: int = 1,
        weight: float | None = None,
    ) -> None:
        self._source = source
        self._target = target
        self._device = device
        self._dtype = dtype
        self._scale = scale
        self._channels = channels
        self._unshuffle = unshuffle
        self._weight = weight
        self._in_flight: deque[tuple[Rect, Tensor, torch.cuda.Event]] = deque()

    @property
    def height(self) -> int:
        """Rows of a plane."""
        return -(-self._source.shape[0] // self._unshuffle)

    @property
    def width(self) -> int:
        """Columns of a plane."""
        return -(-self._source.shape[1] // self._unshuffle)

    def read(self, rect: Rect) -> Tensor:
        """The source under `rect`: (1, channels * unshuffle**2, h, w) in [0, 1]."""
        rows, columns = (
            _reflected(start * self._unshuffle, stop * self._unshuffle, length)
            for start, stop, length in (
                (rect.top, rect.bottom, self._source.shape[0]),
                (rect.left, rect.right, self._source.shape[1]),
            )
        )
        pixels = np.ascontiguousarray(self._source[rows][:, columns])
        tile = self._upload(
            torch.from_numpy(pixels.astype(_tensor_depth(pixels.dtype), copy=False))
        )
        tile = (tile.float() / DEPTHS[self._source.dtype]).clamp_(0, 1).permute(2, 0, 1)[None]
        tile = tile.expand(-1, self._channels, -1, -1).to(self._dtype)
        if self._unshuffle > 1:
            tile = F.pixel_unshuffle(tile, self._unshuffle)
        return tile.contiguous(memory_format=torch.channels_last)

    def write(self, rect: Rect, tile: Tensor) -> None:
        """Put a (1, channels, h * scale, w * scale) result in its place, in the target's depth.

        Raises:
            CheckpointError: an fp32 result is not finite (half precision is the caller's care).
        """
        if self._dtype == torch.float32 and not bool(torch.isfinite(tile).all()):
            raise CheckpointError(
                "the network's output is not finite even in fp32: its checkpoint is damaged"
            )
        place = rect.times(self._unshuffle * self._scale)
        bottom, right = (
            min(place.bottom, len(self._target)),
            min(place.right, self._target.shape[1]),
        )
        place = Rect(place.top, bottom, place.left, right)
        pixels = tile[0, :, : place.height, : place.width].float()
        if self._target.shape[2] == 1:
            pixels = pixels.mean(0, keepdim=True)
        pixels = self._encode(pixels).permute(1, 2, 0)
        if self._device.type != "cuda":
            self._store(place, pixels.cpu())
            return
        self._download(place, pixels)

    def flush(self) -> None:
        """Wait for results that are still on their way from the device."""
        while self._in_flight:
            self._land()

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


def _reflected(start: int, stop: int, length: int) -> slice | NDArray[np.intp]:
    """Indices [start, stop) of an axis that is reflected at its far end."""
    if stop <= length:
        return slice(start, stop)
    indices = np.arange(start, stop)
    return np.maximum(np.where(indices < length, indices, 2 * (length - 1) - indices), 0)


def _tensor_depth(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A type that torch computes with on every device: uint16 it only stores."""
    return np.dtype(np.int32) if dtype == np.uint16 else dtype
