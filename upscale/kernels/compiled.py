"""Compiled convolutions for CPUs: loading, checking of arguments, and calls.

`amx.c` and `winograd.c` work on plain pointers; this module checks everything that they assume.
They are compiled with the package if a compiler is available (`hatch_build.py`). Without them, and
for maps that they do not support, torch computes.
"""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Sequence
from contextlib import suppress
from ctypes import c_float, c_int64, c_void_p
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale.kernels import KernelMissingError
from upscale.models.layers import Layer, LayerRun, torch_layer

AMX = "AMX"
"""Matrix registers for bfloat16, which Linux has to enable for a process."""

NEON = "NEON"
"""Vector registers that every 64-bit ARM CPU has."""

BF16 = "with bf16 maps"
"""Suffix of the libraries that compute in fp32 and keep feature maps and weights in bfloat16."""

LIBRARIES = {
    AMX: "amx.so",
    "AVX512": "winograd-avx512.so",
    "AVX2": "winograd-avx2.so",
    NEON: "winograd-neon.so",
    f"AVX512 {BF16}": "winograd-avx512-bf16.so",
    f"AVX2 {BF16}": "winograd-avx2-bf16.so",
}
"""Library file for each CPU capability; those for x86-64 have torch's names, except for AMX."""

MULTIPLE = 16
"""Divisor of the number of channels of each input."""

MAX_INPUTS = 5
MAX_RESIDUALS = 2
MAX_KEPT = 1 << 24
"""Largest reusable buffer that is kept, in values."""

PIXELS_EACH = 1152
"""Output pixels that justify another thread."""


class _Map(ctypes.Structure):
    """A map: `struct map` of `layer.h`."""

    _fields_ = (("data", c_void_p), ("row", c_int64), ("pixel", c_int64), ("channels", c_int64))


class _Job(ctypes.Structure):
    """A layer to compute: `struct job` of `layer.h`."""

    _fields_ = (
        ("inputs", _Map * MAX_INPUTS),
        ("residuals", _Map * MAX_RESIDUALS),
        *((name, c_int64) for name in ("input_count", "residual_count", "height", "width")),
        *((name, c_int64) for name in ("doublings", "padding", "channels", "outputs", "panels")),
        *((name, c_void_p) for name in ("weights", "bias", "slope")),
        ("scale", c_float),
        ("output", c_void_p),
        *((name, c_int64) for name in ("output_row", "output_pixel", "rows", "columns")),
        ("workspace", c_void_p),
        *((name, c_int64) for name in ("workspace_size", "threads", "worker", "strip")),
    )


class _ReusableBuffer(threading.local):
    """A buffer per thread that is kept, because the first use of new memory is slow."""

    def __init__(self) -> None:
        self._values = torch.empty(0)

    def memory(self, size: int, dtype: torch.dtype) -> Tensor:
        """Return memory for `size` values; it may overlap with earlier results."""
        if len(self._values) < size or self._values.dtype != dtype:
            self._values = torch.empty(size, dtype=dtype)
        return self._values[:size]


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """A compiled convolution for one kind of CPU.

    Attributes:
        ability: Required CPU capability, one of `LIBRARIES`.
        functions: Loaded library.
        panel: Number of output channels that it computes together.
    """

    ability: str
    functions: ctypes.CDLL
    panel: int
    _scratch: _ReusableBuffer = field(default_factory=_ReusableBuffer)

    @staticmethod
    def load(ability: str) -> Library:
        """Load the library for a CPU capability.

        Raises:
            KernelMissingError: The library was not built, was built from other sources, or does
                not run on this CPU.
        """
        if ability not in LIBRARIES:
            raise KernelMissingError(f"made for AVX2, AVX-512 and NEON, not for {ability}")
        path = Path(__file__).with_name(LIBRARIES[ability])
        try:
            functions = ctypes.CDLL(str(path))
            for name in ("job_size", "panel_size", "workspace_size", "ready"):
                getattr(functions, name).restype = c_int64
            size = functions.job_size()
        except (OSError, AttributeError) as error:
            raise KernelMissingError(f"{path.name} cannot be loaded: {error}") from error
        if size != ctypes.sizeof(_Job):
            raise KernelMissingError(
                f"{path.name} was built from other sources: reinstall the package"
            )
        if not functions.ready():
            raise KernelMissingError(f"this CPU or its operating system does not support {ability}")
        return Library(ability, functions, functions.panel_size())

    @property
    def dtype(self) -> torch.dtype:
        """Type of the maps that it supports."""
        is_bf16 = self.ability == AMX or self.ability.endswith(BF16)
        return torch.bfloat16 if is_bf16 else torch.float32

    def workspace_size(self, channels: int, panels: int) -> int:
        """Return the workspace of each thread in floats."""
        return self.functions.workspace_size(c_int64(channels), c_int64(panels))

    def pack_weights(self, weight: Tensor) -> Tensor:
        """Return (outputs, inputs, 3, 3) weights in the library's layout, padded with zeros."""
        outputs, inputs = weight.shape[:2]
        side = 2 * MULTIPLE if self.ability == AMX else MULTIPLE
        weight = F.pad(weight, (0, 0, 0, 0, 0, -inputs % side, 0, -outputs % self.panel))
        if self.ability == AMX:
            parts = weight.unflatten(1, (-1, MULTIPLE, 2)).unflatten(0, (-1, self.panel))
            return parts.permute(0, 2, 5, 6, 3, 1, 4).contiguous()
        return weight.permute(2, 3, 1, 0).contiguous()

    def scratch(self, size: int) -> Tensor:
        """Return the scratch memory of the calling thread."""
        return self._scratch.memory(size, torch.float32)


