"""The library's main object: an array in, a larger array out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from upscale.engine.canvas import (
    DEPTHS,
    IMAGE_CHANNELS,
    ArrayCanvas,
    Computing,
    ImageCanvas,
    TensorCanvas,
    as_image,
)
from upscale.engine.device import computing_on, pick_device, pick_precision, precision_name
from upscale.engine.kernel_selection import GroupList, Placed, group_list
from upscale.engine.loading import Model, load_model
from upscale.engine.memory import (
    Planes,
    automatic_tile,
    available_memory,
    image_array,
    minimum_tile_for,
)
from upscale.engine.resize import resize, resize_tensor
from upscale.engine.tta import TRANSFORMS, average_to, tensor_transforms, transformed
from upscale.errors import UsageError
from upscale.models import GroupedModel
from upscale.tiling.blended import BlendedRun
from upscale.tiling.exact import SMALLEST_TILE, ExactRun
from upscale.tiling.group import LayerGroup
from upscale.tiling.interfaces import PrecisionLossError, TileStats
from upscale.tiling.schedule import plan

T = TypeVar("T")

OVERLAP = 32
"""Pixels that neighbouring tiles share where exact tiling is impossible."""

BLENDED_TILE = 256
"""The tile of models that cannot be staged, whose memory is unknown."""

BATCH_PIXELS = 256 * 256
"""On a GPU, tiles smaller than this share a batch."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an image is: tiles done of tiles to do; the total grows when tiles are halved."""

    done: int
    total: int


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Report:
    """What was done to an image.

    Attributes:
        model: the model's name.
        model_scale: its own scale.
        tile: side of the tiles in image pixels at the end of the run; 0 without tiles.
        tiles: pieces of computation done.
        tiling: `exact`, or the width of the blend where exactness is impossible.
        device: where it ran.
        precision: of the network.
        fp32_tiles: tiles that half precision could not hold and fp32 computed again.
        halvings: how often memory ran out and the tile was halved.
        planes: where planes lived at the end: `device`, `host` or `file`.
        resize: the last resize, or None if the model's own scale was asked for.
        seconds: time taken.
    """

    model: str
    model_scale: int
    tile: int
    tiles: int
    tiling: str
    device: str
    precision: str
    fp32_tiles: int
    halvings: int
    planes: str
    resize: str | None
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """An image and how it came about."""

    pixels: NDArray[Any]
    report: Report


@dataclass(slots=True)
class _Run:
    """One image under way, all its passes together.

    `fp32_fallbacks` tells whether each tile of half precision is looked at, and computed in fp32 where it
    is not finite.
    """

    dtype: torch.dtype
    fp32_fallbacks: bool
    passes: int
    progress: ProgressCallback | None
    finished: TileStats = field(default_factory=TileStats)
    tile: int = 0
    planes: str = "device"

    def on_tile(self, stats: TileStats) -> None:
        if self.progress is not None:
            done = self.finished.done + stats.done
            self.progress(Progress(done, max(stats.total * self.passes, done)))

    def add(self, stats: TileStats) -> None:
        self.finished.done += stats.done
        self.finished.fp32_tiles += stats.fp32_tiles
        self.finished.halvings += stats.halvings


