"""Reader of ncnn `.param`/`.bin` pairs of an RRDBNet or an SRVGGNetCompact.

A `.param` file is text: the number 7767517, the counts of layers and blobs, then one layer per
line: type, name, number of inputs and outputs, their names, and parameters as `key=value`. A `.bin`
file contains the weights of the layers in the same order. For a convolution: a 4-byte tag (fp16, or
0 for fp32), the weights in the order output, input, row, column, padded to 4 bytes, and the bias in
fp32. For a PReLU: its slopes in fp32 without a tag. Layers are in forward order, so their shapes
are enough to derive Real-ESRGAN's keys. Every count is compared with the file before memory is
allocated.

The `ncnn` package (1.0.20261020) was tried: it runs such a network, but its layers expose neither
their weights nor their parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from upscale.errors import CheckpointError
from upscale.files.error_mapping import one_line

PARAM_MAGIC = b"7767517"
FP16_TAG = 0x01306B47
FP32_TAG = 0
BIN_TAGS = (FP16_TAG.to_bytes(4, "little"),)

MAX_PARAM_BYTES = 1 << 24
"""The file of the 23-block network has 117,000 bytes."""
MAX_BIN_BYTES = 1 << 30
"""The file of the 23-block network has 33 million bytes."""

KERNEL = 3
LEAKY_RELU = "2"
SLOPE = 0.2
DENSE = 5
"""Number of convolutions in a dense block; an RRDB has three dense blocks."""

_WEIGHTLESS = frozenset(
    {"Input", "Split", "Concat", "Eltwise", "BinaryOp", "Interp", "PixelShuffle", "ReLU", "Reorg"}
)
"""Layers without weights; `Reorg` is the pixel-unshuffle of networks for x2 and x1."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """One line of a `.param` file; `values` are its parameters as text, by ncnn's keys."""

    kind: str
    name: str
    values: dict[int, str]


@dataclass(frozen=True, slots=True)
class _Convolution:
    """Channels of a 3x3 convolution whose weights are still to be read."""

    name: str
    inputs: int
    outputs: int

    @property
    def weights(self) -> int:
        return self.outputs * self.inputs * KERNEL * KERNEL


@dataclass(frozen=True, slots=True)
class _Slopes:
    """Number of slopes of a PReLU."""

    name: str
    outputs: int


_Weighted = _Convolution | _Slopes


def read_ncnn(path: Path) -> dict[str, Tensor]:
    """Read a pair of files.

    The resize at the end of some graphs (the x2 and x3 versions of realesr-animevideov3) is not
    part of the result.

    Args:
        path: Either file of the pair.

    Returns:
        Tensors in float32 with Real-ESRGAN's keys (`conv_first.weight`, or `body.0.weight`).

    Raises:
        CheckpointError: A file of the pair is missing, damaged, truncated, or too long, or contains
            another network.
    """
    param, binary = pair_of(path)
    try:
        layers = _parse(_read_bytes(param, MAX_PARAM_BYTES))
        weighted = _weighted_layers(layers)
        name_layers = _srvgg_names if _is_srvgg(weighted) else _rrdb_names
        names = name_layers(layers, weighted)
    except _FormatError as error:
        raise CheckpointError(f"{param}: {error}") from None
    try:
        return _read_weights(_read_bytes(binary, MAX_BIN_BYTES), weighted, names)
    except _FormatError as error:
        raise CheckpointError(f"{binary}: {error}") from None


class _FormatError(Exception):
    """A format error in a file, without the name of the file."""


def pair_of(path: Path) -> tuple[Path, Path]:
    """Return the `.param` and the `.bin` of a network.

    Args:
        path: Either file.

    Raises:
        CheckpointError: The other file is missing.
    """
    # The given file may have any suffix, because its content was recognised.
    is_bin = path.suffix.lower() == ".bin"
    suffixes = (".param", ".PARAM") if is_bin else (".bin", ".BIN")
    candidates = [path.with_suffix(suffix) for suffix in suffixes]
    partner = next((other for other in candidates if other.is_file()), None)
    if partner is None:
        raise CheckpointError(
            f"{path}: an ncnn model is a pair of files; put {candidates[0].name} beside it"
        )
    return (partner, path) if is_bin else (path, partner)


