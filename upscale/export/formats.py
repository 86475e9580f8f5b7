"""The formats of exported networks.

A format is one `Format` object in `FORMATS`. Its function turns a network into the contents of
files, and neither reads nor writes any.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from upscale.checkpoints.blending import to_half
from upscale.checkpoints.state_dicts import safetensors_content
from upscale.export.graph import trace
from upscale.export.ncnn_model import ncnn_model
from upscale.export.onnx_model import onnx_model
from upscale.export.source import Source

FormatName = Literal["onnx", "ncnn", "pth", "safetensors"]


@dataclass(frozen=True, slots=True)
class Format:
    """A file format for networks.

    Attributes:
        suffix: Suffix of the file that the user names.
        encode: Function from the network, and whether its weights become fp16, to the contents of
            the files by suffix.
    """

    suffix: str
    encode: Callable[[Source, bool], Mapping[str, bytes]]


def _onnx(source: Source, half: bool) -> Mapping[str, bytes]:
    _weights(source.network.state_dict(), half)  # raises an error beyond the range of fp16
    return {".onnx": onnx_model(trace(source.network), source.metadata, half=half)}


def _ncnn(source: Source, half: bool) -> Mapping[str, bytes]:
    _weights(source.network.state_dict(), half)
    param, weights = ncnn_model(trace(source.network), half=half)
    return {".bin": weights, ".param": param.encode("ascii")}


def _pth(source: Source, half: bool) -> Mapping[str, bytes]:
    """Return a torch file in the layout of BasicSR, with copies of tensors that share memory."""
    tensors = _weights(source.published(), half)
    file = io.BytesIO()
    torch.save({"params": {key: each.detach().clone() for key, each in tensors.items()}}, file)
    return {".pth": file.getvalue()}


def _safetensors(source: Source, half: bool) -> Mapping[str, bytes]:
    tensors = _weights(source.network.state_dict(), half)
    return {".safetensors": safetensors_content(tensors, source.metadata)}


def _weights(state: Mapping[str, Tensor], half: bool) -> Mapping[str, Tensor]:
    return to_half(state) if half else state


FORMATS: Mapping[FormatName, Format] = {
    "onnx": Format(".onnx", _onnx),
    "ncnn": Format(".param", _ncnn),
    "pth": Format(".pth", _pth),
    "safetensors": Format(".safetensors", _safetensors),
}
"""Formats by name."""
