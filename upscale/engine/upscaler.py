"""`Upscaler`, the main class of the library: an array in, an upscaled array out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale.engine.canvas import DEPTHS, ArrayCanvas, TensorCanvas, as_image, check_tensor
from upscale.engine.choices import SMALLEST_TILE, Seamless
from upscale.engine.device import computing_on, pick_device, pick_precision, precision_name
from upscale.engine.graphs import FrameGraphs
from upscale.engine.kernel_selection import available_kernels
from upscale.engine.loading import Model, load_model
from upscale.engine.memory import release_cached_memory
from upscale.engine.report import Progress, ProgressCallback, Report, Result
from upscale.engine.resize import description, output_size, resize, resize_tensor
from upscale.engine.temporary import image_array
from upscale.engine.tile_runner import OVERLAP, ImageRun, TileRunner
from upscale.engine.tta import TRANSFORMS, average_to, tensor_transforms, transformed
from upscale.errors import UsageError
from upscale.kernels.verdicts import Record
from upscale.tiling.interfaces import PrecisionLossError
from upscale.tiling.recovery import with_less_memory
from upscale.tiling.wrapping import Wrap

__all__ = ["OVERLAP", "Progress", "ProgressCallback", "Report", "Result", "Upscaler", "output_size"]

T = TypeVar("T")


class Upscaler:
    """A model on a device, ready to upscale images.

    Args:
        model: Catalogue name, name of an imported model, checkpoint file, or a loaded `Model`.
        device: Device that computes: `auto`, `cpu`, `cuda`, `cuda:N`, `mps`, `xpu` or `xpu:N`.
        precision: Precision of the network: `fp32`, `fp16`, `bf16` or `auto`, which is fp32 on a
            CPU and on older NVIDIA GPUs, and fp16 on all others.
        tile: Side of a tile in image pixels, at least 16; 0 for no tiles; `auto` for the largest
            that fits into memory. It changes memory and time, never the image.
        tta: Whether to average the results of the eight flips and quarter turns, which takes
            eight times as long.
        denoise: Denoising strength for models with a denoising partner, 0..1. None for the
            model's default.
        kernels: Whether faster convolutions replace torch's where available. The image is the
            same up to rounding.

    Raises:
        UsageError: An option has an invalid value.
        DeviceError: The device or precision is not available.
        CheckpointError: There is no such model, or its file cannot be used.
        DownloadError: The weights could not be downloaded.
        DependencyError: The architecture needs the `community` extra.

    Example:
        >>> import numpy as np
        >>> from upscale import Upscaler
        >>> upscaler = Upscaler("realesr-animevideov3", device="cpu")
        >>> upscaler.upscale(np.zeros((6, 8, 3), np.uint8)).shape
        (24, 32, 3)
        >>> upscaler.upscale(np.zeros((6, 8), np.uint16), scale=1.5).shape
        (9, 12)
    """

    def __init__(
        self,
        model: str | Path | Model,
        *,
        device: str = "auto",
        precision: str = "auto",
        tile: int | Literal["auto"] = "auto",
        tta: bool = False,
        denoise: float | None = None,
        kernels: bool = True,
    ) -> None:
        check_tile(tile)
        self._device = pick_device(device)
        self._dtype = pick_precision(precision, self._device)
        self._tta = tta
        self._kernels = kernels
        self._model = model if isinstance(model, Model) else load_model(model, denoise=denoise)
        self._runner = TileRunner(
            self._model,
            self._device,
            tile=None if isinstance(tile, str) else tile,
            kernels=kernels,
        )
        self._graphs = FrameGraphs[TensorCanvas](self._device)
        self._overflows = False

    @property
    def model_name(self) -> str:
        """The model's name."""
        return self._model.name

    @property
    def model_scale(self) -> int:
        """Output pixels per image pixel and axis before the final resize."""
        return self._model.scale

    @property
    def device(self) -> torch.device:
        """The device that computes."""
        return self._device

    @property
    def device_name(self) -> str:
        """The device as `--device` spells it."""
        return str(self._device)

    @property
    def kernels_name(self) -> str:
        """The implementation of the convolutions, for example `torch`; a GPU is autotuned first."""
        if not self._model.supports_exact_tiling:
            return "torch"
        return self._runner.selected(self._precisions()[0]).kernels

    @property
    def convolutions(self) -> str:
        """The implementation of the convolutions, with the reason where torch is the fallback."""
        return self._convolutions(self._precisions()[0])

    @property
    def available_kernels(self) -> str:
        """The implementation that may compute convolutions here, whatever autotuning finds."""
        if not self._kernels or not self._model.supports_exact_tiling:
            return "torch"
        return available_kernels(self._device, self._precisions()[0])

    @property
    def precision_name(self) -> str:
        """The precision as `--precision` spells it."""
        return precision_name(self._dtype)

    def upscale(
        self,
        array: NDArray[Any],
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        seamless: Seamless = "",
        progress: ProgressCallback | None = None,
    ) -> NDArray[Any]:
        """Upscale an image; see `run` for the arguments and errors.

        Returns:
            Upscaled image with the dtype, axes and channels of `array`.
        """
        return self.run(array, scale=scale, size=size, seamless=seamless, progress=progress).pixels

    def run(
        self,
        array: NDArray[Any],
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        seamless: Seamless = "",
        progress: ProgressCallback | None = None,
    ) -> Result:
        """Upscale an image and report how it was computed.

        Args:
            array: Image of shape (H, W), (H, W, 1) or (H, W, 3), RGB; uint8, uint16, or float32
                in 0..1.
            scale: Ratio of output to input size, any positive number; None for the model's scale.
            size: Output size as (width, height), instead of `scale`.
            seamless: Directions in which the image repeats, such as a texture (`xy`) or a
                panorama of 360 degrees (`x`). The result repeats without a seam, too.
            progress: Callback after each tile, in the calling thread.

        Raises:
            UsageError: The array is not an image, or the size is not positive.
            MemoryExhaustedError: The smallest tile does not fit into memory.
            CheckpointError: The network's output is not finite, even in fp32.
        """
        started = time.perf_counter()
        image = as_image(array)
        self._check_channels(image.shape[2])
        height, width = image.shape[:2]
        target_size = output_size(width, height, scale or self.model_scale, size)
        wrap = Wrap(rows="y" in seamless, columns="x" in seamless)
        pixels, run = self._compute(lambda run: self._array_passes(image, run, wrap), progress)
        resized = None
        if target_size != (width * self.model_scale, height * self.model_scale):
            pixels = resize(pixels, *target_size, wrap)
            resized = description(self.model_scale, *target_size)
        pixels = pixels[:, :, 0] if array.ndim == 2 else pixels
        return Result(pixels, self._report(run, resized, time.perf_counter() - started))

    def run_tensor(self, image: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """Upscale an image tensor and return the result on the tensor's device.

        Args:
            image: Tensor of shape (1, C, H, W), float32 in 0..1, C = 1 or 3, all values finite.
            size: Output size as (width, height); None for the model's scale.

        Returns:
            Tensor of shape (1, C, H', W'), float32 in 0..1, with the values that `run` computes.

        Raises:
            UsageError: The tensor is not an image, or the size is not positive.
            MemoryExhaustedError: The smallest tile does not fit into memory.
            CheckpointError: The network's output is not finite, even in fp32.
        """
        check_tensor(image)
        self._check_channels(image.shape[1])
        height, width = image.shape[2:]
        target_size = output_size(width, height, self.model_scale, size)
        result, _ = with_less_memory(
            lambda: self._compute(lambda run: self._tensor_passes(image, run), None),
            self._release_memory,
        )
        if target_size == (width * self.model_scale, height * self.model_scale):
            return result
        with computing_on(self._device):
            return resize_tensor(result, *target_size).clamp_(0, 1)

    def resolve_tile(self, width: int, height: int, tile: int | None = None) -> int:
        """Pin an automatic tile, so that all further images are computed with the same one.

        The sums of different tiles may round differently in the last bits. A video that is resumed
        later needs the same tile for identical frames.

        Args:
            width: Width of the images.
            height: Height of the images.
            tile: Tile to use in place of `auto`; None chooses it from the available memory now.

        Returns:
            The tile in image pixels, 0 for none. A tile that was given as a number is kept.
        """
        if self._runner.tile is None:
            automatic = self._runner.automatic_tile
            self._runner.tile = (
                automatic(width, height, self._precisions()[0]) if tile is None else tile
            )
        return self._runner.tile

    def resolve_kernels(self, record: Record | None = None) -> Record:
        """Pin the kernel of each layer, so that all further images are computed with the same ones.

        Kernels round differently in the last bits. A video that is resumed later needs the same
        ones for identical frames.

        Args:
            record: Result of an earlier call, also for other GPUs; None for a new choice.

        Returns:
            The record with the kernels of this network, which JSON can represent.
        """
        if not self._model.supports_exact_tiling:
            return record or {}
        return self._runner.resolve_kernels(self._precisions()[0], record or {})

    def _release_memory(self) -> None:
        self._graphs.clear()
        release_cached_memory()

    def _check_channels(self, channels: int) -> None:
        if self._model.channels == 1 and channels != 1:
            raise UsageError(f"{self.model_name} only takes grey images")

    def _report(self, run: ImageRun, resized: str | None, seconds: float) -> Report:
        exact = self._model.supports_exact_tiling
        return Report(
            model=self.model_name,
            model_scale=self.model_scale,
            tile=run.tile,
            tiles=run.stats.done,
            tiling="exact" if exact else f"blended, overlap {OVERLAP} px",
            device=self.device_name,
            precision=precision_name(run.dtype),
            fp32_fallbacks=run.stats.fp32_fallbacks,
            halvings=run.stats.halvings,
            placement=run.placement,
            resize=resized,
            seconds=seconds,
            convolutions=self._convolutions(run.dtype),
        )

    def _convolutions(self, dtype: torch.dtype) -> str:
        if not self._model.supports_exact_tiling:
            return "torch"
        selected = self._runner.selected(dtype)
        return selected.kernels + (f" ({selected.reason})" if selected.reason else "")

    def _compute(
        self, passes: Callable[[ImageRun], T], progress: ProgressCallback | None
    ) -> tuple[T, ImageRun]:
        """Compute an image at the model's scale, in fp32 if half precision overflows."""
        with computing_on(self._device):
            for dtype, checks_tiles in self._attempts():
                run = ImageRun(dtype, checks_tiles, TRANSFORMS if self._tta else 1, progress)
                try:
                    return passes(run), run
                except PrecisionLossError:
                    self._overflows = True
                    self._graphs.clear()
        raise AssertionError("fp32 does not raise PrecisionLossError")

    def _attempts(self) -> Iterator[tuple[torch.dtype, bool]]:
        """Yield the precisions to try in turn, and whether each tile is checked for overflow.

        Checking the tiles of each group makes a GPU wait, so that half precision is not checked
        before an image of this model has overflowed.
        """
        for dtype in self._precisions():
            if dtype != torch.float32:
                if not self._overflows:
                    yield dtype, False
                yield dtype, True
            else:
                yield dtype, False

    def _precisions(self) -> list[torch.dtype]:
        """Return the requested precision, where the model supports it, and fp32."""
        half = [self._dtype] if self._dtype in self._model.half_precisions else []
        return [*half, torch.float32]

    def _array_passes(self, image: NDArray[Any], run: ImageRun, wrap: Wrap) -> NDArray[Any]:
        height, width, channels = image.shape
        shape = (height * self.model_scale, width * self.model_scale, channels)
        result = image_array(shape, image.dtype)
        copies = self._copies(image, wrap)
        if not self._tta and copies == (1, 1):
            self._array_pass(image, result, run, wrap)
            return result
        image = _repeated(image, copies)
        total_shape = (shape[0] * copies[0], shape[1] * copies[1], channels)
        total = cast(NDArray[np.float32], image_array(total_shape, np.float32))
        total.fill(0)
        if self._tta:
            for source, target, is_turned in transformed(image, total):
                turned = wrap.turned if is_turned else wrap
                self._array_pass(source, target, run, turned, weight=1 / TRANSFORMS)
        else:
            self._array_pass(image, total, run, wrap, weight=1)
        mean = with_less_memory(lambda: _mean_of_copies(total, copies), release_cached_memory)
        average_to(mean, result, DEPTHS[image.dtype])
        return result

    def _copies(self, image: NDArray[Any], wrap: Wrap) -> tuple[int, int]:
        """Return how often an image is repeated in each direction before it is computed.

        A network with pixel-unshuffle shifts its output with its input only by multiples of its
        factor. An image with another length would not repeat after it has been upscaled. So it is
        repeated until the length is a multiple, and the results of the copies, one for each
        position in the grid, are averaged.
        """
        side = self._model.unshuffle
        return (
            side // math.gcd(side, image.shape[0]) if wrap.rows else 1,
            side // math.gcd(side, image.shape[1]) if wrap.columns else 1,
        )

    def _array_pass(
        self,
        source: NDArray[Any],
        target: NDArray[Any],
        run: ImageRun,
        wrap: Wrap,
        weight: float | None = None,
    ) -> None:
        canvas = ArrayCanvas(source, target, self._runner.tile_format(run, wrap), weight)
        self._runner.run(canvas, run, wrap)

    def _tensor_passes(self, image: Tensor, run: ImageRun) -> Tensor:
        if not self._tta:
            return self._tensor_pass(image, run).clamp_(0, 1)
        total: Tensor | None = None
        for transform, undo in tensor_transforms():
            part = undo(self._tensor_pass(transform(image), run))
            total = part if total is None else total.add_(part)
        assert total is not None
        return total.div_(TRANSFORMS).clamp_(0, 1)

    def _tensor_pass(self, image: Tensor, run: ImageRun) -> Tensor:
        if self._tta or run.checks_tiles or not self._model.supports_exact_tiling:
            canvas = self._tensor_canvas(image, run)
            self._runner.run(canvas, run)
            return canvas.target

        def launch(source: Tensor) -> TensorCanvas:
            canvas = self._tensor_canvas(source, run)
            self._runner.launch(canvas, run)
            return canvas

        canvas = self._graphs.run(image, run.dtype, launch, lambda: self._graph_bytes(image, run))
        with_less_memory(canvas.finish, release_cached_memory)
        return canvas.target if canvas.source is image else canvas.target.clone()

    def _graph_bytes(self, image: Tensor, run: ImageRun) -> int:
        """Return the memory that a recorded graph keeps, with its image and its result."""
        height, width = image.shape[2:]
        images = image.nbytes * (1 + self.model_scale**2)
        return self._runner.planned_bytes(width, height, run.dtype) + images

    def _tensor_canvas(self, image: Tensor, run: ImageRun) -> TensorCanvas:
        height, width = (side * self.model_scale for side in image.shape[2:])
        target = image.new_empty((1, image.shape[1], height, width))
        return TensorCanvas(image, target, self._runner.tile_format(run))


def check_tile(tile: int | Literal["auto"]) -> None:
    """Check the side of a tile.

    Raises:
        UsageError: The tile is too small.
    """
    if isinstance(tile, int) and tile != 0 and tile < SMALLEST_TILE:
        raise UsageError(f"a tile of {tile} is too small: use auto, 0 or at least {SMALLEST_TILE}")


def _repeated(image: NDArray[Any], copies: tuple[int, int]) -> NDArray[Any]:
    """Return an (H, W, C) image repeated in `copies` rows and columns."""
    if copies == (1, 1):
        return image
    (height, width, channels), (down, across) = image.shape, copies
    result = image_array((height * down, width * across, channels), image.dtype)
    result.reshape(down, height, across, width, channels)[...] = image[:, None]
    return result


def _mean_of_copies(total: NDArray[np.float32], copies: tuple[int, int]) -> NDArray[np.float32]:
    """Return the mean of the parts of an (H, W, C) image of `copies` rows and columns of parts."""
    if copies == (1, 1):
        return total
    down, across = copies
    height, width, channels = total.shape
    parts = total.reshape(down, height // down, across, width // across, channels)
    return parts.mean((0, 2))
