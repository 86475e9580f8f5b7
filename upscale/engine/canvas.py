"""Canvases: the images that the tile engine reads from and writes to.

An image is an array of any depth in host memory, or a tensor in 0..1 on any device.
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

from upscale.engine.pinned import PinnedMemory
from upscale.errors import CheckpointError, UsageError
from upscale.tiling.grid import Rect
from upscale.tiling.interfaces import PrecisionLossError
from upscale.tiling.wrapping import NO_WRAP, Wrap

DEPTHS: dict[np.dtype[Any], int] = {
    np.dtype(np.uint8): 255,
    np.dtype(np.uint16): 65535,
    np.dtype(np.float32): 1,
}
"""Value of white in each image type."""

WRITES_IN_FLIGHT = 2
"""Copies from a GPU that may be unfinished at the same time."""

IMAGE_CHANNELS = frozenset({1, 3})


def as_image(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array as a (H, W, C) view after checking its shape and type.

    Raises:
        UsageError: The array is not a uint8, uint16 or float32 image with 1 or 3 channels.
    """
    if not isinstance(array, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"a {type(array).__name__} is not a NumPy array")
    image = array[:, :, None] if array.ndim == 2 else array
    if image.ndim != 3 or image.shape[2] not in IMAGE_CHANNELS or image.size == 0:
        raise UsageError(f"an array of shape {array.shape} is not (H, W), (H, W, 1) or (H, W, 3)")
    if image.dtype not in DEPTHS:
        raise UsageError(
            f"an array of {array.dtype} is not supported: use uint8, uint16 or float32"
        )
    if image.dtype == np.float32 and not np.isfinite(image).all():
        raise UsageError("the image contains values that are not finite")
    return image


def check_tensor(image: Tensor) -> None:
    """Check the shape of an image tensor.

    Raises:
        UsageError: The tensor is not of shape (1, C, H, W) with 1 or 3 channels.
    """
    if image.ndim != 4 or len(image) != 1 or image.shape[1] not in IMAGE_CHANNELS:
        raise UsageError(f"a tensor of shape {tuple(image.shape)} is not a (1, C, H, W) image")


@dataclass(frozen=True, slots=True)
class TileFormat:
    """The format in which tiles are exchanged with a network.

    Attributes:
        device: Device of the tiles.
        dtype: Precision of the tiles.
        scale: Output pixels per image pixel and axis.
        channels: Channels that the network reads and writes. A grey image is copied to all of
            them and their outputs are averaged, so that it stays grey.
        unshuffle: Image pixels per feature pixel and axis. Images whose sides are not multiples
            are extended by reflection, and the result is cropped.
        margin: Feature pixels at each side by which images are extended for the network. Its
            result there is dropped.
        wrap: Directions in which the margin repeats the image instead of reflecting it.
    """

    device: torch.device
    dtype: torch.dtype
    scale: int
    channels: int = 3
    unshuffle: int = 1
    margin: int = 0
    wrap: Wrap = NO_WRAP