def _read_bytes(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise _FormatError(f"larger than {limit} bytes, not a file of such a model")
        return path.read_bytes()
    except OSError as error:
        raise _FormatError(f"cannot be read ({one_line(error)})") from error


# --- .param ----------------------------------------------------------------------------------


def _parse(data: bytes) -> list[_Layer]:
    try:
        lines = [line.split() for line in data.decode("ascii").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise _FormatError("not ncnn's text format (a binary .param is not supported)") from None
    if len(lines) < 2 or lines[0] != [PARAM_MAGIC.decode()]:
        raise _FormatError("not an ncnn .param (it does not start with 7767517)")
    counts = [_count(word) for word in lines[1]]
    if len(counts) != 2 or counts[0] != len(lines) - 2:
        raise _FormatError(
            f"declares another number of layers than its {len(lines) - 2}; the file is damaged"
        )
    parsed = [_parse_layer(words) for words in lines[2:]]
    if sum(outputs for _, outputs in parsed) != counts[1]:
        raise _FormatError("declares another number of blobs than it has; the file is damaged")
    return [layer for layer, _ in parsed]


def _parse_layer(words: Sequence[str]) -> tuple[_Layer, int]:
    """Return the layer and its number of outputs."""
    if len(words) < 4:
        raise _FormatError(f"the line {' '.join(words)[:60]!r} is not a layer")
    inputs, outputs = _count(words[2]), _count(words[3])
    blobs, pairs = words[4 : 4 + inputs + outputs], words[4 + inputs + outputs :]
    if len(blobs) != inputs + outputs or any("=" in blob for blob in blobs):
        raise _FormatError(f"layer {words[1][:60]} names fewer blobs than it declares")
    values: dict[int, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.lstrip("-").isdigit() or len(key) > 9:
            raise _FormatError(f"layer {words[1][:60]} has the parameter {pair[:60]!r}")
        values[int(key)] = value
    return _Layer(words[0], words[1], values), outputs


def _count(word: str) -> int:
    if not word.isdigit() or len(word) > 10:
        raise _FormatError(f"{word[:60]!r} is not a valid number")
    return int(word)


def _weighted_layers(layers: Sequence[_Layer]) -> list[_Weighted]:
    weighted: list[_Weighted] = []
    for layer in layers:
        if layer.kind == "Convolution":
            weighted.append(_convolution(layer))
        elif layer.kind == "PReLU":
            weighted.append(_Slopes(layer.name, _count(layer.values.get(0, ""))))
        elif layer.kind not in _WEIGHTLESS:
            raise _wrong_layer(layer)
        elif layer.kind == "ReLU" and not _is_slope(layer.values.get(0, "0")):
            raise _FormatError(f"layer {layer.name} is not a leaky ReLU of slope {SLOPE}")
        elif layer.kind == "Eltwise":
            _check_residual(layer)
    return weighted


def _wrong_layer(layer: _Layer) -> _FormatError:
    return _FormatError(
        f"layer {layer.name} is a {layer.kind}: neither an RRDBNet nor an SRVGGNetCompact"
    )


def _convolution(layer: _Layer) -> _Convolution:
    values = layer.values
    # Kernel, dilation, stride, padding and bias, each for both axes; 8 is ncnn's 8-bit mode.
    required = {1: "3", 2: "1", 3: "1", 4: "1", 5: "1", 8: "0"} | {
        11: "3",
        12: "1",
        13: "1",
        14: "1",
    }
    defaults = {2: "1", 3: "1", 8: "0"} | {
        11: values.get(1),
        12: values.get(2, "1"),
        13: values.get(3, "1"),
        14: values.get(4),
    }
    if any(values.get(key, defaults.get(key)) != value for key, value in required.items()):
        raise _FormatError(f"layer {layer.name} is not a plain 3x3 convolution with bias")
    activation = values.get(9, "0")
    if activation not in ("0", LEAKY_RELU):
        raise _FormatError(f"layer {layer.name} has an activation other than leaky ReLU")
    if activation == LEAKY_RELU and not _is_slope(values.get(-23310, "").partition(",")[2]):
        raise _FormatError(f"layer {layer.name} is not a leaky ReLU of slope {SLOPE}")
    outputs, weights = _count(values.get(0, "")), _count(values.get(6, ""))
    inputs, remainder = divmod(weights, max(outputs, 1) * KERNEL * KERNEL)
    if remainder or not inputs or not outputs:
        raise _FormatError(f"layer {layer.name}: {weights} weights do not match {outputs} outputs")
    return _Convolution(layer.name, inputs, outputs)


def _check_residual(layer: _Layer) -> None:
    """Check that the two factors of a residual connection are 0.2 and 1."""
    words = layer.values.get(-23301, "").split(",")
    try:
        factors = [round(float(word), 6) for word in words[1:]]
    except ValueError:
        factors = []
    if factors not in ([SLOPE, 1.0], [1.0, SLOPE]):
        raise _FormatError(f"layer {layer.name} is not a residual connection of an RRDBNet")


def _is_slope(word: str) -> bool:
    try:
        return abs(float(word) - SLOPE) < 1e-6
    except ValueError:
        return False


# --- keys ------------------------------------------------------------------------------------


def _is_srvgg(weighted: Sequence[_Weighted]) -> bool:
    return any(isinstance(layer, _Slopes) for layer in weighted)


def _srvgg_names(layers: Sequence[_Layer], weighted: Sequence[_Weighted]) -> list[str]:
    """Return keys from `body.0` on for convolutions that alternate with PReLUs."""
    for layer in layers:
        if layer.kind == "Reorg":
            raise _wrong_layer(layer)
    convolutions = weighted[0::2]
    slopes = weighted[1::2]
    is_alternating = all(isinstance(layer, _Convolution) for layer in convolutions) and all(
        isinstance(layer, _Slopes) for layer in slopes
    )
    if not is_alternating or len(convolutions) != len(slopes) + 1:
        raise _FormatError("its convolutions and PReLUs do not alternate as in SRVGGNetCompact")
    widths = [layer.outputs for layer in convolutions]
    if [layer.outputs for layer in slopes] != widths[:-1]:
        raise _FormatError("the slopes of a PReLU do not match the outputs of its convolution")
    inputs = [layer.inputs for layer in convolutions if isinstance(layer, _Convolution)]
    shuffles = [layer.values.get(0, "") for layer in layers if layer.kind == "PixelShuffle"]
    factors = [_count(word) for word in shuffles]
    if inputs[1:] != widths[:-1] or len(factors) != 1 or widths[-1] != inputs[0] * factors[0] ** 2:
        raise _FormatError("the channels of its convolutions do not match SRVGGNetCompact")
    return [f"body.{index}" for index in range(len(weighted))]


def _rrdb_names(layers: Sequence[_Layer], weighted: Sequence[_Weighted]) -> list[str]:
    """Return keys of the first convolution, dense blocks, body, upsampling and last ones."""
    shapes = [
        (layer.inputs, layer.outputs) for layer in weighted if isinstance(layer, _Convolution)
    ]
    if len(shapes) < 1 + 3 * DENSE + 3:
        raise _FormatError("its convolutions are not those of an RRDBNet")
    features, growth = shapes[0][1], shapes[1][1]
    block = [(features + step * growth, growth) for step in range(DENSE - 1)]
    block.append((features + (DENSE - 1) * growth, features))
    dense = 0
    while shapes[1 + dense * DENSE : 1 + (dense + 1) * DENSE] == block:
        dense += 1
    tail = shapes[1 + dense * DENSE :]
    upsamplings = sum(layer.kind == "Interp" for layer in layers)
    square = (features, features)
    if dense % 3 or tail != [square] * (upsamplings + 2) + [(features, tail[-1][1] if tail else 0)]:
        raise _FormatError("its convolutions are not those of an RRDBNet")
    _check_upsampling(layers)
    _check_unshuffle(layers, inputs=shapes[0][0], outputs=tail[-1][1])
    block_keys = [
        f"body.{index // 3}.rdb{index % 3 + 1}.conv{step + 1}"
        for index in range(dense)
        for step in range(DENSE)
    ]
    up_keys = [f"conv_up{index + 1}" for index in range(upsamplings)]
    return ["conv_first", *block_keys, "conv_body", *up_keys, "conv_hr", "conv_last"]


def _check_upsampling(layers: Sequence[_Layer]) -> None:
    for layer in layers:
        if layer.kind != "Interp":
            continue
        try:
            factors = float(layer.values.get(1, "")), float(layer.values.get(2, ""))
        except ValueError:
            factors = (0.0, 0.0)
        if layer.values.get(0) != "1" or factors != (2.0, 2.0):
            raise _FormatError(f"layer {layer.name} is not nearest-neighbour upsampling by 2")


def _check_unshuffle(layers: Sequence[_Layer], *, inputs: int, outputs: int) -> None:
    """Check that a pixel-unshuffle turns the channels of the image into those that are read."""
    factors = [_count(layer.values.get(0, "1")) for layer in layers if layer.kind == "Reorg"]
    if factors and (len(factors) > 1 or inputs != outputs * factors[0] ** 2):
        raise _FormatError("its pixel-unshuffle does not match the channels of its convolutions")


# --- .bin ------------------------------------------------------------------------------------


def _read_weights(
    data: bytes, weighted: Sequence[_Weighted], names: Sequence[str]
) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    cursor = _Cursor(data)
    for layer, name in zip(weighted, names, strict=True):
        if isinstance(layer, _Slopes):
            state[f"{name}.weight"] = cursor.take("<f4", layer.outputs)
            continue
        weight = cursor.take_tagged(layer.name, layer.weights)
        shape = (layer.outputs, layer.inputs, KERNEL, KERNEL)
        state[f"{name}.weight"] = weight.reshape(shape)
        state[f"{name}.bias"] = cursor.take("<f4", layer.outputs)
    cursor.finish()
    return state


class _Cursor:
    """Reads consecutive arrays and never beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, dtype: str, count: int) -> Tensor:
        """Return the next `count` numbers as float32."""
        size = count * np.dtype(dtype).itemsize
        if size > len(self._data) - self._position:
            raise _FormatError("is too short for its .param; download both files again")
        values = np.frombuffer(self._data, dtype, count, self._position)
        self._position += size
        return torch.from_numpy(values.astype(np.float32))

    def take_tagged(self, layer: str, count: int) -> Tensor:
        """Return the next `count` weights, whose type precedes them as a tag."""
        tag = int.from_bytes(self._data[self._position : self._position + 4], "little")
        self._position += 4
        if tag == FP32_TAG:
            return self.take("<f4", count)
        if tag != FP16_TAG:
            raise _FormatError(f"the weights of layer {layer} are neither fp16 nor fp32")
        weights = self.take("<f2", count + count % 2)
        return weights[:count].clone() if count % 2 else weights

    def finish(self) -> None:
        """Raise an error if bytes are left."""
        extra = len(self._data) - self._position
        if extra:
            raise _FormatError(
                f"has {extra} bytes more than its .param declares; the files do not match"
            )
