"""Selection of the device and the precision that compute."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager, nullcontext

import torch

from upscale.engine.choices import Precision
from upscale.errors import DeviceError, UsageError

PRECISIONS: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


def pick_device(name: str = "auto") -> torch.device:
    """Return the device for `auto` (the fastest), `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        UsageError: The name is invalid.
        DeviceError: The device is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in {"cpu", "cuda", "mps"} or (number and not (kind == "cuda" and number.isdigit())):
        raise UsageError(f"device {name!r} is not one of auto, cpu, cuda, cuda:N, mps")
    if kind == "mps" and not _has_mps():
        raise DeviceError("no Apple GPU is available to torch: use --device cpu")
    if kind == "cuda":
        _check_cuda(int(number or 0))
        return torch.device("cuda", int(number or 0))
    return torch.device(kind)


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the type for `auto` (fp16 on a GPU, else fp32), `fp32`, `fp16` or `bf16`.

    Raises:
        UsageError: The name is invalid.
        DeviceError: The device does not support the precision.
    """
    if name == "auto":
        name = "fp32" if device.type == "cpu" else "fp16"
    dtype = {str(known): dtype for known, dtype in PRECISIONS.items()}.get(name)
    if dtype is None:
        raise UsageError(f"precision {name!r} is not one of auto, {', '.join(PRECISIONS)}")
    if name == "bf16" and device.type == "cuda":
        with torch.cuda.device(device):
            if not torch.cuda.is_bf16_supported():
                raise DeviceError("this GPU does not support bf16: use --precision fp16")
    return dtype


def precision_name(dtype: torch.dtype) -> Precision:
    """Return the name of a precision, as options spell it."""
    return next(name for name, value in PRECISIONS.items() if value == dtype)


@contextmanager
def computing_on(device: torch.device) -> Generator[None]:
    """Compute on a device, without gradients and without TF32.

    TF32 would cost three decimal digits of fp32. It is a setting of the whole process: it stays
    off until the last thread leaves.
    """
    current = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
    with torch.inference_mode(), current, _without_tf32:
        yield


class _WithoutTf32:
    """Context manager that disables TF32 in cuDNN while any thread is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = True

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = torch.backends.cudnn.allow_tf32
                torch.backends.cudnn.allow_tf32 = False
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                torch.backends.cudnn.allow_tf32 = self._before


_without_tf32 = _WithoutTf32()


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _check_cuda(index: int) -> None:
    if not torch.cuda.is_available():
        raise DeviceError("no CUDA GPU is available to torch: use --device cpu, or see `doctor`")
    if index >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise DeviceError(f"there is no cuda:{index}: use cuda:0 to cuda:{count - 1}")
