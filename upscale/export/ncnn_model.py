"""Write a network as ncnn's `.param` and `.bin`.

`upscale.checkpoints.ncnn` describes the files. Programs such as realesrgan-ncnn-vulkan expect the
names `data` and `output` for the input and the output.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from upscale.checkpoints.ncnn import FP16_TAG, FP32_TAG, PARAM_MAGIC
from upscale.export.graph import (
    IMAGE,
    Binary,
    Channels,
    Concat,
    Convolution,
    Graph,
    Mean,
    Operation,
    Resample,
    Slope,
    Unary,
)

INPUT, OUTPUT = "data", "output"

_KINDS = {"add": 0, "sub": 1, "mul": 2, "div": 3}
_MIRRORED = {"add": 0, "sub": 7, "mul": 2, "div": 8}
"""Calculations with the operands exchanged."""

_FUNCTIONS = {
    "relu": ("ReLU", ""),
    "sigmoid": ("Sigmoid", ""),
    "silu": ("Swish", ""),
    "mish": ("Mish", ""),
    "square": ("UnaryOp", "0=4"),
    "sqrt": ("UnaryOp", "0=5"),
}


def ncnn_model(graph: Graph, *, half: bool = False) -> tuple[str, bytes]:
    """Return a network as the contents of a `.param` and a `.bin` file.

    The input is in 0..1. The sides of the image must be multiples of the network's pixel-unshuffle.

    Args:
        graph: Operations of the network.
        half: Whether the weights of convolutions are stored in fp16.
    """
    writer = _Writer(_reader_counts(graph), half)
    writer.begin(graph)
    operations = list(graph.operations)
    while operations:
        operation = operations.pop(0)
        follower = operations[0] if operations else None
        if isinstance(operation, Convolution) and writer.can_join(operation, follower):
            operations.pop(0)
            writer.convolution(operation, follower)
        else:
            writer.add(operation)
    return writer.text(), bytes(writer.weights)


def _sources(operation: Operation) -> tuple[str, ...]:
    """Return the names that an operation reads."""
    if isinstance(operation, Concat):
        return operation.sources
    if isinstance(operation, Binary):
        return tuple(each for each in (operation.left, operation.right) if isinstance(each, str))
    return (operation.source,)


def _reader_counts(graph: Graph) -> Counter[str]:
    """Return how often each result is read."""
    return Counter(name for operation in graph.operations for name in _sources(operation))


@dataclass(slots=True)
class _Writer:
    """Collects lines and weights; a result that is read several times is split, as ncnn asks."""

    readers: Counter[str]
    half: bool
    weights: bytearray = field(default_factory=bytearray)
    _lines: list[str] = field(default_factory=list[str])
    _blobs: int = 0
    _read: Counter[str] = field(default_factory=Counter[str])
    _output: str = ""

    def begin(self, graph: Graph) -> None:
        """Write the input and the constants."""
        self._output = graph.output
        self._layer("Input", IMAGE, (), IMAGE)
        for name, tensor in graph.constants.items():
            channels, height, width = tensor.shape
            settings = f"0={width} 1={height} 2={channels}"
            self._layer("MemoryData", name, (), name, settings)
            self.weights += _packed(tensor, "<f4")

    def text(self) -> str:
        """Return the content of the `.param` file."""
        head = [PARAM_MAGIC.decode(), f"{len(self._lines)} {self._blobs}"]
        return "\n".join([*head, *self._lines]) + "\n"

    def can_join(self, operation: Convolution, follower: Operation | None) -> bool:
        """Return whether the leaky ReLU after a convolution can be part of its layer."""
        return (
            isinstance(follower, Slope)
            and isinstance(follower.slope, float)
            and follower.source == operation.result
            and self.readers[operation.result] == 1
        )

    def add(self, operation: Operation) -> None:
        """Write an operation."""
        match operation:
            case Convolution():
                self.convolution(operation)
            case Slope():
                self._slope(operation)
            case Unary():
                kind, settings = _FUNCTIONS[operation.kind]
                self._layer(kind, operation.result, (operation.source,), operation.result, settings)
            case Binary():
                self._binary(operation)
            case Mean():
                self._mean(operation)
            case Concat():
                self._layer("Concat", operation.result, operation.sources, operation.result, "0=0")
            case Channels():
                self._channels(operation)
            case Resample():
                self._resample(operation)

    def convolution(self, each: Convolution, follower: Operation | None = None) -> None:
        """Write a convolution, with the leaky ReLU that follows it."""
        outputs, side = each.weight.shape[0], each.weight.shape[2]
        settings = f"0={outputs} 1={side} 4={side // 2} 5=1 6={each.weight.numel()}"
        result = each.result
        if isinstance(follower, Slope):
            settings += f" 9=2 -23310=1,{follower.slope:e}"
            result = follower.result
        self._layer("Convolution", each.layer, (each.source,), result, settings)
        tag, kind = (FP16_TAG, "<f2") if self.half else (FP32_TAG, "<f4")
        weights = _packed(each.weight, kind)
        self.weights += struct.pack("<I", tag) + weights + b"\0" * (-len(weights) % 4)
        self.weights += _packed(each.bias, "<f4")

    def _slope(self, each: Slope) -> None:
        if not isinstance(each.slope, Tensor):
            self._layer("ReLU", each.result, (each.source,), each.result, f"0={each.slope:e}")
            return
        self._layer("PReLU", each.result, (each.source,), each.result, f"0={len(each.slope)}")
        self.weights += _packed(each.slope, "<f4")

    def _binary(self, each: Binary) -> None:
        names = _sources(each)
        if each.factor != 1:
            settings = f"0=1 -23301=2,{1:e},{each.factor:e}"
            self._layer("Eltwise", each.result, names, each.result, settings)
        elif len(names) == 2:
            settings = f"0={_KINDS[each.kind]}"
            self._layer("BinaryOp", each.result, names, each.result, settings)
        else:
            is_left = isinstance(each.left, str)
            kind = (_KINDS if is_left else _MIRRORED)[each.kind]
            number = each.right if is_left else each.left
            settings = f"0={kind} 1=1 2={number:e}"
            self._layer("BinaryOp", each.result, names, each.result, settings)

    def _mean(self, each: Mean) -> None:
        axes = ",".join(str(axis - 1) for axis in each.axes)  # ncnn does not count the batch
        settings = f"0=3 1=0 -23303={len(each.axes)},{axes} 4=1 5=1"
        self._layer("Reduction", each.result, (each.source,), each.result, settings)

    def _channels(self, each: Channels) -> None:
        settings = f"-23309=1,{each.start} -23310=1,{each.stop} -23311=1,0"
        self._layer("Crop", each.result, (each.source,), each.result, settings)

    def _resample(self, each: Resample) -> None:
        kind, settings = {
            "nearest": ("Interp", f"0=1 1={each.factor:e} 2={each.factor:e}"),
            "shuffle": ("PixelShuffle", f"0={each.factor}"),
            "unshuffle": ("Reorg", f"0={each.factor}"),
        }[each.kind]
        self._layer(kind, each.result, (each.source,), each.result, settings)

    def _layer(
        self, kind: str, name: str, sources: Sequence[str], result: str, settings: str = ""
    ) -> None:
        inputs = [self._next_copy(source) for source in sources]
        blob = self._blob(result)
        self._line(kind, name, inputs, [blob], settings)
        count = self.readers[result]
        if count > 1:
            copies = [f"{blob}_{number}" for number in range(count)]
            self._line("Split", f"split_{blob}", [blob], copies, "")

    def _blob(self, result: str) -> str:
        return {IMAGE: INPUT, self._output: OUTPUT}.get(result, result)

    def _next_copy(self, source: str) -> str:
        """Return the name under which the next reader of a result finds it."""
        number = self._read[source]
        self._read[source] += 1
        blob = self._blob(source)
        return f"{blob}_{number}" if self.readers[source] > 1 else blob

    def _line(
        self, kind: str, name: str, inputs: Sequence[str], outputs: Sequence[str], settings: str
    ) -> None:
        counts = f"{len(inputs)} {len(outputs)}"
        words = [f"{kind:16}", f"{name:24}", counts, *inputs, *outputs, settings]
        self._lines.append(" ".join(words).rstrip())
        self._blobs += len(outputs)


def _packed(tensor: Tensor, kind: str) -> bytes:
    return tensor.detach().numpy().astype(np.dtype(kind)).tobytes()
