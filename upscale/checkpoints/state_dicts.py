"""Read and write state dicts.

The format is detected from the content, and from the suffix only if the content is ambiguous. Files
are untrusted: only tensors are unpickled, and no size that a file declares is trusted before it is
compared with the length of the file.

The loader of spandrel 0.4.2 reads torch and safetensors files, too, but it selects the format by
the suffix, cannot read ncnn files, and does not check the sizes of archives and tensors.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from upscale.checkpoints.files import check_header
from upscale.checkpoints.ncnn import BIN_TAGS, PARAM_MAGIC, pair_of, read_ncnn
from upscale.checkpoints.pickles import PickleError, check_archive, check_legacy
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
"""Keys under which training programs store the tensors, the preferred one first."""

PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that data-parallel and compiled modules add to every key."""

ARCHIVE_MAGIC = b"PK\x03\x04"
TORCH_SUFFIXES = (".pth", ".pt", ".ckpt")
_WRAPPER_DEPTH = 3
_BYTES_FACTOR = 4
"""Limit of the size of all tensors divided by that of the file; tensors may share memory."""

MAX_TENSORS = 20_000
_NUMBERS_PER_TENSOR = 10
"""Limit of the layer numbers in keys divided by the number of tensors."""

_NUMBERS = frozenset(
    getattr(torch, name)
    for name in (
        *("float64", "float32", "float16", "bfloat16"),
        *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
        *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool"),
    )
)
"""Types of tensors that are read; all can be converted to float32."""

Kind = Literal["safetensors", "torch", "ncnn"]

SUFFIX_OF_KIND: Mapping[Kind, str] = {
    "safetensors": ".safetensors",
    "torch": ".pth",
    "ncnn": ".bin",
}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint to the CPU, in their stored types.

    Supported are `.safetensors`, torch's `.pth`, `.pt` and `.ckpt` (also with the usual wrappers
    and prefixes), and ncnn's `.param` and `.bin` (either file of the pair; the tensors are float32
    with Real-ESRGAN's keys).

    Args:
        path: Checkpoint file.

    Raises:
        CheckpointError: The file cannot be read, is not a checkpoint, contains objects other than
            tensors, which could run code, or contains tensors that are not finite.
    """
    kind = detect_kind(path)
    if kind == "ncnn":
        state = read_ncnn(path)
    elif kind == "safetensors":
        state = _read_safetensors(path)
    else:
        state = _read_torch(path)
    _check_tensors(path, state)
    return state


def write_safetensors(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a state dict atomically; an existing file is replaced.

    Args:
        state: Tensors of any type, on any device.
        path: File to write; missing folders are created.
        metadata: Short texts for the header of the file.

    Raises:
        CheckpointError: The file cannot be written.
    """
    try:
        content = safetensors_content(state, metadata)
        replace_file(path, lambda file: file.write(content))
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written ({one_line(error)})") from error


