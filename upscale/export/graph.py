"""The operations of a network in order, for writers of other file formats.

The networks of this package need a dozen kinds of operations. `torch.export` lists those of any
network, and the writers translate each kind. The ONNX exporter of torch 2.13 was tried: a network
of one RRDB takes it 7 seconds, and the file contains paths of the machine. Its predecessor is
deprecated. Neither writes ncnn files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from upscale.errors import CheckpointError
from upscale.models import Network

IMAGE = "image"
"""Name of the input of a graph."""

_SIDE = 8
"""Side of the example image, in multiples of the network's pixel-unshuffle."""

UnaryKind = Literal["relu", "sigmoid", "silu", "mish", "square", "sqrt"]
BinaryKind = Literal["add", "sub", "mul", "div"]
Value = str | float
"""Name of the result of an operation or of a constant, or a number."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution with stride 1 and zero padding that keeps the size.

    Attributes:
        result: Name of the result.
        layer: Name of the layer in the state dict, without `.weight`.
        source: Name of the input.
        weight: Weights (O, I, k, k) in float32.
        bias: Bias (O,) in float32.
    """

    result: str
    layer: str
    source: str
    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Slope:
    """A leaky ReLU or a PReLU.

    Attributes:
        result: Name of the result.
        source: Name of the input.
        slope: Factor of negative values: one number, or one per channel (C,).
    """

    result: str
    source: str
    slope: float | Tensor


@dataclass(frozen=True, slots=True)
class Unary:
    """A function of each value."""

    result: str
    kind: UnaryKind
    source: str


@dataclass(frozen=True, slots=True)
class Binary:
    """A calculation with two operands, of which one may have one value for all pixels or channels.

    Attributes:
        result: Name of the result.
        kind: Kind of calculation.
        left: First operand.
        right: Second operand.
        factor: Factor of the second operand of a sum.
    """

    result: str
    kind: BinaryKind
    left: Value
    right: Value
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Mean:
    """Means over the whole map (`axes` (2, 3)) or over the channels (`axes` (1,))."""

    result: str
    source: str
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Concat:
    """The channels of several maps, one after the other."""

    result: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Channels:
    """The channels from `start` to before `stop`."""

    result: str
    source: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Resample:
    """Nearest-neighbour upsampling, pixel-shuffle or pixel-unshuffle by a whole factor.

    Attributes:
        result: Name of the result.
        kind: Kind of resampling.
        source: Name of the input.
        factor: Factor per axis.
        channels: Channels of the input.
    """

    result: str
    kind: Literal["nearest", "shuffle", "unshuffle"]
    source: str
    factor: int
    channels: int


Operation = Convolution | Slope | Unary | Binary | Mean | Concat | Channels | Resample


@dataclass(frozen=True, slots=True)
class Graph:
    """A network as a list of operations.

    Attributes:
        operations: Operations in the order of computation; the last one returns the output image.
        constants: Constant tensors (C, 1, 1) by name.
        in_channels: Channels of the image.
        out_channels: Channels of the output image.
        scale: Output pixels per image pixel and axis.
        unshuffle: Number that must divide the sides of the image.
    """

    operations: tuple[Operation, ...]
    constants: Mapping[str, Tensor]
    in_channels: int
    out_channels: int
    scale: int
    unshuffle: int

    @property
    def output(self) -> str:
        """Name of the output image."""
        return self.operations[-1].result


def trace(network: Network[Any]) -> Graph:
    """Return the operations of a network.

    Args:
        network: Network in evaluation mode, on the CPU, in float32.

    Raises:
        CheckpointError: The network contains an operation that has no translation.

    Example:
        >>> from upscale.models import SRVGGSpec, build
        >>> graph = trace(build(SRVGGSpec(scale=2, features=8, convolutions=1)).eval())
        >>> len(graph.operations), graph.operations[0].layer
        (8, 'body.0')
    """
    side = _SIDE * network.unshuffle
    spec = network.spec
    example = torch.zeros(1, spec.in_channels, side, side)
    program = torch.export.export(network.eval(), (example,))
    tracer = _Tracer(_parameter_names(program))
    for node in program.graph.nodes:
        if node.op == "placeholder":
            tracer.read(node, _stored(program, node.name))
        elif node.op == "call_function":
            tracer.call(node)
    return Graph(
        tuple(tracer.operations),
        tracer.constants,
        spec.in_channels,
        spec.out_channels,
        spec.scale,
        network.unshuffle,
    )


