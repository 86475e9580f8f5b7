"""The Triton convolution for NVIDIA GPUs in half precision: weights, tile configs, autotuner.

`triton_kernel.py` works on plain pointers; this module checks everything that it assumes. Triton
comes with torch's builds for CUDA. Without it, and for maps that the kernel does not support, torch
computes.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale.kernels import KernelMissingError
from upscale.kernels.autotune import Stopwatch, agree, kernel_seconds
from upscale.models.layers import Layer, LayerMaker, LayerRun, join, torch_layer

HALF = frozenset({torch.float16, torch.bfloat16})
MAX_RESIDUALS = 2
MIN_OUTPUTS, MAX_OUTPUTS = 16, 64
"""Bounds of the output channels that one program computes; powers of two."""

AUTOTUNE_SIDE = 384
"""Side of the random maps for autotuning: enough programs for any GPU."""

OLDEST_CAPABILITY = (8, 0)
"""First compute capability with asynchronous copies to shared memory."""


@dataclass(frozen=True, slots=True)
class TileConfig:
    """How the work is divided for the GPU.

    Attributes:
        pixels: Pixels of a program's block, a power of two; the outermost two are shared with the
            neighbouring blocks.
        channels: Channels that are read at a time, a power of two, at least 16.
        stages: Depth of the software pipeline: blocks of channels that are loaded at once.
    """

    pixels: int
    channels: int
    stages: int


TILE_CONFIGS = (TileConfig(128, 32, 4), TileConfig(128, 64, 3), TileConfig(256, 32, 4))
"""Tile configs to choose from; few, because each takes a second to compile per layer shape."""

WARPS = 4
"""Warps of a program, with 32 threads each. More than four share the operands of the matrix units,
and Triton lets some of them overwrite these too early (Triton issue 11047, closed in July 2026)."""

MAX_SUMS = WARPS * 32 * 64
"""Largest product of pixels and outputs of a program: the registers hold 3 x 64 sums a thread."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The properties of a layer that decide which tile config is the fastest.

    Attributes:
        channels: Channels of the first and of the second map; 0 for no second map.
        outputs: Channels of the result.
        padding: Padding of the layer, 0 or 1.
        upsample: Upsampling factor of the layer, 1 or 2.
        residuals: Number of residuals.
    """

    channels: tuple[int, int]
    outputs: int
    padding: int
    upsample: int
    residuals: int


class Autotuner:
    """Finds and remembers the fastest tile config for each layer shape on one device.

    Args:
        kernel: Module `triton_kernel`.
        seconds: Function that measures the time of a piece of work.
        side: Side of the random maps.
        configs: Tile configs to choose from.
    """

    def __init__(
        self,
        kernel: ModuleType,
        seconds: Stopwatch = kernel_seconds,
        side: int = AUTOTUNE_SIDE,
        configs: Sequence[TileConfig] = TILE_CONFIGS,
    ) -> None:
        self.convolve: Any = kernel.convolve
        self._seconds = seconds
        self._side = side
        self.configs = configs
        self._best: dict[Shape, TileConfig | None] = {}

    def best_config(self, shape: Shape, convolution: _Convolution) -> TileConfig | None:
        """Return the fastest correct tile config, or None if there is none."""
        if shape not in self._best:
            self._best[shape] = self._autotune(shape, convolution)
        return self._best[shape]

    def fitting_configs(self, convolution: _Convolution) -> list[TileConfig]:
        """Return the tile configs whose sums fit into the registers of a program."""
        return [config for config in self.configs if config.pixels * convolution.block <= MAX_SUMS]

    def _autotune(self, shape: Shape, convolution: _Convolution) -> TileConfig | None:
        maps, residuals = convolution.examples(shape, self._side)
        reference = convolution.reference(maps, residuals)
        times: dict[TileConfig, float] = {}
        for config in self.fitting_configs(convolution):
            target = convolution.empty(maps[0]).fill_(torch.nan)
            run = partial(convolution.launch, config, maps, residuals, target)
            try:
                run()
                if agree(target, reference):
                    times[config] = self._seconds(run)
            except Exception:  # not enough shared memory, or any compiler error
                continue
        return min(times, key=times.__getitem__, default=None)


class _Convolution:
    """A layer whose weights are packed for the kernel on first use."""

    def __init__(self, autotuner: Autotuner, layer: Layer) -> None:
        convolution = layer.convolution
        self.reference = torch_layer(layer)
        self._autotuner = autotuner
        self._layer = layer
        self._weight = convolution.weight.detach()
        outputs = convolution.out_channels
        power = 1 << (outputs - 1).bit_length()
        self.block = min(max(power, MIN_OUTPUTS), MAX_OUTPUTS)
        self._missing = -outputs % self.block
        bias = convolution.bias
        zeros = self._weight.new_zeros(outputs)
        slope = torch.as_tensor(layer.slope, device=zeros.device).detach()
        self._bias = self._padded(zeros if bias is None else bias.detach())
        self._slope = self._padded(slope.expand(outputs))
        self._weights: dict[tuple[int, int, int], Tensor] = {}
        self._broken = False

    def __call__(
        self,
        maps: Sequence[Tensor],
        residuals: Sequence[Tensor] = (),
        target: Tensor | None = None,
    ) -> Tensor:
        """Compute the layer; see `LayerRun`."""
        if len(maps) > 2:
            maps = [maps[0], join(maps[1:])]
        maps, residuals = ([_channels_last(x) for x in each] for each in (maps, residuals))
        config = self._config(maps, residuals, target)
        if config is None:
            return self.reference(maps, residuals, target)
        result = self.empty(maps[0]) if target is None else target
        try:
            self.launch(config, maps, residuals, result)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception:  # any failure: torch is the fallback from now on
            self._broken = True
            return self.reference(maps, residuals, target)
        return result

    def _config(
        self, maps: Sequence[Tensor], residuals: Sequence[Tensor], target: Tensor | None
    ) -> TileConfig | None:
        """Return the tile config for these maps, or None if torch has to compute."""
        if self._broken or not self._supports(maps, residuals, target):
            return None
        first, second = (*(each.shape[1] for each in maps), 0)[:2]
        shape = Shape(
            (first, second),
            self._layer.convolution.out_channels,
            self._layer.padding,
            self._layer.upsample,
            len(residuals),
        )
        return self._autotuner.best_config(shape, self)

    def _supports(
        self, maps: Sequence[Tensor], residuals: Sequence[Tensor], target: Tensor | None
    ) -> bool:
        """Return whether the kernel can read and write these tensors."""
        weight = self._weight
        places = [*residuals, *(() if target is None else (target,))]
        output = self._extent(maps[0])
        return (
            len(residuals) <= MAX_RESIDUALS
            and min(output) > 0
            and all(x.dtype == weight.dtype for x in (*maps, *places))
            and all(x.device == weight.device for x in (*maps, *places))
            and all(x.shape[1] == 1 or x.stride(1) == 1 for x in (*maps, *places))
            and all(x.shape[2:] == maps[0].shape[2:] and len(x) == len(maps[0]) for x in maps[1:])
            and sum(x.shape[1] for x in maps) == weight.shape[1]
            and all(x.shape == output for x in places)
        )

    def launch(
        self,
        config: TileConfig,
        maps: Sequence[Tensor],
        residuals: Sequence[Tensor],
        target: Tensor,
    ) -> None:
        """Run the kernel on tensors that it supports."""
        layer, (count, outputs, rows, columns) = self._layer, target.shape
        first, second = (*maps, maps[0])[:2]
        channels = first.shape[1], second.shape[1] if len(maps) > 1 else 0
        added = (*residuals, target, target)[:MAX_RESIDUALS]
        tensors = (first, second, *added, target)
        programs = -(-(rows * (columns + 2) - 2) // (config.pixels - 2))
        self._autotuner.convolve[programs, count, -(-outputs // self.block)](
            first,
            second,
            self._packed_weights(config.channels, channels),
            self._bias,
            self._slope,
            *added,
            target,
            *(stride for x in tensors for stride in _strides(x)),
            first.shape[2] * layer.upsample,
            first.shape[3] * layer.upsample,
            rows,
            columns,
            float(layer.scale),
            first_channels=channels[0],
            second_channels=channels[1],
            outputs=outputs,
            padding=layer.padding,
            upsample=layer.upsample,
            residuals=len(residuals),
            block_pixels=config.pixels,
            block_channels=config.channels,
            block_outputs=self.block,
            num_warps=WARPS,
            num_stages=config.stages,
        )

    def examples(self, shape: Shape, side: int) -> tuple[list[Tensor], list[Tensor]]:
        """Return random maps and residuals of a shape."""
        weight = self._weight
        maps = [
            _channels_last(torch.rand(1, each, side, side, device=weight.device) - 0.5)
            for each in shape.channels
            if each
        ]
        maps = [each.to(weight.dtype) for each in maps]
        residuals = [
            torch.rand_like(self.empty(maps[0]), dtype=torch.float32).to(weight.dtype)
            for _ in range(shape.residuals)
        ]
        return maps, residuals

    def empty(self, source: Tensor) -> Tensor:
        """Return memory for the result of maps like `source`, channels-last."""
        count, outputs, rows, columns = self._extent(source)
        return source.new_empty(count, rows, columns, outputs).permute(0, 3, 1, 2)

    def _extent(self, source: Tensor) -> tuple[int, int, int, int]:
        """Return the shape of the output."""
        upsample, edge = self._layer.upsample, 2 * self._layer.padding - 2
        count, _, rows, columns = source.shape
        outputs = self._layer.convolution.out_channels
        return count, outputs, rows * upsample + edge, columns * upsample + edge

    def _padded(self, values: Tensor) -> Tensor:
        """Return values in fp32, padded with zeros to whole blocks of outputs."""
        return F.pad(values.float(), (0, self._missing)).contiguous()

    def _packed_weights(self, block: int, channels: tuple[int, int]) -> Tensor:
        """Return weights as (blocks of outputs, maps, 3 rows, 3 columns, channels, outputs)."""
        key = (block, *channels)
        if key not in self._weights:
            blocks = (len(self._weight) + self._missing) // self.block
            parts: list[Tensor] = []
            for part in self._weight.permute(2, 3, 1, 0).split(list(channels), 2):
                padded = F.pad(part, (0, self._missing, 0, -part.shape[2] % block))
                split = padded.reshape(*padded.shape[:3], blocks, self.block)
                parts.append(split.permute(3, 0, 1, 2, 4).flatten(1))
            self._weights[key] = torch.cat(parts, 1).contiguous()
        return self._weights[key]


def triton_layer(autotuner: Autotuner, layer: Layer) -> LayerRun:
    """Return the layer as a Triton convolution; torch computes unsupported maps."""
    weight = layer.convolution.weight
    if weight.dtype not in HALF:
        return torch_layer(layer)
    return _Convolution(autotuner, layer)


@cache
def triton_version() -> str:
    """Return the version of Triton.

    Raises:
        KernelMissingError: Triton is not installed or does not work.
    """
    try:
        return importlib.import_module("triton").__version__
    except Exception as error:  # a broken installation may raise anything
        raise KernelMissingError(f"Triton cannot be imported: {error}") from error


def layer_maker(device: torch.device, dtype: torch.dtype) -> LayerMaker:
    """Return a function that makes layers with the Triton kernel.

    Raises:
        KernelMissingError: The kernel does not support the device or precision, or fails to load.
    """
    if dtype not in HALF:
        raise KernelMissingError("only for half precision")
    if torch.cuda.get_device_capability(device) < OLDEST_CAPABILITY:
        raise KernelMissingError("only for GPUs of compute capability 8.0 and later")
    return partial(triton_layer, autotuner(device))


@cache
def autotuner(device: torch.device) -> Autotuner:
    """Return the autotuner of a GPU, which keeps its results as long as the process runs.

    Raises:
        KernelMissingError: The kernel cannot be loaded.
    """
    del device
    triton_version()
    try:
        kernel = importlib.import_module("upscale.kernels.triton_kernel")
    except Exception as error:
        raise KernelMissingError(f"Triton cannot load the kernel: {error}") from error
    return Autotuner(kernel)


def _strides(tensor: Tensor) -> tuple[int, int, int]:
    """Return the strides of images, rows and pixels in values; 0 for the images of a single one."""
    image, _, row, pixel = tensor.stride()
    return image if tensor.shape[0] > 1 else 0, row, pixel


def _channels_last(tensor: Tensor) -> Tensor:
    if tensor.shape[1] == 1 or tensor.stride(1) == 1:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)
