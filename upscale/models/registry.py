"""State dict in, architecture and canonical keys out.

The field writes RRDBNet in three key dialects: old ESRGAN (`model.1.sub.0.RDB1.conv1.0.weight`),
BSRGAN (`RRDB_trunk.0.RDB1.conv1.weight`) and BasicSR (`body.0.rdb1.conv1.weight`). The last is
canonical here; SRVGGNetCompact has only one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from upscale.errors import CheckpointError
from upscale.models.rrdbnet import RRDBNet, RRDBSpec
from upscale.models.srvgg import SRVGGNetCompact, SRVGGSpec

Spec = RRDBSpec | SRVGGSpec
State = Mapping[str, Tensor]


class UnknownArchitectureError(CheckpointError):
    """The state dict belongs to no network of this package."""


class UnfitStateError(CheckpointError):
    """The state dict nearly belongs to a network: tensors are missing or misshapen."""


@dataclass(frozen=True, slots=True)
class Detected:
    """A network's hyper-parameters and its state dict under canonical keys."""

    spec: Spec
    state: dict[str, Tensor]


def detect(state: State) -> Detected:
    """Find the architecture that a state dict belongs to.

    Raises:
        UnknownArchitectureError: it is neither an RRDBNet nor an SRVGGNetCompact.
        UnfitStateError: it looks like one, but tensors are missing or misshapen.
    """
    canonical = _canonical_keys(state)
    if "conv_first.weight" in canonical and "body.0.rdb1.conv1.weight" in canonical:
        spec: Spec = _rrdb_spec(canonical)
    elif _is_srvgg(canonical):
        spec = _srvgg_spec(canonical)
    else:
        raise UnknownArchitectureError("its tensors are not those of an RRDBNet or SRVGGNetCompact")
    _check_shapes(spec, canonical)
    return Detected(spec, canonical)


def build(spec: Spec, state: State | None = None) -> RRDBNet | SRVGGNetCompact:
    """Make the network; with a canonical state dict, load it in fp32 and set evaluation mode."""
    network = RRDBNet(spec) if isinstance(spec, RRDBSpec) else SRVGGNetCompact(spec)
    if state is not None:
        network.load_state_dict({key: value.float() for key, value in state.items()})
        network.eval()
    return network


def _canonical_keys(state: State) -> dict[str, Tensor]:
    if any(key.startswith("model.1.sub.") for key in state):
        rename = _old_esrgan_renamer(state)
    elif any(key.startswith("RRDB_trunk.") for key in state):
        rename = _rename_bsrgan
    else:
        return dict(state)
    return {rename(key): tensor for key, tensor in state.items()}


def _rename_bsrgan(key: str) -> str:
    key = re.sub(r"^RRDB_trunk\.(\d+)\.RDB(\d)\.", r"body.\1.rdb\2.", key)
    key = re.sub(r"^trunk_conv\.", "conv_body.", key)
    key = re.sub(r"^upconv(\d)\.", r"conv_up\1.", key)
    return re.sub(r"^HRconv\.", "conv_hr.", key)


def _old_esrgan_renamer(state: State) -> Callable[[str], str]:
    """Old ESRGAN numbers its layers: blocks, then the body's convolution, then the tail."""
    inside = [int(m[1]) for key in state if (m := re.match(r"model\.1\.sub\.(\d+)\.", key))]
    tail = sorted({int(m[1]) for key in state if (m := re.match(r"model\.(\d+)\.", key))} - {0, 1})
    names = [f"conv_up{i + 1}" for i in range(len(tail) - 2)] + ["conv_hr", "conv_last"]
    top = {0: "conv_first"} | dict(zip(tail, names, strict=False))

    def rename(key: str) -> str:
        key = re.sub(
            r"^model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3.", key
        )
        key = re.sub(rf"^model\.1\.sub\.{max(inside)}\.(?=weight|bias)", "conv_body.", key)
        match = re.match(r"^model\.(\d+)\.(weight|bias)$", key)
        return f"{top[int(match[1])]}.{match[2]}" if match else key

    return rename


def _count(state: State, pattern: str) -> int:
    return len({m[1] for key in state if (m := re.match(pattern, key))})


def _rrdb_spec(state: State) -> RRDBSpec:
    first, last = _weight(state, "conv_first"), _weight(state, "conv_last")
    growth = _weight(state, "body.0.rdb1.conv1").shape[0]
    unshuffle = _unshuffle(first.shape[1], last.shape[0])
    try:
        return RRDBSpec(
            in_channels=first.shape[1] // unshuffle**2,
            out_channels=last.shape[0],
            features=first.shape[0],
            blocks=_count(state, r"body\.(\d+)\."),
            growth=growth,
            unshuffle=unshuffle,
            upsamples=_count(state, r"conv_up(\d+)\.weight"),
        )
    except ValueError as error:
        raise UnknownArchitectureError(f"it is no usable RRDBNet: {error}") from error


def _unshuffle(inputs: int, outputs: int) -> int:
    """Side of the pixel-unshuffle that turns `outputs` image channels into `inputs`."""
    for side in (2, 4):
        if inputs == outputs * side * side:
            return side
    return 1


def _is_srvgg(state: State) -> bool:
    return (
        "body.0.weight" in state and "body.1.weight" in state and state["body.1.weight"].ndim == 1
    )


def _srvgg_spec(state: State) -> SRVGGSpec:
    first = _weight(state, "body.0")
    last = max(int(m[1]) for key in state if (m := re.match(r"body\.(\d+)\.weight$", key)))
    inputs, outputs = first.shape[1], _weight(state, f"body.{last}").shape[0]
    scale = math.isqrt(outputs // inputs)
    if last % 2 or scale * scale * inputs != outputs:
        raise UnknownArchitectureError("its tensors are not those of an SRVGGNetCompact")
    return SRVGGSpec(
        scale=scale,
        in_channels=inputs,
        out_channels=inputs,
        features=first.shape[0],
        convolutions=last // 2 - 1,
    )


def _weight(state: State, layer: str) -> Tensor:
    weight = state.get(f"{layer}.weight")
    if weight is None:
        raise UnfitStateError(f"the tensor {layer}.weight is missing")
    if weight.ndim != 4:
        raise UnfitStateError(f"the tensor {layer}.weight has {weight.ndim} axes instead of 4")
    return weight


def _check_shapes(spec: Spec, state: State) -> None:
    with torch.device("meta"):
        expected: nn.Module = build(spec)
    shapes = {key: tensor.shape for key, tensor in expected.state_dict().items()}
    for key in shapes.keys() - state.keys():
        raise UnfitStateError(f"the tensor {key} is missing ({spec.describe()})")
    for key in state.keys() - shapes.keys():
        raise UnknownArchitectureError(f"the tensor {key} belongs to no {spec.describe()}")
    for key, shape in shapes.items():
        if state[key].shape != shape:
            found, wanted = tuple(state[key].shape), tuple(shape)
            raise UnfitStateError(f"the tensor {key} has shape {found} instead of {wanted}")
