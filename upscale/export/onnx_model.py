"""Write a network as an ONNX model whose batch, height and width are free."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from upscale.errors import DependencyError
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
    Value,
)

if TYPE_CHECKING:
    import onnx

OPSET = 17
"""Version of the operators; ONNX Runtime reads it since 1.12, TensorRT since 8.5."""

IR_VERSION = 8
INPUT, OUTPUT = "input", "output"

_KINDS = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"}
_FUNCTIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "sqrt": "Sqrt"}


def onnx_model(graph: Graph, metadata: Mapping[str, str], *, half: bool = False) -> bytes:
    """Return a network as the content of an `.onnx` file.

    The input `input` is (N, in_channels, H, W) in 0..1, the output `output` (N, out_channels,
    H * scale, W * scale), not clamped. A network with pixel-unshuffle takes any size, too: the
    image is continued by reflection, and the output cut, as `upscale` does.

    Args:
        graph: Operations of the network.
        metadata: Short texts for the file.
        half: Whether weights, input and output are in fp16.

    Raises:
        DependencyError: The package onnx is not installed.
    """
    helper = _onnx().helper
    writer = _Writer(np.float16 if half else np.float32)
    image = writer.begin(graph)
    for operation in graph.operations:
        writer.add(operation)
    writer.end(graph, image)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(writer.dtype))
    batch = ["batch", graph.in_channels, "height", "width"]
    upscaled = ["batch", graph.out_channels, "output_height", "output_width"]
    model = helper.make_model(
        helper.make_graph(
            writer.nodes,
            metadata.get("name", "network"),
            [helper.make_tensor_value_info(INPUT, kind, batch)],
            [helper.make_tensor_value_info(OUTPUT, kind, upscaled)],
            writer.initialisers,
        ),
        producer_name="upscale",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    helper.set_model_props(model, dict(sorted(metadata.items())))
    return model.SerializeToString(deterministic=True)


def _onnx() -> Any:  # noqa: ANN401  # it need not be installed
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise DependencyError(
            f"ONNX files need the package onnx ({error}); run: pip install 'upscale[export]'"
        ) from error


@dataclass(slots=True)
class _Writer:
    """Collects the nodes and the constants of a model."""

    dtype: type[np.floating[Any]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initialisers: list[onnx.TensorProto] = field(default_factory=list)
    _renamed: dict[str, str] = field(default_factory=dict[str, str])
    _stored: set[str] = field(default_factory=set[str])

    def begin(self, graph: Graph) -> str:
        """Store the constants and return the name of the image that the network reads."""
        for name, tensor in graph.constants.items():
            self._store(name, self._numbers(tensor[None]))
        image = INPUT if graph.unshuffle == 1 else self._continued(graph.unshuffle)
        self._renamed[IMAGE] = image
        if graph.unshuffle == 1:
            self._renamed[graph.output] = OUTPUT
        return image

    def end(self, graph: Graph, image: str) -> None:
        """Cut the output of a continued image."""
        if image == INPUT:
            return
        self._node("Shape", [INPUT], "size", start=2, end=4)
        self._node("Mul", ["size", self._whole("scale", [graph.scale, graph.scale])], "target")
        edges = [self._whole("zeros", [0, 0]), "target", self._whole("axes", [2, 3])]
        self._node("Slice", [graph.output, *edges], OUTPUT)

    def add(self, operation: Operation) -> None:
        """Add an operation."""
        match operation:
            case Convolution():
                self._convolution(operation)
            case Slope():
                self._slope(operation)
            case Unary():
                self._unary(operation)
            case Binary():
                self._binary(operation)
            case Mean():
                self._mean(operation)
            case Concat():
                self._node("Concat", operation.sources, operation.result, axis=1)
            case Channels():
                self._channels(operation)
            case Resample():
                self._resample(operation)

    def _convolution(self, each: Convolution) -> None:
        weight = self._store(f"{each.layer}.weight", self._numbers(each.weight))
        bias = self._store(f"{each.layer}.bias", self._numbers(each.bias))
        side = each.weight.shape[2]
        self._node(
            "Conv", [each.source, weight, bias], each.result, kernel_shape=[side, side],
            pads=[side // 2] * 4,
        )  # fmt: skip

    def _slope(self, each: Slope) -> None:
        if not isinstance(each.slope, Tensor):
            self._node("LeakyRelu", [each.source], each.result, alpha=each.slope)
            return
        slopes = self._store(f"{each.result}.slopes", self._numbers(each.slope[:, None, None]))
        self._node("PRelu", [each.source, slopes], each.result)

    def _unary(self, each: Unary) -> None:
        if each.kind == "silu":
            self._node("Sigmoid", [each.source], f"{each.result}.gate")
            self._node("Mul", [each.source, f"{each.result}.gate"], each.result)
        elif each.kind == "mish":
            self._node("Softplus", [each.source], f"{each.result}.softplus")
            self._node("Tanh", [f"{each.result}.softplus"], f"{each.result}.gate")
            self._node("Mul", [each.source, f"{each.result}.gate"], each.result)
        elif each.kind == "square":
            self._node("Mul", [each.source, each.source], each.result)
        else:
            self._node(_FUNCTIONS[each.kind], [each.source], each.result)

    def _binary(self, each: Binary) -> None:
        right = self._value(each.right)
        if each.factor != 1:
            scaled = f"{each.result}.scaled"
            self._node("Mul", [right, self._value(each.factor)], scaled)
            right = scaled
        self._node(_KINDS[each.kind], [self._value(each.left), right], each.result)

    def _mean(self, each: Mean) -> None:
        if each.axes == (2, 3):
            self._node("GlobalAveragePool", [each.source], each.result)
        else:
            self._node("ReduceMean", [each.source], each.result, axes=list(each.axes), keepdims=1)

    def _channels(self, each: Channels) -> None:
        edges = [self._whole(f"{n}", [n]) for n in (each.start, each.stop, 1)]
        self._node("Slice", [each.source, *edges], each.result)

    def _resample(self, each: Resample) -> None:
        if each.kind == "nearest":
            factors = np.array([1, 1, each.factor, each.factor], np.float32)
            scales = self._store(f"scales_{each.factor}", factors)
            self._node(
                "Resize", [each.source, "", scales], each.result, mode="nearest",
                coordinate_transformation_mode="asymmetric", nearest_mode="floor",
            )  # fmt: skip
        elif each.kind == "shuffle":
            self._node(
                "DepthToSpace", [each.source], each.result, blocksize=each.factor, mode="CRD"
            )
        else:
            # SpaceToDepth puts the sub-pixels before the channels.
            moved = f"{each.result}.moved"
            self._node("SpaceToDepth", [each.source], moved, blocksize=each.factor)
            count = each.channels * each.factor**2
            order = np.arange(count).reshape(-1, each.channels).T.reshape(-1)
            self._node("Gather", [moved, self._whole("order", order)], each.result, axis=1)

    def _continued(self, side: int) -> str:
        """Continue the image to multiples of `side` by reflection, and return its name.

        The operator Pad cannot reflect an edge farther than the image is wide.
        """
        name = INPUT
        for axis, edge in ((2, "rows"), (3, "columns")):
            name = self._continued_edge(name, axis, edge, side)
        return name

    def _continued_edge(self, image: str, axis: int, edge: str, side: int) -> str:
        one, factor = self._whole("one", 1), self._whole("side", side)
        shape, last, length = f"{edge}.shape", f"{edge}.last", f"{edge}.length"
        self._node("Shape", [INPUT], shape, start=axis, end=axis + 1)
        self._node("Squeeze", [shape], f"{edge}.count")
        self._node("Sub", [f"{edge}.count", one], last)
        self._node("Div", [last, factor], f"{edge}.blocks")
        self._node("Add", [f"{edge}.blocks", one], f"{edge}.more")
        self._node("Mul", [f"{edge}.more", factor], length)
        # The pixel at p is that at 2 * last - p; an image that is too small is reflected again.
        self._node("Add", [last, last], f"{edge}.double")
        self._node("Range", [self._whole("zero", 0), length, one], f"{edge}.places")
        self._node("Max", [f"{edge}.double", one], f"{edge}.period")
        self._node("Mod", [f"{edge}.places", f"{edge}.period"], f"{edge}.wrapped")
        self._node("Sub", [f"{edge}.period", f"{edge}.wrapped"], f"{edge}.reflected")
        self._node("Min", [f"{edge}.wrapped", f"{edge}.reflected"], f"{edge}.indices")
        self._node("Gather", [image, f"{edge}.indices"], f"{edge}.continued", axis=axis)
        return f"{edge}.continued"

    def _node(self, kind: str, inputs: Sequence[str], result: str, **settings: Any) -> None:  # noqa: ANN401
        names = [self._renamed.get(name, name) for name in inputs]
        output = self._renamed.get(result, result)
        node = _onnx().helper.make_node(kind, names, [output], name=output, **settings)
        self.nodes.append(node)

    def _value(self, value: Value) -> str:
        if isinstance(value, str):
            return value
        return self._store(f"{value:g}", np.array(value, self.dtype))

    def _whole(self, name: str, values: int | Sequence[int] | NDArray[Any]) -> str:
        return self._store(f"whole.{name}", np.asarray(values, np.int64))

    def _numbers(self, tensor: Tensor) -> NDArray[Any]:
        return tensor.detach().numpy().astype(self.dtype)

    def _store(self, name: str, array: NDArray[Any]) -> str:
        if name not in self._stored:
            self._stored.add(name)
            initialiser = _onnx().numpy_helper.from_array(array, name)
            self.initialisers.append(initialiser)
        return name