def cpu_capability() -> str:
    """Return what this CPU can do: `NEON` on 64-bit ARM, elsewhere torch's name for it."""
    if platform.machine().lower() in {"aarch64", "arm64"}:
        return NEON
    return torch.backends.cpu.get_cpu_capability()


def library_for(dtype: torch.dtype) -> Library:
    """Return the fastest library of this CPU for maps of a type.

    Raises:
        KernelMissingError: There is none.
    """
    capability = cpu_capability()
    if dtype == torch.float32:
        return Library.load(capability)
    if dtype == torch.bfloat16:
        with suppress(KernelMissingError):
            return Library.load(AMX)
        return Library.load(f"{capability} {BF16}")
    raise KernelMissingError(f"only for fp32 and bf16, not for {dtype}")


def compiled_layer(library: Library, layer: Layer) -> LayerRun:
    """Return the layer as a compiled convolution; torch computes unsupported maps.

    The memory of the layer's weights may be replaced by a view of the packed weights.
    """
    reference = torch_layer(layer)
    weight = layer.convolution.weight
    if weight.dtype != library.dtype or weight.device.type != "cpu":
        return reference
    kernel = _Kernel(library, layer)

    def run(
        maps: Sequence[Tensor], residuals: Sequence[Tensor] = (), target: Tensor | None = None
    ) -> Tensor:
        maps, residuals = ([_channels_last(x) for x in each] for each in (maps, residuals))
        fitting = [_pad_channels(maps[0])] if len(maps) == 1 else maps
        if kernel.supports(fitting, residuals, target):
            return kernel.compute(fitting, residuals, target)
        return reference(maps, residuals, target)

    return run