class Upscaler:
    """A model on a device, ready to upscale images.

    Args:
        model: a catalogue name, an imported model's name, a checkpoint file, or a loaded `Model`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `auto` (fp16 on a GPU, else fp32), `fp32`, `fp16` or `bf16`.
        tile: side of a tile in image pixels, at least 16; 0 for none; `auto` asks the memory.
            It changes memory and time, never the image.
        tta: average the eight flips and quarter turns; eight times the work.
        denoise: strength for models with a denoising partner, 0 to 1.
        kernels: use convolutions that are faster than torch's where they are there; the image is
            the same up to rounding.

    Raises:
        UsageError: an option has no meaning.
        DeviceError: the device or precision is not available.
        CheckpointError, DownloadError, DependencyError: see `load_model`.

    Example:
        >>> import numpy as np
        >>> from upscale import Upscaler
        >>> upscaler = Upscaler("realesr-animevideov3")
        >>> upscaler.upscale(np.zeros((6, 8, 3), np.uint8)).shape
        (24, 32, 3)
        >>> upscaler.upscale(np.zeros((6, 8), np.uint16), scale=1.5).shape
        (9, 12)
    """

    def __init__(
        self,
        model: str | Path | Model = "realesrgan-x4plus",
        *,
        device: str = "auto",
        precision: str = "auto",
        tile: int | Literal["auto"] = "auto",
        tta: bool = False,
        denoise: float | None = None,
        kernels: bool = True,
    ) -> None:
        if isinstance(tile, int) and tile != 0 and tile < SMALLEST_TILE:
            raise UsageError(f"a tile of {tile} is too small: use auto, 0 or {SMALLEST_TILE} up")
        self._device = pick_device(device)
        self._dtype = pick_precision(precision, self._device)
        self._tile: int | None = None if isinstance(tile, str) else tile  # None = auto
        self._tta = tta
        loaded = model if isinstance(model, Model) else load_model(model, denoise=denoise)
        self._model = loaded
        self._kernels = kernels
        self._networks: dict[torch.dtype, nn.Module] = {}
        self._group_lists: dict[torch.dtype, GroupList] = {}
        self._overflows = False

    @property
    def model_name(self) -> str:
        """The model's name."""
        return self._model.name

    @property
    def model_scale(self) -> int:
        """Output pixels per image pixel and axis before the last resize."""
        return self._model.scale

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._device

    @property
    def device_name(self) -> str:
        """The device, as `--device` spells it."""
        return str(self._device)

    @property
    def kernels_name(self) -> str:
        """What computes convolutions: `torch`, or which kernels; on a GPU that is tried out."""
        if not self._model.staged:
            return "torch"
        return self._group_list(self._precisions()[0]).kernels

    @property
    def precision_name(self) -> str:
        """The precision, as `--precision` spells it."""
        return precision_name(self._dtype)

    def upscale(
        self,
        array: NDArray[Any],
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        progress: ProgressCallback | None = None,
    ) -> NDArray[Any]:
        """Upscale an image; see `run`.

        Returns:
            The larger image, with the depth, axes and channels of `array`.
        """
        return self.run(array, scale=scale, size=size, progress=progress).pixels

    def run(
        self,
        array: NDArray[Any],
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        progress: ProgressCallback | None = None,
    ) -> Result:
        """Upscale an image and report how.

        Args:
            array: (H, W), (H, W, 1) or (H, W, 3, RGB); uint8, uint16, or float32 in [0, 1].
            scale: output size over input size, any positive number; the model's own by default.
            size: (width, height) of the output, instead of `scale`.
            progress: called after every tile, in this thread.

        Raises:
            UsageError: the array is no image, or the size is impossible.
            MemoryExhaustedError: the smallest tile does not fit memory.
            CheckpointError: the network gives values that are not finite, even in fp32.
        """
        started = time.perf_counter()
        image = as_image(array)
        self._check_channels(image.shape[2])
        height, width = image.shape[:2]
        wanted = output_size(width, height, scale or self.model_scale, size)
        pixels, run = self._upsample(lambda run: self._passes(image, run), progress)
        resized = None
        if wanted != (width * self.model_scale, height * self.model_scale):
            pixels = resize(pixels, *wanted)
            resized = f"x{self.model_scale} to {wanted[0]}x{wanted[1]}, Lanczos"
        pixels = pixels[:, :, 0] if array.ndim == 2 else pixels
        return Result(pixels, self._report(run, resized, time.perf_counter() - started))

    def run_tensor(self, image: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """Upscale an image that is a tensor, on the device or elsewhere, and leave it there.

        Args:
            image: (1, C, H, W) float32 in [0, 1], C = 1 or 3, all of it finite.
            size: (width, height) of the result; the model's own scale by default.

        Returns:
            (1, C, H', W') float32 in [0, 1], where `image` is; what `run` would give.

        Raises:
            UsageError, MemoryExhaustedError, CheckpointError: as `run`.
        """
        if image.ndim != 4 or len(image) != 1 or image.shape[1] not in IMAGE_CHANNELS:
            raise UsageError(f"a tensor of shape {tuple(image.shape)} is no (1, C, H, W) image")
        self._check_channels(image.shape[1])
        height, width = image.shape[2:]
        wanted = output_size(width, height, self.model_scale, size)
        result, _ = self._upsample(lambda run: self._tensor_passes(image, run), None)
        if wanted == (width * self.model_scale, height * self.model_scale):
            return result
        with computing_on(self._device):
            return resize_tensor(result, *wanted).clamp_(0, 1)

    def resolve_tile(self, width: int, height: int, tile: int | None = None) -> int:
        """Compute images of one size with one tile from now on; `auto` asks the memory each time.

        Sums of different tiles may be rounded differently, by a few units of the last place. A
        video that is gone on with on another day is to have the same bits.

        Args:
            width: of the images.
            height: the same.
            tile: what `auto` shall stand for; None asks the memory now.

        Returns:
            The tile in image pixels, 0 for none: one that was asked for by number stays.
        """
        if self._tile is None:
            self._tile = self._automatic_tile(width, height) if tile is None else tile
        return self._tile

    def _automatic_tile(self, width: int, height: int) -> int:
        if not self._model.staged:
            return BLENDED_TILE
        side = self._model.unshuffle
        dtype = self._precisions()[0]
        rows, columns = -(-height // side), -(-width // side)
        groups = self._groups(dtype)
        return side * automatic_tile(groups, rows, columns, dtype.itemsize, self._device)

    def _check_channels(self, channels: int) -> None:
        if self._model.channels == 1 and channels != 1:
            raise UsageError(f"{self.model_name} takes grey images only")

    def _report(self, run: _Run, resized: str | None, seconds: float) -> Report:
        return Report(
            model=self.model_name,
            model_scale=self.model_scale,
            tile=run.tile,
            tiles=run.finished.done,
            tiling="exact" if self._model.staged else f"blended, overlap {OVERLAP} px",
            device=self.device_name,
            precision=precision_name(run.dtype),
            fp32_tiles=run.finished.fp32_tiles,
            halvings=run.finished.halvings,
            planes=run.planes,
            resize=resized,
            seconds=seconds,
        )

    def _upsample(
        self, passes: Callable[[_Run], T], progress: ProgressCallback | None
    ) -> tuple[T, _Run]:
        """An image at the model's own scale, in fp32 where half precision cannot hold it."""
        with computing_on(self._device):
            for dtype, fp32_fallbacks in self._attempts():
                run = _Run(dtype, fp32_fallbacks, TRANSFORMS if self._tta else 1, progress)
                try:
                    return passes(run), run
                except PrecisionLossError:
                    self._overflows = True
        raise AssertionError("fp32 cannot lose precision")

    def _attempts(self) -> Iterator[tuple[torch.dtype, bool]]:
        """Precisions to try in turn, and whether tiles are fp32 one by one.

        Half precision is trusted until an image of this model overflows: to look at each tile of
        each group, a GPU has to be waited for.
        """
        for dtype in self._precisions():
            if dtype != torch.float32:
                if not self._overflows:
                    yield dtype, False
                yield dtype, True
            else:
                yield dtype, False

    def _precisions(self) -> list[torch.dtype]:
        """What to try in turn: the precision asked for, where the model can do it, then fp32."""
        half = [self._dtype] if self._dtype in self._model.half_precisions else []
        return [*half, torch.float32]

    def _passes(self, image: NDArray[Any], run: _Run) -> NDArray[Any]:
        height, width, channels = image.shape
        shape = (height * self.model_scale, width * self.model_scale, channels)
        result = image_array(shape, image.dtype)
        if not self._tta:
            self._array_pass(image, result, run)
            return result
        total = cast(NDArray[np.float32], image_array(shape, np.float32))
        total.fill(0)
        for source, target in transformed(image, total):
            self._array_pass(source, target, run, weight=1 / TRANSFORMS)
        average_to(total, result, DEPTHS[image.dtype])
        return result

    def _array_pass(
        self,
        source: NDArray[Any],
        target: NDArray[Any],
        run: _Run,
        weight: float | None = None,
    ) -> None:
        canvas = ArrayCanvas(source, target, self._computing(run), weight)
        self._pass(canvas, run)

    def _tensor_passes(self, image: Tensor, run: _Run) -> Tensor:
        if not self._tta:
            return self._tensor_pass(image, run).clamp_(0, 1)
        total: Tensor | None = None
        for transform, back in tensor_transforms():
            part = back(self._tensor_pass(transform(image), run))
            total = part if total is None else total.add_(part)
        assert total is not None
        return total.div_(TRANSFORMS).clamp_(0, 1)

    def _tensor_pass(self, image: Tensor, run: _Run) -> Tensor:
        height, width = (side * self.model_scale for side in image.shape[2:])
        target = image.new_empty((1, image.shape[1], height, width))
        self._pass(TensorCanvas(image, target, self._computing(run)), run)
        return target

    def _computing(self, run: _Run) -> Computing:
        return Computing(
            device=self._device,
            dtype=run.dtype,
            scale=self.model_scale,
            channels=self._model.channels,
            unshuffle=self._model.unshuffle,
        )

    def _pass(self, canvas: ImageCanvas, run: _Run) -> None:
        """Send one image through the network."""
        if self._model.staged:
            self._staged_pass(canvas, run)
        else:
            self._blended_pass(canvas, run)
        canvas.finish()

    def _staged_pass(self, canvas: ImageCanvas, run: _Run) -> None:
        groups = self._groups(run.dtype)
        tile = self._plane_tile(groups, canvas, run)
        planes = Planes(self._device, run.dtype, self._home(groups, canvas, tile, run.dtype))
        staged = ExactRun(
            groups,
            canvas,
            planes,
            height=canvas.height,
            width=canvas.width,
            tile=tile,
            smallest=max(SMALLEST_TILE // self._model.unshuffle, 4),
            floor=minimum_tile_for(self._device),
            batch=max(BATCH_PIXELS // tile**2, 1) if self._device.type == "cuda" else 1,
            precise=(lambda: self._groups(torch.float32)) if run.fp32_fallbacks else None,
            on_tile=run.on_tile,
        )
        staged.run()
        whole = self._tile == 0 and not staged.stats.halvings
        run.tile = 0 if whole else staged.schedule.tile * self._model.unshuffle
        run.planes = planes.home
        run.add(staged.stats)

    def _blended_pass(self, canvas: ImageCanvas, run: _Run) -> None:
        side = BLENDED_TILE if self._tile is None else self._tile
        blended = BlendedRun(
            self._fp32_network(run),
            self.model_scale,
            canvas,
            height=canvas.height,
            width=canvas.width,
            tile=side or max(canvas.height, canvas.width),
            overlap=OVERLAP,
            on_tile=run.on_tile,
        )
        blended.run()
        run.tile = blended.tile if side or blended.stats.halvings else 0
        run.add(blended.stats)

    def _fp32_network(self, run: _Run) -> Callable[[Tensor], Tensor]:
        """The network as a function that turns to fp32 where half precision overflows."""
        network = self._network(run.dtype)

        def compute(tile: Tensor) -> Tensor:
            result = network(tile)
            if run.dtype == torch.float32 or bool(torch.isfinite(result).all()):
                return result
            run.finished.fp32_tiles += 1
            return self._network(torch.float32)(tile.float())

        return compute

    def _network(self, dtype: torch.dtype) -> nn.Module:
        if dtype not in self._networks:
            self._networks[dtype] = self._model.network_on(self._device, dtype)
        return self._networks[dtype]

    def _groups(self, dtype: torch.dtype) -> tuple[LayerGroup, ...]:
        return self._group_list(dtype).groups

    def _group_list(self, dtype: torch.dtype) -> GroupList:
        if dtype not in self._group_lists:
            with computing_on(self._device):
                placed = Placed(
                    cast(GroupedModel, self._network(dtype)),
                    self._model.channels * self._model.unshuffle**2,
                    self._device,
                    dtype,
                )
                self._group_lists[dtype] = group_list(placed, kernels=self._kernels)
        return self._group_lists[dtype]

    def _plane_tile(self, groups: Sequence[LayerGroup], canvas: ImageCanvas, run: _Run) -> int:
        """The tile in plane pixels."""
        if self._tile is None:
            return automatic_tile(
                groups, canvas.height, canvas.width, run.dtype.itemsize, self._device
            )
        if self._tile == 0:
            return max(canvas.height, canvas.width)
        return max(self._tile // self._model.unshuffle, 1)

    def _home(
        self, groups: Sequence[LayerGroup], canvas: ImageCanvas, tile: int, dtype: torch.dtype
    ) -> str:
        """Where the planes start: in a file if neither the device nor the host can hold them."""
        floor = minimum_tile_for(self._device)
        planes = plan(groups, canvas.height, canvas.width, tile, floor).planes * dtype.itemsize
        if planes <= available_memory(self._device):
            return "device"
        return "host" if planes <= available_memory(torch.device("cpu")) else "file"


def output_size(
    width: int, height: int, scale: float, size: tuple[int, int] | None = None
) -> tuple[int, int]:
    """The (width, height) that an image becomes: `size`, or `scale` times its own, at least 1.

    Raises:
        UsageError: the size or scale is not positive.
    """
    if size is not None:
        if min(size) < 1:
            raise UsageError(f"a size of {size[0]}x{size[1]} is impossible")
        return size
    if not scale > 0 or scale == float("inf"):
        raise UsageError(f"a scale of {scale} is impossible: use a positive number")
    return max(round(width * scale), 1), max(round(height * scale), 1)
