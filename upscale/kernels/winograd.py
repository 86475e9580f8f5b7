"""The compiled convolution for CPUs: finds it, checks what it is given, and runs it.

`winograd.c` computes with plain pointers; everything it assumes is made sure of here. It is built
with the package where a compiler is at hand (`hatch_build.py`). Without it, or with maps that it
does not take, torch computes.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from ctypes import c_float, c_int64, c_void_p
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from upscale.kernels import KernelMissingError
from upscale.models.layers import Layer, LayerMaker, LayerRun, torch_layer

LIBRARIES = {"AVX2": "winograd-avx2.so", "AVX512": "winograd-avx512.so"}
"""The library for each of torch's names of a CPU's abilities."""

MULTIPLE = 16
"""What the channels of each input are a multiple of."""

MOST_INPUTS = 5
MOST_RESIDUALS = 2
POINTS = 36
STRIP = 36

STRIPS_EACH = 2
"""Strips that make it worth while to start a thread."""


class _Map(ctypes.Structure):
    """`struct map` of `winograd.c`."""

    _fields_ = (("data", c_void_p), ("row", c_int64), ("pixel", c_int64), ("channels", c_int64))


class _Job(ctypes.Structure):
    """`struct job` of `winograd.c`."""

    _fields_ = (
        ("inputs", _Map * MOST_INPUTS),
        ("residuals", _Map * MOST_RESIDUALS),
        *((name, c_int64) for name in ("input_count", "residual_count", "height", "width")),
        *((name, c_int64) for name in ("doublings", "padding", "channels", "outputs", "panels")),
        *((name, c_void_p) for name in ("weights", "bias", "slope")),
        ("scale", c_float),
        ("output", c_void_p),
        *((name, c_int64) for name in ("output_row", "output_pixel", "rows", "columns")),
        ("transformed", c_void_p),
        ("workspace", c_void_p),
        *((name, c_int64) for name in ("workspace_size", "channel", "ready", "strip", "worker")),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """The compiled convolution for one kind of CPU.

    Attributes:
        functions: `winograd.c`, loaded.
        panel: output channels that it computes together.
    """

    functions: ctypes.CDLL
    panel: int
    _scratch: threading.local = field(default_factory=threading.local)

    @staticmethod
    def load(capability: str) -> Library:
        """The library for a CPU, named as torch names its abilities.

        Raises:
            KernelMissingError: it was not built, or from other sources, or the CPU is none of
                those that it is made for.
        """
        if capability not in LIBRARIES:
            raise KernelMissingError(f"made for CPUs with AVX2 or AVX-512, not for {capability}")
        path = Path(__file__).with_name(LIBRARIES[capability])
        try:
            functions = ctypes.CDLL(str(path))
            for name in ("job_size", "panel_size", "workspace_size"):
                getattr(functions, name).restype = c_int64
            size = functions.job_size()
        except (OSError, AttributeError) as error:
            raise KernelMissingError(f"{path.name} cannot be loaded: {error}") from error
        if size != ctypes.sizeof(_Job):
            raise KernelMissingError(f"{path.name} was built from other sources: install again")
        return Library(functions, functions.panel_size())

    def scratch(self, size: int) -> Tensor:
        """Memory for one job of the calling thread, kept because new memory costs time."""
        kept = getattr(self._scratch, "memory", None)
        if kept is None or len(kept) < size:
            kept = self._scratch.memory = torch.empty(size)
        return kept


def layer_maker() -> LayerMaker:
    """Makes layers with the compiled convolution.

    Raises:
        KernelMissingError: there is none for this CPU.
    """
    return partial(winograd_layer, Library.load(torch.backends.cpu.get_cpu_capability()))


def winograd_layer(library: Library, layer: Layer) -> LayerRun:
    """The layer by Winograd's algorithm; torch takes what the kernel does not.

    The layer's weights are laid out anew.
    """
    reference = torch_layer(layer)
    weight = layer.convolution.weight
    if weight.dtype != torch.float32 or weight.device.type != "cpu" or weight.shape[1] % MULTIPLE:
        return reference
    kernel = _Kernel(library, layer)

    def run(
        maps: Sequence[Tensor], residuals: Sequence[Tensor] = (), target: Tensor | None = None
    ) -> Tensor:
        maps, residuals = ([_channels_last(x) for x in each] for each in (maps, residuals))
        compute = kernel.compute if kernel.takes(maps, residuals, target) else reference
        return compute(maps, residuals, target)

    return run


class _Kernel:
    """One layer's weights, laid out for the kernel; the network's own become a view of them."""

    def __init__(self, library: Library, layer: Layer) -> None:
        convolution = layer.convolution
        self._library = library
        self._layer = layer
        self._outputs, self._channels = convolution.weight.shape[:2]
        self._panels = -(-self._outputs // library.panel)
        self._beyond = self._panels * library.panel - self._outputs
        self._weights = self._padded(convolution.weight.detach().permute(2, 3, 1, 0))
        if not self._beyond:
            convolution.weight.data = self._weights.permute(3, 2, 0, 1)
        bias = convolution.bias
        self._bias = self._padded(torch.zeros(self._outputs) if bias is None else bias.detach())
        slope = torch.as_tensor(layer.slope, dtype=torch.float32)
        self._slope = self._padded(slope.detach().expand(self._outputs))
        self._workspace_size: int = library.functions.workspace_size(c_int64(self._panels))

    def _padded(self, values: Tensor) -> Tensor:
        """With zeros for the outputs that fill up the last panel."""
        return F.pad(values, (0, self._beyond)).contiguous()

    def takes(
        self, maps: Sequence[Tensor], residuals: Sequence[Tensor], target: Tensor | None
    ) -> bool:
        """Whether the kernel can read and write these tensors."""
        tensors = [*maps, *residuals, *(() if target is None else (target,))]
        places = tensors[len(maps) :]
        output = (self._outputs, *self._extent(maps[0]))
        return (
            len(maps) <= MOST_INPUTS
            and len(residuals) <= MOST_RESIDUALS
            and min(output) > 0
            and all(tensor.dtype == torch.float32 for tensor in tensors)
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
        """See `LayerRun`."""
        rows, columns = self._extent(maps[0])
        if target is None:
            target = torch.empty(1, rows, columns, self._outputs).permute(0, 3, 1, 2)
        strips = -(-rows // 4) * -(-columns // 4) // STRIP
        threads = max(min(torch.get_num_threads(), strips // STRIPS_EACH), 1)
        transformed = POINTS * self._weights[0, 0].numel()
        scratch = self._library.scratch(transformed + threads * self._workspace_size)
        job = self._job(maps, residuals, target)
        job.transformed = scratch.data_ptr()
        job.workspace = job.transformed + transformed * scratch.itemsize
        self._library.functions.run(ctypes.byref(job), c_int64(threads))
        return target

    def _job(self, maps: Sequence[Tensor], residuals: Sequence[Tensor], target: Tensor) -> _Job:
        enlarge = self._layer.enlarge
        output = _map(target)
        return _Job(
            inputs=tuple(_map(tensor) for tensor in maps),
            residuals=tuple(_map(tensor) for tensor in residuals),
            input_count=len(maps),
            residual_count=len(residuals),
            height=maps[0].shape[2] * enlarge,
            width=maps[0].shape[3] * enlarge,
            doublings=enlarge - 1,
            padding=self._layer.padding,
            channels=self._channels,
            outputs=self._outputs,
            panels=self._panels,
            weights=self._weights.data_ptr(),
            bias=self._bias.data_ptr(),
            slope=self._slope.data_ptr(),
            scale=self._layer.scale,
            output=output.data,
            output_row=output.row,
            output_pixel=output.pixel,
            rows=target.shape[2],
            columns=target.shape[3],
            workspace_size=self._workspace_size,
        )

    def _extent(self, source: Tensor) -> tuple[int, int]:
        """Rows and columns of the output."""
        enlarge, edge = self._layer.enlarge, 2 * self._layer.padding - 2
        return source.shape[2] * enlarge + edge, source.shape[3] * enlarge + edge


def _channels_last(tensor: Tensor) -> Tensor:
    if tensor.stride(1) == 1:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)


def _map(tensor: Tensor) -> _Map:
    """Where a (1, C, h, w) tensor with adjacent channels lies."""
    return _Map(tensor.data_ptr(), tensor.stride(2), tensor.stride(3), tensor.shape[1])