def _parameter_names(program: torch.export.ExportedProgram) -> dict[str, str]:
    """Return the keys of the state dict by the names of the graph's inputs."""
    signature = program.graph_signature
    return {**signature.inputs_to_parameters, **signature.inputs_to_buffers}


def _stored(program: torch.export.ExportedProgram, name: str) -> Tensor | None:
    """Return the tensor behind an input of the graph, or None for the image."""
    signature = program.graph_signature
    if name in signature.inputs_to_lifted_tensor_constants:
        return cast(Tensor, program.constants[signature.inputs_to_lifted_tensor_constants[name]])
    key = _parameter_names(program).get(name)
    if key is None:
        return None
    stored = program.state_dict.get(key)
    return cast(Tensor, program.constants[key] if stored is None else stored)


@dataclass(slots=True)
class _Tracer:
    """Translates the nodes of a graph of torch."""

    keys: Mapping[str, str]
    operations: list[Operation] = field(default_factory=list[Operation])
    constants: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    _names: dict[str, str] = field(default_factory=dict[str, str])
    _known: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def read(self, node: fx.Node, tensor: Tensor | None) -> None:
        """Note an input of the graph: the image, or a stored tensor."""
        if tensor is None:
            self._names[node.name] = IMAGE
        else:
            self._known[node.name] = tensor.detach()

    def call(self, node: fx.Node) -> None:
        """Translate an operation, or compute it if all its operands are stored tensors.

        Raises:
            CheckpointError: The operation has no translation.
        """
        nodes = node.all_input_nodes
        if nodes and all(each.name in self._known for each in nodes):
            arguments = map_arg(node.args, self._tensor)
            self._known[node.name] = cast(Callable[..., Tensor], node.target)(*arguments)
            return
        name = str(node.target).removeprefix("aten.").partition(".")[0]
        translate = _TRANSLATIONS.get(name.removesuffix("_"))
        if translate is None:
            raise CheckpointError(
                f"the operation {name} of this network cannot be exported; use safetensors or pth"
            )
        result = f"{name.removesuffix('_')}_{len(self.operations)}"
        self.operations += translate(self, result, node)
        self._names[node.name] = result
        if name.endswith("_"):  # later operations read the changed operand
            self._names[cast(fx.Node, node.args[0]).name] = result

    def _tensor(self, node: fx.Node) -> Tensor:
        return self._known[node.name]

    def name(self, node: object) -> str:
        """Return the name of a result; a stored tensor becomes a constant."""
        assert isinstance(node, fx.Node)
        if node.name in self._known:
            key = self.keys.get(node.name, node.name)
            self.constants[key] = self._known[node.name]
            return key
        return self._names[node.name]

    def value(self, operand: object) -> Value:
        """Return the name of a result, or a number."""
        return float(operand) if isinstance(operand, int | float) else self.name(operand)

    def stored(self, node: object) -> Tensor:
        """Return a stored tensor.

        Raises:
            CheckpointError: The tensor is computed.
        """
        if isinstance(node, fx.Node) and node.name in self._known:
            return self._known[node.name]
        raise CheckpointError("this network computes weights; use safetensors or pth")

    def layer(self, node: object) -> str:
        """Return the name of the layer that a stored tensor belongs to."""
        assert isinstance(node, fx.Node)
        return self.keys.get(node.name, node.name).rpartition(".")[0]


_Translation = Callable[[_Tracer, str, fx.Node], Sequence[Operation]]


def _complete(node: fx.Node, *defaults: object, start: int) -> tuple[Any, ...]:
    """Return all positional arguments; `defaults` are those from `start` on."""
    given = tuple(node.args)
    return (*given, *defaults[len(given) - start :])


