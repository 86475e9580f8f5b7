"""The convolution for NVIDIA GPUs in half precision: lays weights out, and picks how it is cut.

`triton_kernel.py` computes with plain pointers; everything it assumes is made sure of here. Triton
comes with torch's builds for CUDA. Without it, or with maps that the kernel does not take, torch
computes.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale.kernels import KernelMissingError
from upscale.kernels.autotune import Stopwatch, agree, kernel_seconds
from upscale.models.layers import Layer, LayerMaker, LayerRun, join, torch_layer

HALF = frozenset({torch.float16, torch.bfloat16})
MOST_RESIDUALS = 2
LEAST_OUTPUTS, MOST_OUTPUTS = 16, 64
"""Output channels that one program computes; a power of two."""

TRIAL_SIDE = 384
"""Side of the random maps that cuts are timed on: enough programs for any GPU."""

OLDEST_CAPABILITY = (8, 0)
"""Compute capability of the first GPUs that copy into shared memory while they compute."""


@dataclass(frozen=True, slots=True)
class TileConfig:
    """How the work is cut for the GPU.

    Attributes:
        pixels: of a program's block, the outermost two shared with its neighbours; a power of two.
        channels: read at a time; a power of two, 16 at least.
        groups: blocks of channels under way at once.
    """

    pixels: int
    channels: int
    groups: int


TILE_CONFIGS = (TileConfig(128, 32, 4), TileConfig(128, 64, 3), TileConfig(256, 32, 4))
"""Few, because each takes a second to compile for each shape of layer, the first time."""

WARPS = 4
"""Of a program, 32 threads each. More than four share what the matrix units read, and Triton lets
some of them overwrite it too early (its issue 11047, closed in July 2026)."""

MOST_SUMS = WARPS * 32 * 64
"""Pixels times outputs of a program: 64 a thread, thrice, is what the registers hold."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides which cut is the fastest.

    Attributes:
        channels: of the first and of the second map; the second may have none.
        outputs: channels of the result.
        padding: see `Layer`.
        upsample: see `Layer`.
        residuals: how many are added.
    """

    channels: tuple[int, int]
    outputs: int
    padding: int
    upsample: int
    residuals: int


class Autotuner:
    """Finds the fastest cut for each shape of layer on one device, and remembers it.

    Args:
        kernel: the module `triton_kernel`.
        seconds: times a piece of work.
        side: of the random maps.
        cuts: to choose from.
    """

    def __init__(
        self,
        kernel: ModuleType,
        seconds: Stopwatch = kernel_seconds,
        side: int = TRIAL_SIDE,
        cuts: Sequence[TileConfig] = TILE_CONFIGS,
    ) -> None:
        self.convolve: Any = kernel.convolve
        self._seconds = seconds
        self._side = side
        self.cuts = cuts
        self._found: dict[Shape, TileConfig | None] = {}

    def cut(self, shape: Shape, convolution: _Convolution) -> TileConfig | None:
        """The fastest cut that is right; None where the kernel works with none."""
        if shape not in self._found:
            self._found[shape] = self._try(shape, convolution)
        return self._found[shape]

    def fitting(self, convolution: _Convolution) -> list[TileConfig]:
        """The cuts for which a program's sums fit into registers."""
        return [cut for cut in self.cuts if cut.pixels * convolution.block <= MOST_SUMS]

    def _try(self, shape: Shape, convolution: _Convolution) -> TileConfig | None:
        maps, residuals = convolution.examples(shape, self._side)
        wanted = convolution.reference(maps, residuals)
        times: dict[TileConfig, float] = {}
        for cut in self.fitting(convolution):
            target = convolution.empty(maps[0]).fill_(torch.nan)
            try:
                convolution.launch(cut, maps, residuals, target)
                if agree(target, wanted):
                    times[cut] = self._seconds(
                        lambda cut=cut, target=target: convolution.launch(
                            cut, maps, residuals, target
                        )
                    )
            except Exception:  # too little shared memory, or whatever a compiler says
                continue
        return min(times, key=times.__getitem__, default=None)


