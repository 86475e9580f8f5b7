"""Whether an error means that memory ran out, on a device or on the host."""

from __future__ import annotations

import errno

from upscale.errors import UpscaleError

_SIGNS = (
    "out of memory",  # torch's allocators on CUDA, ROCm, MPS and XPU; pinned memory; Triton
    "not enough memory",  # torch on a CPU, Windows
    "can't allocate memory",  # torch on a CPU, elsewhere
    "cannot allocate memory", "can't start new thread",  # the system
    "insufficient memory",  # OpenCV
    "bad_alloc", "bad allocation",  # C++
    "alloc_failed",  # cuBLAS, cuDNN 8, hipBLAS
    "allocation_failed",  # cuDNN 9
    "unable to find an engine",  # torch, when cuDNN has not enough memory to work in
    "invalid buffer size",  # MPS: larger than any buffer may be
    "out_of_device_memory", "out_of_host_memory", "out_of_resources",  # XPU
    "outofmemory",  # ROCm
)  # fmt: skip
"""Parts of messages in lower case. Some errors of cuDNN that name no cause are taken for a lack of
memory; then smaller tiles fail, too, and the error of the smallest is reported."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out; libraries have many classes for it.

    Args:
        error: Any error.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("std::bad_alloc"))
        (True, True)
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):  # whose text may contain the name of a file
        return error.errno == errno.ENOMEM
    if isinstance(error, UpscaleError):
        return False
    is_of_library = isinstance(error, RuntimeError) or type(error).__module__ != "builtins"
    text = str(error).lower()
    return is_of_library and any(sign in text for sign in _SIGNS)