def _convolution(tracer: _Tracer, result: str, node: fx.Node) -> Sequence[Operation]:
    source, weight, bias, stride, padding, dilation, groups = _complete(
        node, None, [1, 1], [0, 0], [1, 1], 1, start=2
    )
    kernels = tracer.stored(weight)
    size = tuple(kernels.shape[2:])
    is_plain = (*stride, *dilation, groups) == (1, 1, 1, 1, 1) and size[0] == size[1]
    if not is_plain or tuple(padding) != tuple(side // 2 for side in size) or not size[0] % 2:
        raise CheckpointError(
            f"the convolution {tracer.layer(weight)} has a stride, a dilation or groups, or "
            "changes the size; use safetensors or pth"
        )
    biases = torch.zeros(kernels.shape[0]) if bias is None else tracer.stored(bias)
    return [Convolution(result, tracer.layer(weight), tracer.name(source), kernels, biases)]


def _leaky_relu(tracer: _Tracer, result: str, node: fx.Node) -> Sequence[Operation]:
    source, slope = _complete(node, 0.01, start=1)
    return [Slope(result, tracer.name(source), float(slope))]


def _prelu(tracer: _Tracer, result: str, node: fx.Node) -> Sequence[Operation]:
    source, slopes = node.args
    return [Slope(result, tracer.name(source), tracer.stored(slopes))]


def _unary(kind: UnaryKind) -> _Translation:
    return lambda tracer, result, node: [Unary(result, kind, tracer.name(node.args[0]))]


def _power(tracer: _Tracer, result: str, node: fx.Node) -> Sequence[Operation]:
    source, exponent = node.args
    if exponent != 2:
        raise CheckpointError("this network computes a power; use safetensors or pth")
    return [Unary(result, "square", tracer.name(source))]


def _binary(kind: BinaryKind) -> _Translation:
    def translate(tracer: _Tracer, result: str, node: fx.Node) -> Sequence[Operation]:
        left, right = node.args
        factor = float(cast(float, node.kwargs.get("alpha", 1)))
        return [Binary(result, kind, tracer.value(left), tracer.value(right), factor)]

    return translate


def _product_sum(tracer: _Tracer, result: str, node: fx.Node) -> Sequence[Operation]:
    base, left, right = node.args
    product = f"{result}_product"
    return [
        Binary(product, "mul", tracer.value(left), tracer.value(right)),
        Binary(result, "add", tracer.value(base), product),
    ]


def _mean(tracer: _Tracer, result: str, node: fx.Node) -> Sequence[Operation]:
    source, axes, keep = _complete(node, False, start=2)
    axes = tuple(axis % 4 for axis in axes)
    if axes not in ((2, 3), (1,)) or not keep:
        raise CheckpointError("this network computes unusual means; use safetensors or pth")
    return [Mean(result, tracer.name(source), axes)]


def _concat(tracer: _Tracer, result: str, node: fx.Node) -> Sequence[Operation]:
    parts, axis = _complete(node, 0, start=1)
    if axis != 1:
        raise CheckpointError("this network joins maps along an edge; use safetensors or pth")
    return [Concat(result, tuple(tracer.name(part) for part in parts))]


def _slice(tracer: _Tracer, result: str, node: fx.Node) -> Sequence[Operation]:
    source, axis, start, stop, step = _complete(node, 0, 0, None, 1, start=1)
    count = _shape(source)[1]
    if axis != 1 or step != 1:
        raise CheckpointError("this network cuts maps; use safetensors or pth")
    stop = count if stop is None else min(stop, count)
    return [Channels(result, tracer.name(source), start, stop)]


def _nearest(tracer: _Tracer, result: str, node: fx.Node) -> Sequence[Operation]:
    source, _, factors = node.args
    rows, columns = cast(Sequence[float], factors)
    if rows != columns or rows != int(rows):
        raise CheckpointError("this network resizes by a fraction; use safetensors or pth")
    return [Resample(result, "nearest", tracer.name(source), int(rows), _shape(source)[1])]


def _shuffle(kind: Literal["shuffle", "unshuffle"]) -> _Translation:
    def translate(tracer: _Tracer, result: str, node: fx.Node) -> Sequence[Operation]:
        source, factor = node.args
        channels = _shape(source)[1]
        return [Resample(result, kind, tracer.name(source), cast(int, factor), channels)]

    return translate


def _shape(node: object) -> torch.Size:
    assert isinstance(node, fx.Node)
    return cast(Tensor, node.meta["val"]).shape


_TRANSLATIONS: Mapping[str, _Translation] = {
    "conv2d": _convolution,
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "relu": _unary("relu"),
    "sigmoid": _unary("sigmoid"),
    "silu": _unary("silu"),
    "mish": _unary("mish"),
    "sqrt": _unary("sqrt"),
    "square": _unary("square"),
    "pow": _power,
    "add": _binary("add"),
    "sub": _binary("sub"),
    "mul": _binary("mul"),
    "div": _binary("div"),
    "addcmul": _product_sum,
    "mean": _mean,
    "cat": _concat,
    "slice": _slice,
    "upsample_nearest2d": _nearest,
    "pixel_shuffle": _shuffle("shuffle"),
    "pixel_unshuffle": _shuffle("unshuffle"),
}
"""Translations by the names of torch's operations."""
