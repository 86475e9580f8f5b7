"""Which errors count as running out of memory."""

from __future__ import annotations

import errno

import cv2
import pytest
import torch

from upscale.errors import MemoryExhaustedError
from upscale.out_of_memory import is_out_of_memory

ENGINE = "was unable to find an engine to execute this computation"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.OutOfMemoryError(),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        cv2.error("OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate"),
        RuntimeError("can't start new thread"),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be ..."),
        *map(
            RuntimeError,
            [
                f"GET {ENGINE}",
                f"FIND {ENGINE}",
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
                "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
                "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
                "Triton Error [CUDA]: out of memory",
                "HIP out of memory. Tried to allocate 2.00 GiB.",
                "HIP error: hipErrorOutOfMemory",
                "MPS backend out of memory (MPS allocated: 9.05 GB, other allocations: 1 GB)",
                "Invalid buffer size: 24.00 GiB",
                "XPU out of memory. Tried to allocate 2.00 GiB.",
                "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
                "Native API failed. Native API returns: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)",
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 4000000000000 bytes.",
                "DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes.",
                "std::bad_alloc",
            ],
        ),
    ],
    ids=str,
)
def test_lack_of_memory_is_recognised(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("out of memory"),
        OSError(errno.EIO, "Input/output error", "out of memory.png"),
        MemoryExhaustedError("out of memory"),
    ],
    ids=str,
)
def test_other_errors_are_not_a_lack_of_memory(error):
    assert not is_out_of_memory(error)


def test_the_cpu_allocator_of_this_torch_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