class _Convolution:
    """One layer, its weights laid out for the kernel as they are asked for."""

    def __init__(self, autotuner: Autotuner, layer: Layer) -> None:
        convolution = layer.convolution
        self.reference = torch_layer(layer)
        self._conductor = autotuner
        self._layer = layer
        self._weight = convolution.weight.detach()
        outputs = convolution.out_channels
        power = 1 << (outputs - 1).bit_length()
        self.block = min(max(power, LEAST_OUTPUTS), MOST_OUTPUTS)
        self._beyond = -outputs % self.block
        bias = convolution.bias
        zeros = self._weight.new_zeros(outputs)
        slope = torch.as_tensor(layer.slope, device=zeros.device).detach()
        self._bias = self._filled(zeros if bias is None else bias.detach())
        self._slope = self._filled(slope.expand(outputs))
        self._weights: dict[tuple[int, int, int], Tensor] = {}
        self._broken = False

    def __call__(
        self,
        maps: Sequence[Tensor],
        residuals: Sequence[Tensor] = (),
        target: Tensor | None = None,
    ) -> Tensor:
        """See `LayerRun`."""
        if len(maps) > 2:
            maps = [maps[0], join(maps[1:])]
        maps, residuals = ([_channels_last(x) for x in each] for each in (maps, residuals))
        cut = self._cut(maps, residuals, target)
        if cut is None:
            return self.reference(maps, residuals, target)
        result = self.empty(maps[0]) if target is None else target
        try:
            self.launch(cut, maps, residuals, result)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception:  # whatever it is, torch can do it
            self._broken = True
            return self.reference(maps, residuals, target)
        return result

    def _cut(
        self, maps: Sequence[Tensor], residuals: Sequence[Tensor], target: Tensor | None
    ) -> TileConfig | None:
        """How to cut these maps; None where torch has to compute."""
        if self._broken or not self._takes(maps, residuals, target):
            return None
        first, second = (*(each.shape[1] for each in maps), 0)[:2]
        shape = Shape(
            (first, second),
            self._layer.convolution.out_channels,
            self._layer.padding,
            self._layer.upsample,
            len(residuals),
        )
        return self._conductor.cut(shape, self)

    def _takes(
        self, maps: Sequence[Tensor], residuals: Sequence[Tensor], target: Tensor | None
    ) -> bool:
        """Whether the kernel can read and write these tensors."""
        weight = self._weight
        places = [*residuals, *(() if target is None else (target,))]
        output = self._extent(maps[0])
        return (
            len(residuals) <= MOST_RESIDUALS
            and min(output) > 0
            and all(x.dtype == weight.dtype for x in (*maps, *places))
            and all(x.device == weight.device for x in (*maps, *places))
            and all(x.shape[1] == 1 or x.stride(1) == 1 for x in (*maps, *places))
            and all(x.shape[2:] == maps[0].shape[2:] and len(x) == len(maps[0]) for x in maps[1:])
            and sum(x.shape[1] for x in maps) == weight.shape[1]
            and all(x.shape == output for x in places)
        )

    def launch(
        self, cut: TileConfig, maps: Sequence[Tensor], residuals: Sequence[Tensor], target: Tensor
    ) -> None:
        """Run the kernel on tensors that it takes."""
        layer, (count, outputs, rows, columns) = self._layer, target.shape
        first, second = (*maps, maps[0])[:2]
        channels = first.shape[1], second.shape[1] if len(maps) > 1 else 0
        added = (*residuals, target, target)[:MOST_RESIDUALS]
        tensors = (first, second, *added, target)
        steps = -(-(rows * (columns + 2) - 2) // (cut.pixels - 2))
        self._conductor.convolve[steps, count, -(-outputs // self.block)](
            first,
            second,
            self._laid_out(cut.channels, channels),
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
            block_pixels=cut.pixels,
            block_channels=cut.channels,
            block_outputs=self.block,
            num_warps=WARPS,
            num_stages=cut.groups,
        )

    def examples(self, shape: Shape, side: int) -> tuple[list[Tensor], list[Tensor]]:
        """Random maps and residuals of a shape."""
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
        """Memory for the result of maps like this one, channels-last."""
        count, outputs, rows, columns = self._extent(source)
        return source.new_empty(count, rows, columns, outputs).permute(0, 3, 1, 2)

    def _extent(self, source: Tensor) -> tuple[int, int, int, int]:
        """The output's shape."""
        upsample, edge = self._layer.upsample, 2 * self._layer.padding - 2
        count, _, rows, columns = source.shape
        outputs = self._layer.convolution.out_channels
        return count, outputs, rows * upsample + edge, columns * upsample + edge

    def _filled(self, values: Tensor) -> Tensor:
        """In fp32, with zeros for outputs that there are not."""
        return F.pad(values.float(), (0, self._beyond)).contiguous()

    def _laid_out(self, block: int, channels: tuple[int, int]) -> Tensor:
        """Weights as (blocks of outputs, maps, 3 rows, 3 columns, channels, outputs)."""
        key = (block, *channels)
        if key not in self._weights:
            blocks = (len(self._weight) + self._beyond) // self.block
            parts: list[Tensor] = []
            for part in self._weight.permute(2, 3, 1, 0).split(list(channels), 2):
                filled = F.pad(part, (0, self._beyond, 0, -part.shape[2] % block))
                cut = filled.reshape(*filled.shape[:3], blocks, self.block).permute(3, 0, 1, 2, 4)
                parts.append(cut.flatten(1))
            self._weights[key] = torch.cat(parts, 1).contiguous()
        return self._weights[key]


def triton_layer(autotuner: Autotuner, layer: Layer) -> LayerRun:
    """The layer by the Triton kernel; torch takes what the kernel does not."""
    weight = layer.convolution.weight
    if weight.dtype not in HALF:
        return torch_layer(layer)
    return _Convolution(autotuner, layer)


@cache
def triton_version() -> str:
    """The version of Triton.

    Raises:
        KernelMissingError: it is not there, or cannot be used.
    """
    try:
        return importlib.import_module("triton").__version__
    except Exception as error:  # a broken installation raises whatever it likes
        raise KernelMissingError(f"Triton cannot be imported: {error}") from error


def layer_maker(device: torch.device, dtype: torch.dtype) -> LayerMaker:
    """Makes layers with the Triton kernel.

    Raises:
        KernelMissingError: it is not made for this device or precision, or cannot be loaded.
    """
    if dtype not in HALF:
        raise KernelMissingError("made for half precision")
    if torch.cuda.get_device_capability(device) < OLDEST_CAPABILITY:
        raise KernelMissingError("made for GPUs of compute capability 8.0 and later")
    found = autotuner(device)
    return lambda layer: triton_layer(found, layer)


@cache
def autotuner(device: torch.device) -> Autotuner:
    """The one of a GPU: there is one for each, so that what it found is remembered.

    Raises:
        KernelMissingError: the kernel cannot be loaded.
    """
    del device
    triton_version()
    try:
        kernel = importlib.import_module("upscale.kernels.triton_kernel")
    except Exception as error:
        raise KernelMissingError(f"Triton cannot take the kernel: {error}") from error
    return Autotuner(kernel)


def _strides(tensor: Tensor) -> tuple[int, int, int]:
    """Values from an image, row and pixel to the next; there is no next of a single image."""
    image, _, row, pixel = tensor.stride()
    return image if tensor.shape[0] > 1 else 0, row, pixel


def _channels_last(tensor: Tensor) -> Tensor:
    if tensor.shape[1] == 1 or tensor.stride(1) == 1:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)
