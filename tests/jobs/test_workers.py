from __future__ import annotations

import pytest

from upscale.errors import DeviceError, MemoryExhaustedError
from upscale.jobs.workers import Worker

MORE_LINES = "\nCUDA kernel errors might be asynchronously reported"


def outcome(message):
    """Return the error of a piece of work that fails with a message, and the worker."""

    def work(upscaler):
        raise RuntimeError(message + MORE_LINES)

    worker = Worker("cuda:1", object)
    worker.prepare()
    try:
        return worker.start(work).exception(), worker
    finally:
        worker.close()


def test_a_device_that_fails_is_not_used_any_more():
    error, worker = outcome("CUDA error: an illegal memory access was encountered")
    assert isinstance(error, DeviceError) and worker.failure is error
    assert "cuda:1" in str(error) and "\n" not in str(error)


def test_memory_that_runs_out_is_an_error_of_the_image_and_the_device_goes_on():
    error, worker = outcome("CUDA error: out of memory")
    assert isinstance(error, MemoryExhaustedError) and "cuda:1" in str(error)
    assert worker.failure is None and worker.is_free


def test_other_errors_are_those_of_the_image():
    error, worker = outcome("a bug")
    assert type(error) is RuntimeError
    assert worker.failure is None


@pytest.mark.parametrize("message", ["cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"])
def test_errors_of_libraries_are_failures_of_the_device(message):
    _, worker = outcome(message)
    assert worker.failure is not None