class ImageCanvas(ABC):
    """Base class of canvases: image coordinates, and conversion from and to the tile format.

    Args:
        height: Rows of the image to read.
        width: Columns of the image to read.
        tile_format: Format of the tiles.
    """

    def __init__(self, height: int, width: int, tile_format: TileFormat) -> None:
        self._size = height, width
        self._format = tile_format
        self._finite: Tensor | None = None

    @property
    def height(self) -> int:
        """Rows of a feature map."""
        return -(-self._size[0] // self._format.unshuffle) + 2 * self._format.margin

    @property
    def width(self) -> int:
        """Columns of a feature map."""
        return -(-self._size[1] // self._format.unshuffle) + 2 * self._format.margin

    @abstractmethod
    def read(self, rect: Rect) -> Tensor:
        """Return the source under `rect` as (1, channels * unshuffle**2, h, w) in 0..1."""

    @abstractmethod
    def write(self, rect: Rect, tile: Tensor) -> None:
        """Write the (1, channels, h * scale, w * scale) result for `rect`."""

    def finish(self) -> None:
        """Wait for pending writes and check that all results were finite.

        The check comes at the end because a check of each tile would make a GPU wait. It covers
        all layers, because no later layer makes a value finite again.

        Raises:
            CheckpointError: A result in fp32 was not finite.
            PrecisionLossError: A result in half precision was not finite.
        """
        if self._finite is None or bool(self._finite):
            return
        if self._format.dtype != torch.float32:
            raise PrecisionLossError(f"results exceed {self._format.dtype}")
        raise CheckpointError(
            "the network's output is not finite even in fp32: its checkpoint is damaged"
        )

    def _indices(self, rect: Rect) -> tuple[slice | NDArray[np.intp], slice | NDArray[np.intp]]:
        """Return the rows and the columns of the image under a part of a feature map."""
        wrap, (height, width) = self._format.wrap, self._size
        place = self._in_image(rect).times(self._format.unshuffle)
        return (
            _continued(place.top, place.bottom, height, repeats=wrap.rows),
            _continued(place.left, place.right, width, repeats=wrap.columns),
        )

    def _in_image(self, rect: Rect) -> Rect:
        """Return a part of a feature map counted from the first pixel of the image."""
        margin = self._format.margin
        return Rect(
            rect.top - margin, rect.bottom - margin, rect.left - margin, rect.right - margin
        )

    def _as_input(self, tile: Tensor) -> Tensor:
        """Return a (1, C, h, w) tile on the computing device as input of the network."""
        tile_format = self._format
        tile = tile.expand(-1, tile_format.channels, -1, -1).to(tile_format.dtype)
        if tile_format.unshuffle > 1:
            tile = F.pixel_unshuffle(tile, tile_format.unshuffle)
        return tile.contiguous(memory_format=torch.channels_last)

    def _as_output(self, rect: Rect, tile: Tensor, channels: int) -> tuple[Rect, Tensor]:
        """Return the target rectangle of a result, and its pixels as (channels, h, w) float32."""
        tile_format = self._format
        # The sum is finite if all values are; it takes one pass, `isfinite` and `all` take five.
        finite = torch.isfinite(tile.sum(dtype=torch.float32))
        self._finite = finite if self._finite is None else self._finite & finite
        height, width = (side * tile_format.scale for side in self._size)
        whole = self._in_image(rect).times(tile_format.unshuffle * tile_format.scale)
        place = whole.clip(height, width)
        part = place.relative_to(whole)
        pixels = tile[0, :, part.top : part.bottom, part.left : part.right].float()
        return place, pixels.mean(0, keepdim=True) if channels == 1 else pixels


class ArrayCanvas(ImageCanvas):
    """A canvas that reads from one array and writes to another.

    Args:
        source: Image of shape (H, W, C), C = 1 or 3.
        target: Result of shape (H * scale, W * scale, C) in the source's type, or float32 with a
            `weight`.
        tile_format: Format of the tiles.
        weight: Factor with which results are added to the target, without clamping. None to
            replace the target.
    """

    def __init__(
        self,
        source: NDArray[Any],
        target: NDArray[Any],
        tile_format: TileFormat,
        weight: float | None = None,
    ) -> None:
        super().__init__(source.shape[0], source.shape[1], tile_format)
        self._source = source
        self._target = target
        self._device = tile_format.device
        self._weight = weight
        self._pinned = PinnedMemory(tile_format.device)
        self._in_flight: deque[tuple[Rect, Tensor, torch.cuda.Event]] = deque()

    def read(self, rect: Rect) -> Tensor:
        """Return the source under `rect` as (1, channels * unshuffle**2, h, w) in 0..1."""
        rows, columns = self._indices(rect)
        # A copy, because a view of one row may count as contiguous with a negative stride.
        pixels = np.array(self._source[rows][:, columns], order="C")
        pixels = pixels.astype(_tensor_type(pixels.dtype), copy=False)
        tile = self._pinned.upload(torch.from_numpy(pixels))
        tile = (tile.float() / DEPTHS[self._source.dtype]).clamp_(0, 1)
        return self._as_input(tile.permute(2, 0, 1)[None])

    def write(self, rect: Rect, tile: Tensor) -> None:
        """Write the (1, channels, h * scale, w * scale) result for `rect` in the target's type."""
        place, pixels = self._as_output(rect, tile, self._target.shape[2])
        pixels = self._encode(pixels).permute(1, 2, 0)
        if self._device.type != "cuda":
            self._store(place, pixels.cpu())
            return
        self._download(place, pixels)

    def finish(self) -> None:
        """Wait for results that are still being copied from the device; see `ImageCanvas`."""
        while self._in_flight:
            self._store_oldest()
        super().finish()

    def _encode(self, pixels: Tensor) -> Tensor:
        if self._weight is not None:
            return pixels * self._weight
        pixels = pixels.clamp_(0, 1)
        if self._target.dtype == np.float32:
            return pixels
        levels = (pixels * DEPTHS[self._target.dtype]).round_()
        return levels.to(torch.uint8 if self._target.dtype == np.uint8 else torch.int32)

    def _download(self, place: Rect, pixels: Tensor) -> None:
        """Copy to the host while the next tiles are computed."""
        while len(self._in_flight) >= WRITES_IN_FLIGHT:
            self._store_oldest()
        host = self._pinned.download(pixels)
        event = torch.cuda.Event()
        event.record()
        self._in_flight.append((place, host, event))

    def _store_oldest(self) -> None:
        place, host, event = self._in_flight[0]
        event.synchronize()
        self._store(place, host)
        self._in_flight.popleft()

    def _store(self, place: Rect, pixels: Tensor) -> None:
        target = self._target[place.top : place.bottom, place.left : place.right]
        if self._weight is None:
            target[...] = pixels.numpy()
        else:
            target += pixels.numpy()


class TensorCanvas(ImageCanvas):
    """A canvas that reads from one tensor and writes to another, on any device.

    Args:
        source: Image of shape (1, C, H, W), float32 in 0..1, C = 1 or 3.
        target: Result of shape (1, C, H * scale, W * scale), float32, not clamped.
        tile_format: Format of the tiles.
    """

    def __init__(self, source: Tensor, target: Tensor, tile_format: TileFormat) -> None:
        super().__init__(source.shape[2], source.shape[3], tile_format)
        self._source = source
        self._target = target

    @property
    def source(self) -> Tensor:
        """The image."""
        return self._source

    @property
    def target(self) -> Tensor:
        """The result."""
        return self._target

    def read(self, rect: Rect) -> Tensor:
        """Return the source under `rect` as (1, channels * unshuffle**2, h, w) in 0..1."""
        rows, columns = self._indices(rect)
        return self._as_input(self._source[:, :, rows][..., columns].to(self._format.device))

    def write(self, rect: Rect, tile: Tensor) -> None:
        """Write the (1, channels, h * scale, w * scale) result for `rect`."""
        place, pixels = self._as_output(rect, tile, self._target.shape[1])
        self._target[0, :, place.top : place.bottom, place.left : place.right] = pixels


def _continued(start: int, stop: int, length: int, *, repeats: bool) -> slice | NDArray[np.intp]:
    """Return the indices [start, stop) of an axis that continues beyond its ends.

    It repeats there, or is reflected at its first and its last pixel.
    """
    if start >= 0 and stop <= length:
        return slice(start, stop)
    indices = np.arange(start, stop)
    if repeats:
        return indices % length
    period = max(2 * (length - 1), 1)
    indices %= period
    return np.minimum(indices, period - indices) if length > 1 else indices


def _tensor_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type for tensors: torch does not compute with uint16 on every device."""
    return np.dtype(np.int32) if dtype == np.uint16 else dtype
