"""The Triton convolutions for NVIDIA GPUs in half precision: weights, launches, fallback to torch.

The kernels work on plain pointers; this module checks everything that they assume. Triton comes
with torch's builds for CUDA. Without it, and for maps that the kernels do not support, torch
computes.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale.files.error_mapping import one_line
from upscale.kernels import KernelMissingError
from upscale.kernels.tile_configs import WARPS, Card, Shape, TileConfig
from upscale.kernels.verdicts import Verdict, Verdicts
from upscale.models.layers import Layer, LayerRun, join, torch_layer
from upscale.out_of_memory import is_out_of_memory

HALF = frozenset({torch.float16, torch.bfloat16})
MAX_RESIDUALS = 2
MAX_OUTPUTS = 64
"""Largest number of output channels that one program computes."""

ALIGNED_CHANNELS = 16
"""Channels that are read together. Triton reads single values of maps whose pixels are not a
multiple of 16 values apart, such as those of an image."""

SOURCES = ("tile_configs", "triton_conv", "triton_kernel", "triton_two_rows")
"""Modules that decide what the kernels compute."""

OLDEST_CAPABILITY = (8, 0)
"""First compute capability with asynchronous copies to shared memory."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """The compiled kernels.

    Attributes:
        one_row: `triton_kernel.convolve`.
        two_rows: `triton_two_rows.convolve_two_rows`.
    """

    one_row: Any
    two_rows: Any


@dataclass(slots=True)
class KernelUse:
    """Which layers the kernels compute, and what became of it.

    Attributes:
        kernels: The kernels.
        verdicts: Verdict for each shape; torch computes the shapes that are missing.
        shapes: All shapes that were computed, by the kernels or by torch.
        used: Shapes that a kernel has computed.
        failures: Reasons for no longer using a kernel, by shape.
    """

    kernels: Kernels
    verdicts: Verdicts = field(default_factory=dict[Shape, Verdict])
    shapes: set[Shape] = field(default_factory=set[Shape])
    used: set[Shape] = field(default_factory=set[Shape])
    failures: dict[Shape, str] = field(default_factory=dict[Shape, str])

    def config(self, shape: Shape) -> TileConfig | None:
        """Return the tile config for a shape, or None if torch has to compute."""
        self.shapes.add(shape)
        verdict = self.verdicts.get(shape)
        return None if verdict is None or shape in self.failures else verdict.config

    @property
    def reason(self) -> str | None:
        """Why torch computes some or all shapes; None if kernels compute all of them."""
        reasons = {
            shape: verdict.reason
            for shape, verdict in self.verdicts.items()
            if shape in self.shapes and verdict.config is None
        }
        reasons |= self.failures
        if not reasons:
            return None
        texts = "; ".join(sorted(set(reasons.values())))
        return f"torch computes {len(reasons)} of {len(self.shapes)} layer shapes: {texts}"


class TritonLayer:
    """A layer whose weights are packed for the kernels on first use.

    Args:
        use: Choice of the kernels.
        layer: Layer to compute.
    """

    def __init__(self, use: KernelUse, layer: Layer) -> None:
        convolution = layer.convolution
        self.reference = torch_layer(layer)
        self._use = use
        self._layer = layer
        self._weight = convolution.weight.detach()
        outputs = convolution.out_channels
        bias = convolution.bias
        zeros = self._weight.new_zeros(outputs)
        slope = torch.as_tensor(layer.slope, device=zeros.device).detach()
        self._bias = _padded(zeros if bias is None else bias.detach())
        self._slope = _padded(slope.expand(outputs))
        self._weights: dict[tuple[int, ...], Tensor] = {}

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
        if not self._supports(maps, residuals, target):
            return self.reference(maps, residuals, target)
        shape = self.shape(maps, residuals)
        config = self._use.config(shape)
        if config is None:
            return self.reference(maps, residuals, target)
        result = self.empty(maps[0]) if target is None else target
        try:
            self.launch(config, maps, residuals, result)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self._use.failures[shape] = one_line(error)
            return self.reference(maps, residuals, target)
        self._use.used.add(shape)
        return result

    def shape(self, maps: Sequence[Tensor], residuals: Sequence[Tensor]) -> Shape:
        """Return the shape of the layer with one or two maps and with residuals."""
        layer, (first, second) = self._layer, (*(each.shape[1] for each in maps), 0)[:2]
        return Shape(
            (first, second),
            layer.convolution.out_channels,
            layer.padding,
            layer.upsample,
            len(residuals),
            str(self._weight.dtype).removeprefix("torch."),
        )

    def _supports(
        self, maps: Sequence[Tensor], residuals: Sequence[Tensor], target: Tensor | None
    ) -> bool:
        """Return whether the kernels can read and write these tensors."""
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
        """Run a kernel on tensors that it supports."""
        layer, (count, outputs, rows, columns) = self._layer, target.shape
        shape = self.shape(maps, residuals)
        channels, block = config.block_channels(shape), config.block_outputs(outputs)
        weights = self._packed_weights(config.rows, channels, block, shape.channels)
        first, *others = (_aligned(each) for each in maps)
        second, second_channels = (others[0], others[0].shape[1]) if others else (first, 0)
        added = (*residuals, target, target)[:MAX_RESIDUALS]
        pixels = -(-rows // config.rows) * (columns + 2) - 2
        programs = -(-pixels // ((config.pixels - 2) * config.blocks))
        kernel, options = self._kernel(config)
        kernel[programs, count, -(-outputs // block)](
            first,
            second,
            weights,
            self._bias,
            self._slope,
            *added,
            target,
            *(stride for x in (first, second, *added, target) for stride in _strides(x)),
            first.shape[2] * layer.upsample,
            first.shape[3] * layer.upsample,
            rows,
            columns,
            float(layer.scale),
            first_channels=first.shape[1],
            second_channels=second_channels,
            outputs=outputs,
            padding=layer.padding,
            upsample=layer.upsample,
            residuals=len(residuals),
            block_pixels=config.pixels,
            block_channels=channels,
            block_outputs=block,
            num_warps=WARPS,
            **options,
        )

    def _kernel(self, config: TileConfig) -> tuple[Any, dict[str, int]]:
        """Return the kernel of a tile config, and the options that only this kernel has."""
        if config.rows == 1:
            return self._use.kernels.one_row, {"num_stages": config.stages}
        return self._use.kernels.two_rows, {"blocks": config.blocks, "stages": config.stages}

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

    def _packed_weights(
        self, rows: int, block: int, block_outputs: int, channels: tuple[int, int]
    ) -> Tensor:
        """Return weights in the order of the kernel that computes so many rows at once."""
        key = (rows, block, block_outputs, *channels)
        if key not in self._weights:
            pack = _packed_by_map if rows == 1 else _packed_by_chunk
            parts: list[Tensor] = []
            for part in self._weight.permute(2, 3, 1, 0).split(list(channels), 2):
                missing = -part.shape[3] % block_outputs
                padded = F.pad(part, (0, missing, 0, -part.shape[2] % block))
                parts.append(pack(padded.unflatten(3, (-1, block_outputs)), block))
            self._weights[key] = torch.cat(parts, 1).contiguous()
        return self._weights[key]


def triton_layer(use: KernelUse, layer: Layer) -> LayerRun:
    """Return the layer as a Triton convolution; torch computes unsupported maps."""
    if layer.convolution.weight.dtype not in HALF:
        return torch_layer(layer)
    return TritonLayer(use, layer)


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


def card_of(device: torch.device, dtype: torch.dtype) -> Card:
    """Return the card of a CUDA device.

    Raises:
        KernelMissingError: The kernels do not support the card or the precision, or Triton is
            missing.
    """
    if dtype not in HALF:
        raise KernelMissingError("only for half precision")
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST_CAPABILITY:
        raise KernelMissingError("only for GPUs of compute capability 8.0 and later")
    triton = triton_version()
    facts = torch.cuda.get_device_properties(device)
    versions = (torch.__version__, triton, _ptxas_version(capability), _sources())
    return Card(facts.name, capability, facts.shared_memory_per_block_optin, versions)


def load_kernels() -> Kernels:
    """Import the kernels.

    Raises:
        KernelMissingError: Triton is missing or rejects them.
    """
    triton_version()
    try:
        one = importlib.import_module("upscale.kernels.triton_kernel")
        two = importlib.import_module("upscale.kernels.triton_two_rows")
    except Exception as error:
        raise KernelMissingError(f"Triton cannot load the kernels: {error}") from error
    return Kernels(one.convolve, two.convolve_two_rows)


def _ptxas_version(capability: tuple[int, int]) -> str:
    """Return the version of the assembler for a card; every Triton may name it differently."""
    try:
        nvidia = importlib.import_module("triton").knobs.nvidia
        tool = nvidia.ptxas_blackwell if capability >= (10, 0) else nvidia.ptxas
        return str(tool.version)
    except Exception:
        return "unknown"


def _sources() -> str:
    """Return a digest of the modules that decide what the kernels compute."""
    digest = sha256()
    for name in SOURCES:
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()[:16]


def _packed_by_map(part: Tensor, _: int) -> Tensor:
    """Return (blocks of outputs, 3 rows x 3 columns x channels x outputs)."""
    return part.permute(3, 0, 1, 2, 4).flatten(1)


def _packed_by_chunk(part: Tensor, block: int) -> Tensor:
    """Return (blocks of outputs, chunks of channels x 3 rows x taps).

    Taps are the left and middle columns side by side, as (channels, 2 x outputs), then the right
    column, as (channels, outputs).
    """
    chunks = part.unflatten(2, (-1, block)).permute(4, 2, 0, 1, 3, 5)
    pair = chunks[:, :, :, :2].transpose(3, 4).flatten(3)
    return torch.cat([pair, chunks[:, :, :, 2].flatten(3)], 3).flatten(1)


def _padded(values: Tensor) -> Tensor:
    """Return values in fp32, padded with zeros to whole blocks of outputs."""
    return F.pad(values.float(), (0, -len(values) % MAX_OUTPUTS)).contiguous()


def _strides(tensor: Tensor) -> tuple[int, int, int]:
    """Return the strides of images, rows and pixels in values; 0 for the images of a single one."""
    image, _, row, pixel = tensor.stride()
    return image if tensor.shape[0] > 1 else 0, row, pixel


def _channels_last(tensor: Tensor) -> Tensor:
    if tensor.shape[1] == 1 or tensor.stride(1) == 1:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)


def _aligned(tensor: Tensor) -> Tensor:
    """Return a channels-last map with zeros after its channels if they are not aligned."""
    missing = -tensor.shape[1] % ALIGNED_CHANNELS
    if not missing:
        return tensor
    return F.pad(tensor.permute(0, 2, 3, 1), (0, missing)).permute(0, 3, 1, 2)
