"""Which device computes, and in which precision."""

from __future__ import annotations

import torch

from upscale.errors import DeviceError, UsageError

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def pick_device(name: str = "auto") -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:N` or `mps` into a device; `auto` takes the fastest.

    Raises:
        UsageError: the name means nothing.
        DeviceError: the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in {"cpu", "cuda", "mps"} or (number and not (kind == "cuda" and number.isdigit())):
        raise UsageError(f"device {name!r} is none of auto, cpu, cuda, cuda:N, mps")
    if kind == "mps" and not _has_mps():
        raise DeviceError("no Apple GPU is available to torch: use --device cpu")
    if kind == "cuda":
        _check_cuda(int(number or 0))
        return torch.device("cuda", int(number or 0))
    return torch.device(kind)


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Turn `auto`, `fp32`, `fp16` or `bf16` into a type; `auto` is fp16 on a GPU, else fp32.

    Raises:
        UsageError: the name means nothing.
        DeviceError: the device cannot compute in it.
    """
    if name == "auto":
        name = "fp32" if device.type == "cpu" else "fp16"
    if name not in PRECISIONS:
        raise UsageError(f"precision {name!r} is none of auto, {', '.join(PRECISIONS)}")
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise DeviceError("this GPU cannot compute in bf16: use --precision fp16")
    return PRECISIONS[name]


def precision_name(dtype: torch.dtype) -> str:
    """The name of a precision, as options spell it."""
    return next(name for name, value in PRECISIONS.items() if value == dtype)


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _check_cuda(index: int) -> None:
    if not torch.cuda.is_available():
        raise DeviceError("no CUDA GPU is available to torch: use --device cpu, or see `doctor`")
    if index >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise DeviceError(f"there is no cuda:{index}: the last of {count} is cuda:{count - 1}")