def safetensors_content(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the content of a safetensors file; equal tensors and texts give equal bytes.

    Args:
        state: Tensors of any type, on any device.
        metadata: Short texts for the header of the file.
    """
    # Copies, because safetensors does not accept tensors that share memory.
    tensors = {
        key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in state.items()
    }
    return _sorted_metadata(safetensors.torch.save(tensors, dict(metadata)))


def _sorted_metadata(content: bytes) -> bytes:
    """Return a safetensors file with its metadata in order, so that equal contents are equal bytes.

    The library writes them in another order each time.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    return len(text).to_bytes(8, "little") + text + content[end:]


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files of a checkpoint, which are two for ncnn.

    Raises:
        CheckpointError: The file cannot be read, is not a checkpoint, or its partner is missing.
    """
    return pair_of(path) if detect_kind(path) == "ncnn" else (path,)


def detect_kind(path: Path) -> Kind:
    """Return the format of a checkpoint.

    Raises:
        CheckpointError: The file cannot be read, or is not a checkpoint.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise CheckpointError(f"{path}: is not a regular file; pass a checkpoint file")
        with path.open("rb") as stream:
            head = stream.read(64)
    except IsADirectoryError:
        raise CheckpointError(f"{path}: is a folder; pass a checkpoint file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({one_line(error)})") from error
    _reject_common_mistakes(path, head)
    if head.startswith(ARCHIVE_MAGIC):
        return "torch"
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith((PARAM_MAGIC, *BIN_TAGS)) or path.suffix.lower() in (".param", ".bin"):
        return "ncnn"
    if head.startswith(b"\x80") or path.suffix.lower() in TORCH_SUFFIXES:
        return "torch"
    raise CheckpointError(
        f"{path}: not a checkpoint; pass a .safetensors, .pth, .pt, .ckpt or ncnn .param/.bin file"
    )


def _reject_common_mistakes(path: Path, head: bytes) -> None:
    """Raise a helpful error for files that are often downloaded by mistake."""
    if not head:
        raise CheckpointError(f"{path}: is empty; download it again")
    if head.lstrip().startswith((b"<!", b"<html", b"<HTML")):
        raise CheckpointError(f"{path}: is a web page, not a checkpoint; download the file itself")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path}: is a Git LFS pointer, not the checkpoint; run: git lfs pull"
        )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    check_header(path)
    try:
        state = safetensors.torch.load_file(path)
    except Exception as error:
        raise CheckpointError(
            f"{path}: damaged or truncated safetensors file ({one_line(error)}); download it again"
        ) from error
    return _strip_prefixes(state)


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        check_archive(path) if _is_archive(path) else check_legacy(path)
        # Opened here, because torch selects the format of a path by its suffix.
        with path.open("rb") as stream, warnings.catch_warnings(action="ignore"):
            loaded: object = torch.load(stream, map_location="cpu", weights_only=True)
    except PickleError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # torch raises many types of errors for untrusted data
        raise CheckpointError(
            f"{path}: damaged, or not a torch checkpoint; download it again"
        ) from error
    state = _strip_prefixes(_unwrap(path, loaded))
    _check_storage(path, state)
    return state


def _is_archive(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(ARCHIVE_MAGIC)) == ARCHIVE_MAGIC


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
        raise CheckpointError(
            f"{path}: contains a {type(loaded).__name__}, not the tensors of a network"
        )
    items = cast("Mapping[Any, Any]", loaded).items()
    state = {str(key): value.detach() for key, value in items if isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(f"{path}: contains no tensors")
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
    """Reject views that are larger than the memory behind them."""
    total = 0
    for key, tensor in state.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not plain or tensor.is_quantized:
            raise CheckpointError(f"{path}: the tensor {key} is sparse, quantised or without data")
        size = tensor.numel() * tensor.element_size()
        if size > tensor.untyped_storage().nbytes():
            raise CheckpointError(f"{path}: the tensor {key} is larger than its data")
        total += size
    if total > _BYTES_FACTOR * path.stat().st_size:
        raise CheckpointError(f"{path}: its tensors are larger than the file")


def _check_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    if len(state) > MAX_TENSORS:
        raise CheckpointError(f"{path}: has {len(state)} tensors, more than any network")
    highest = _NUMBERS_PER_TENSOR * len(state) + 100
    for key, tensor in state.items():
        # A network is built with as many layers as the highest number says.
        if any(len(part) > 9 or int(part) > highest for part in re.findall("[0-9]+", key)):
            raise CheckpointError(f"{path}: has a tensor for layer {key[:60]}, but few tensors")
        if tensor.dtype not in _NUMBERS:
            name = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(f"{path}: the tensor {key} has the type {name}; use float32")
        # Float8 has no test of its own.
        wide = tensor.float() if tensor.element_size() == 1 else tensor
        if tensor.is_floating_point() and not bool(wide.isfinite().all()):
            raise CheckpointError(
                f"{path}: the tensor {key} has values that are not finite; the file is unusable"
            )
