"""Selection of the device and the precision that compute."""

from __future__ import annotations

import re
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from upscale.engine.choices import Precision
from upscale.errors import DeviceError, UsageError

PRECISIONS: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}

_OLDEST_HALF = (7, 0)
"""First compute capability with fast convolutions in fp16."""

_NAN_IN_HALF = re.compile(r"\b(GTX 16\d0|MX[45]50|CMP 30HX|T(400|500|550|600|1000|1200|2000))\b")
"""NVIDIA GPUs of the chips TU116 and TU117, of compute capability 7.5 but without matrix units.
cuDNN's convolutions in fp16 return NaN on them (pytorch issues 58123 and 77955)."""

_ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")


def pick_device(name: str = "auto") -> torch.device:
    """Return the device for a name.

    Args:
        name: `auto` (the first of the next ones that can compute), `cuda` (the first GPU that
            this build of PyTorch has code for), `cuda:N`, `xpu`, `xpu:N`, `mps` or `cpu`.

    Raises:
        UsageError: The name is invalid.
        DeviceError: The device is not available.
    """
    if name == "auto":
        return _automatic_device()
    kind, _, number = name.partition(":")
    has_numbers = kind in {"cuda", "xpu"}
    if kind not in {"cpu", "cuda", "mps", "xpu"} or (
        number and not (has_numbers and number.isdecimal())
    ):
        raise UsageError(f"device {name!r} is not one of auto, cpu, cuda, cuda:N, mps, xpu, xpu:N")
    if kind == "mps" and not _has_mps():
        raise DeviceError("no Apple GPU is available to torch: use --device cpu")
    if has_numbers:
        return _numbered_device(kind, number)
    return torch.device(kind)


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the type for `auto` (see `automatic_precision`), `fp32`, `fp16` or `bf16`.

    Raises:
        UsageError: The name is invalid.
        DeviceError: The device does not support the precision.
    """
    if name == "auto":
        name, _ = automatic_precision(device)
    dtype = {str(known): dtype for known, dtype in PRECISIONS.items()}.get(name)
    if dtype is None:
        raise UsageError(f"precision {name!r} is not one of auto, {', '.join(PRECISIONS)}")
    if name == "bf16" and not _has_bf16(device):
        raise DeviceError("this GPU does not support bf16: use --precision fp16")
    return dtype


def automatic_precision(device: torch.device) -> tuple[Precision, str]:
    """Return the precision for `auto`, and the reason for it."""
    if device.type == "cpu":
        return "fp32", "default on a CPU"
    if device.type == "cuda" and torch.version.hip is None:
        capability, name = _capability(device.index), torch.cuda.get_device_name(device.index)
        if capability < _OLDEST_HALF:
            return "fp32", f"fp16 is slow or inexact on {name}, of compute capability below 7.0"
        if capability == (7, 5) and _NAN_IN_HALF.search(name):
            return "fp32", f"fp16 gives invalid values on {name}"
    return "fp16", "default on a GPU"


def device_notes(device_name: str, precision: str = "auto") -> list[str]:
    """Return one line for each GPU that the choice ignores, and for a GPU that computes in fp32.

    Args:
        device_name: Device as for `pick_device`, which accepts it.
        precision: Precision as for `pick_precision`.
    """
    device = pick_device(device_name)
    notes: list[str] = []
    if device_name in {"auto", "cuda"}:
        end = device.index if device.type == "cuda" else None
        notes += [f"{fault}; it is not used" for fault in list(_faults())[:end] if fault]
    if precision == "auto" and device.type != "cpu":
        chosen, reason = automatic_precision(device)
        notes += [f"{device} computes in fp32: {reason}"] if chosen == "fp32" else []
    return notes


def precision_name(dtype: torch.dtype) -> Precision:
    """Return the name of a precision, as options spell it."""
    return next(name for name, value in PRECISIONS.items() if value == dtype)


def missing_code(index: int) -> str | None:
    """Return why this build of PyTorch cannot compute on a CUDA GPU, or None if it can.

    A GPU runs machine code for its own generation up to its own compute capability, and
    intermediate code (PTX) for any older one.
    """
    architectures = torch.cuda.get_arch_list()
    if torch.version.hip is not None or not architectures:
        return None
    capability = _capability(index)
    if any(_runs_on(each, capability) for each in architectures):
        return None
    return (
        f"cuda:{index} ({torch.cuda.get_device_name(index)}, compute capability "
        f"{capability[0]}.{capability[1]}) needs another build of PyTorch: "
        f"{torch.__version__} has code for {', '.join(architectures)}"
    )


@contextmanager
def computing_on(device: torch.device) -> Generator[None]:
    """Compute on a device, without gradients and without TF32.

    TF32 would cost three decimal digits of fp32. It is a setting of the whole process: it stays
    off until the last thread leaves.
    """
    with torch.inference_mode(), current_device(device), _without_tf32:
        yield


@contextmanager
def current_device(device: torch.device) -> Generator[None]:
    """Make a device the current one of its kind in this thread.

    Streams need this, too: at its end, `torch.cuda.stream` selects the device that was the current
    one before, by default GPU 0, and creates a context there that takes memory.
    """
    switches = {"cuda": torch.cuda.device, "xpu": torch.xpu.device}
    with switches.get(device.type, nullcontext)(device):
        yield


class _WithoutTf32:
    """Context manager that disables TF32 while any thread is inside.

    `allow_tf32` cannot be read where a host program has set `fp32_precision`, and turning it off
    has no effect where a program has set `torch.backends.cudnn.fp32_precision`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._changed: list[Any] = []

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                # Convolutions, and the matrix products of resizing.
                backends: Any = torch.backends
                settings = backends.cudnn.conv, backends.cuda.matmul
                self._changed = [each for each in settings if each.fp32_precision == "tf32"]
                for each in self._changed:
                    each.fp32_precision = "ieee"
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for each in self._changed:
                    each.fp32_precision = "tf32"


