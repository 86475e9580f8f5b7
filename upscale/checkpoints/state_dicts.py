"""Checkpoint files to state dicts and back.

A file's content decides how it is read, its suffix only where the content cannot. All of them are
untrusted: nothing here unpickles anything but tensors, and no size that a file claims is believed
before it is compared with the file's length.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from upscale.checkpoints.ncnn import BIN_TAGS, PARAM_MAGIC, read_ncnn
from upscale.errors import CheckpointError
from upscale.files.atomic import replace_file
from upscale.files.error_mapping import one_line

WRAPPERS = (
    "params_ema",
    "params-ema",
    "params",
    "state_dict",
    "model_state_dict",
    "model",
    "generator",
    "net_g",
)
"""Entries under which trainers keep the network's tensors, the preferred one first."""

PREFIXES = ("module.", "_orig_mod.")
"""What data-parallel and compiled modules put before every key."""

TORCH_SUFFIXES = (".pth", ".pt", ".ckpt")
_WRAPPER_DEPTH = 3
_BYTES_FACTOR = 4
"""Tensors may together be this many times larger than their file, for those that share memory."""

Kind = Literal["safetensors", "torch", "ncnn"]


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, on the CPU and as stored.

    Reads `.safetensors`, torch's `.pth`/`.pt`/`.ckpt` (also inside the usual wrappers, and with
    the prefixes of data-parallel modules) and ncnn's `.param`/`.bin` (either file of the pair;
    its tensors come as float32 under Real-ESRGAN's keys).

    Raises:
        CheckpointError: the file cannot be read, is no checkpoint, holds objects that are not
            tensors and could run code, or has tensors that are not finite.
    """
    kind = _kind_of(path)
    if kind == "ncnn":
        state = read_ncnn(path)
    elif kind == "safetensors":
        state = _read_safetensors(path)
    else:
        state = _read_torch(path)
    _check_finite(path, state)
    return state


def write_safetensors(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a state dict; the file appears whole or not at all and replaces an older one.

    Args:
        state: Tensors of any float or integer type, on any device.
        path: The file to write; its folder is made where it is missing.
        metadata: Short texts to keep in the file's header.

    Raises:
        CheckpointError: the file cannot be written.
    """
    # A copy each: safetensors refuses tensors that share memory.
    tensors = {
        key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in state.items()
    }
    try:
        content = safetensors.torch.save(tensors, dict(metadata))
        replace_file(path, lambda file: file.write(content))
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written ({one_line(error)})") from error


def _kind_of(path: Path) -> Kind:
    try:
        with path.open("rb") as stream:
            head = stream.read(64)
    except IsADirectoryError:
        raise CheckpointError(f"{path}: is a folder; name the checkpoint file in it") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({one_line(error)})") from error
    _refuse_known_others(path, head)
    if head.startswith(b"PK\x03\x04"):
        return "torch"
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith((PARAM_MAGIC, *BIN_TAGS)) or path.suffix.lower() in (".param", ".bin"):
        return "ncnn"
    if head.startswith(b"\x80") or path.suffix.lower() in TORCH_SUFFIXES:
        return "torch"
    raise CheckpointError(
        f"{path}: not a checkpoint; give a .safetensors, .pth, .pt or .ckpt, or an ncnn .param/.bin"
    )


def _refuse_known_others(path: Path, head: bytes) -> None:
    """Say what a file really is in the cases that people meet."""
    if not head:
        raise CheckpointError(f"{path}: is empty; download it again")
    if head.lstrip().startswith((b"<!", b"<html", b"<HTML")):
        raise CheckpointError(f"{path}: is a web page, not a checkpoint; download the file itself")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path}: is a Git LFS pointer, not the checkpoint; run: git lfs pull"
        )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        state = safetensors.torch.load_file(path)
    except Exception as error:
        raise CheckpointError(
            f"{path}: damaged or cut short safetensors file ({one_line(error)}); download it again"
        ) from error
    return _strip_prefixes(state)


def _read_torch(path: Path) -> dict[str, Tensor]:
    _check_zip(path)
    try:
        # Opened here: given a path, torch goes by the suffix.
        with path.open("rb") as stream, warnings.catch_warnings(action="ignore"):
            loaded: object = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # untrusted bytes make torch raise nearly anything
        raise CheckpointError(
            f"{path}: damaged, or holds objects other than tensors, which are not loaded because "
            "they could run code; ask for a .safetensors file"
        ) from error
    state = _strip_prefixes(_unwrap(path, loaded))
    _check_storage(path, state)
    return state


def _check_zip(path: Path) -> None:
    """Refuse archives that unpack to more than they are, or that are not torch's."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path}: damaged archive; download it again") from error
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise CheckpointError(f"{path}: a compressed archive, not a torch checkpoint; unpack it")
    if not any(entry.filename.endswith("data.pkl") for entry in entries):
        raise CheckpointError(f"{path}: a zip archive, not a torch checkpoint; unpack it first")


def _unwrap(path: Path, loaded: object) -> dict[str, Tensor]:
    for _ in range(_WRAPPER_DEPTH):
        if not isinstance(loaded, Mapping):
            break
        mapping = cast("Mapping[Any, Any]", loaded)
        inner = next((mapping[name] for name in WRAPPERS if _has_tensors(mapping.get(name))), None)
        if inner is None:
            break
        loaded = inner
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"{path}: holds a {type(loaded).__name__}, not a network's tensors")
    items = cast("Mapping[Any, Any]", loaded).items()
    state = {str(key): value.detach() for key, value in items if isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(f"{path}: holds no network (no tensors in it)")
    return state


def _has_tensors(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    values = cast("Mapping[Any, Any]", value).values()
    return any(isinstance(inner, Tensor) or _is_wrapper(inner) for inner in values)


def _is_wrapper(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    return any(isinstance(inner, Tensor) for inner in cast("Mapping[Any, Any]", value).values())


def _strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {key: tensor for key, tensor in state.items() if key != "n_averaged"}  # torch's EMA
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            if state and all(key.startswith(prefix) for key in state):
                state = {key[len(prefix) :]: tensor for key, tensor in state.items()}
                stripped = True
    return state


def _check_storage(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse views that pretend to be larger than the memory behind them."""
    total = 0
    for key, tensor in state.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not plain or tensor.is_quantized:
            raise CheckpointError(f"{path}: the tensor {key} is sparse, quantised or empty of data")
        size = tensor.numel() * tensor.element_size()
        if size > tensor.untyped_storage().nbytes():
            raise CheckpointError(f"{path}: the tensor {key} is larger than its data")
        total += size
    if total > _BYTES_FACTOR * path.stat().st_size:
        raise CheckpointError(f"{path}: its tensors are larger than the file")


def _check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{path}: the tensor {key} has values that are not finite; the file is unusable"
            )