class _Kernel:
    """A layer with packed weights; the network's own weights become a view of them."""

    def __init__(self, library: Library, layer: Layer) -> None:
        convolution = layer.convolution
        self._library = library
        self._layer = layer
        self._dtype = convolution.weight.dtype
        self._outputs, inputs = convolution.weight.shape[:2]
        self._channels = inputs + -inputs % MULTIPLE
        self._panels = -(-self._outputs // library.panel)
        self._weights = library.pack_weights(convolution.weight.detach())
        if self._weights.numel() == convolution.weight.numel() and library.ability != AMX:
            convolution.weight.data = self._weights.permute(3, 2, 0, 1)
        bias = convolution.bias
        self._bias = self._padded(torch.zeros(self._outputs) if bias is None else bias.detach())
        slope = torch.as_tensor(layer.slope, dtype=torch.float32)
        self._slope = self._padded(slope.detach().expand(self._outputs))
        self._workspace_size = library.workspace_size(self._channels, self._panels)
        self._constant_job = bytes(self._job())
        self._reusable = _ReusableBuffer()

    def _padded(self, values: Tensor) -> Tensor:
        """Return values in fp32, padded with zeros to whole panels."""
        missing = self._panels * self._library.panel - self._outputs
        return F.pad(values.float(), (0, missing)).contiguous()

    def _job(self) -> _Job:
        """Return the fields of the job that are the same in each run."""
        return _Job(
            doublings=self._layer.upsample - 1,
            padding=self._layer.padding,
            channels=self._channels,
            outputs=self._outputs,
            panels=self._panels,
            weights=self._weights.data_ptr(),
            bias=self._bias.data_ptr(),
            slope=self._slope.data_ptr(),
            scale=self._layer.scale,
            workspace_size=self._workspace_size,
        )

    def supports(
        self, maps: Sequence[Tensor], residuals: Sequence[Tensor], target: Tensor | None
    ) -> bool:
        """Return whether the kernel can read and write these tensors."""
        tensors = [*maps, *residuals, *(() if target is None else (target,))]
        places = tensors[len(maps) :]
        output = (self._outputs, *self._extent(maps[0]))
        return (
            len(maps) <= MAX_INPUTS
            and len(residuals) <= MAX_RESIDUALS
            and min(output) > 0
            and all(tensor.dtype == self._dtype for tensor in tensors)
            and all(tensor.device.type == "cpu" and len(tensor) == 1 for tensor in tensors)
            and all(tensor.stride(1) == 1 for tensor in tensors)
            and all(tensor.shape[1] % MULTIPLE == 0 for tensor in maps)
            and all(tensor.shape[2:] == maps[0].shape[2:] for tensor in maps)
            and sum(tensor.shape[1] for tensor in maps) == self._channels
            and all(tensor.shape[1:] == output for tensor in places)
        )

    def compute(
        self, maps: Sequence[Tensor], residuals: Sequence[Tensor], target: Tensor | None
    ) -> Tensor:
        """Compute the layer; see `LayerRun`."""
        rows, columns = self._extent(maps[0])
        if target is None:
            target = self._result(rows, columns)
        job = _Job.from_buffer_copy(self._constant_job)
        job.input_count, job.residual_count = len(maps), len(residuals)
        for places, tensors in ((job.inputs, maps), (job.residuals, residuals)):
            for i, tensor in enumerate(tensors):
                places[i] = _map(tensor)
        upsample = self._layer.upsample
        job.height, job.width = maps[0].shape[2] * upsample, maps[0].shape[3] * upsample
        job.output, job.output_pixel = target.data_ptr(), target.stride(3)
        job.output_row, job.rows, job.columns = target.stride(2), rows, columns
        job.threads = max(min(torch.get_num_threads(), rows * columns // PIXELS_EACH), 1)
        scratch = self._library.scratch(job.threads * self._workspace_size)
        job.workspace = scratch.data_ptr()
        self._library.functions.run(ctypes.byref(job), c_int64(job.threads))
        return target

    def _result(self, rows: int, columns: int) -> Tensor:
        """Return an uninitialised (1, outputs, rows, columns) tensor, channels-last."""
        size = rows * columns * self._outputs
        if self._layer.reusable and size <= MAX_KEPT:
            memory = self._reusable.memory(size, self._dtype)
        else:
            memory = torch.empty(size, dtype=self._dtype)
        return memory.view(1, rows, columns, self._outputs).permute(0, 3, 1, 2)

    def _extent(self, source: Tensor) -> tuple[int, int]:
        """Return the rows and columns of the output."""
        upsample, edge = self._layer.upsample, 2 * self._layer.padding - 2
        return source.shape[2] * upsample + edge, source.shape[3] * upsample + edge


def _channels_last(tensor: Tensor) -> Tensor:
    if tensor.stride(1) == 1:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)


def _pad_channels(tensor: Tensor) -> Tensor:
    """Return a tensor with zero channels added up to the next multiple, as images need it."""
    missing = -tensor.shape[1] % MULTIPLE
    return _channels_last(F.pad(tensor, (0, 0, 0, 0, 0, missing))) if missing else tensor


def _map(tensor: Tensor) -> _Map:
    """Return the pointer and strides of a (1, C, h, w) tensor with adjacent channels."""
    return _Map(tensor.data_ptr(), tensor.stride(2), tensor.stride(3), tensor.shape[1])