_without_tf32 = _WithoutTf32()


def _automatic_device() -> torch.device:
    for index, fault in enumerate(_faults()):
        if fault is None:
            return torch.device("cuda", index)
    if torch.xpu.is_available():
        return torch.device("xpu", 0)
    return torch.device("mps" if _has_mps() else "cpu")


def _faults() -> Iterator[str | None]:
    """Yield the fault of each CUDA GPU, None for a usable one."""
    if torch.cuda.is_available():
        yield from map(missing_code, range(torch.cuda.device_count()))


def _numbered_device(kind: str, number: str) -> torch.device:
    """Return a CUDA or Intel GPU by its number; without one, the first that is usable."""
    module, maker = (torch.cuda, "CUDA") if kind == "cuda" else (torch.xpu, "Intel")
    if not module.is_available():
        raise DeviceError(
            f"no {maker} GPU is available to torch: use --device cpu, or see `doctor`"
        )
    count = module.device_count()
    if number and int(number) >= count:
        raise DeviceError(f"there is no {kind}:{number}: use {kind}:0 to {kind}:{count - 1}")
    fault = None
    for index in [int(number)] if number else range(count):
        fault = missing_code(index) if kind == "cuda" else None
        if fault is None:
            return torch.device(kind, index)
    raise DeviceError(f"{fault}; use --device cpu")


def _runs_on(architecture: str, capability: tuple[int, int]) -> bool:
    """Return whether a GPU runs code of an architecture such as sm_90a or compute_120."""
    match = _ARCHITECTURE.fullmatch(architecture)
    if match is None:
        return True  # of a kind that is not known yet
    kind, major, minor, limit = match.groups()
    code = int(major), int(minor)
    if limit == "a":
        return capability == code
    if kind == "sm" or limit == "f":
        return capability[0] == code[0] and capability >= code
    return capability >= code


def _capability(index: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(index)


def _has_bf16(device: torch.device) -> bool:
    """Return whether a device computes in bf16, without emulation."""
    with current_device(device):
        if device.type == "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "xpu":
            return torch.xpu.is_bf16_supported(including_emulation=False)
    if device.type == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    return True


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
