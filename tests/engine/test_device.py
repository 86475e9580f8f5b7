from __future__ import annotations

import threading

import pytest
import torch

from upscale.engine.device import computing_on, pick_device, pick_precision
from upscale.errors import DeviceError, UsageError

CPU = torch.device("cpu")


@pytest.fixture
def tf32():
    """Enable TF32, and restore the setting afterwards."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    yield lambda: torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = before


def test_tf32_is_off_until_the_last_of_several_threads_leaves(tf32):
    entered, may_leave = threading.Event(), threading.Event()

    def compute():
        with computing_on(CPU):
            entered.set()
            may_leave.wait()

    thread = threading.Thread(target=compute)
    with computing_on(CPU):
        thread.start()
        entered.wait()
        assert not tf32()
    assert not tf32()
    may_leave.set()
    thread.join()
    assert tf32()


def test_gradients_are_off_and_an_error_restores_the_settings(tf32):
    with pytest.raises(RuntimeError), computing_on(CPU):
        assert torch.is_inference_mode_enabled()
        raise RuntimeError
    assert not torch.is_inference_mode_enabled()
    assert tf32()


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cpu:1", ""])
def test_invalid_device_names_raise_usage_error(name):
    with pytest.raises(UsageError):
        pick_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_raises_device_error():
    with pytest.raises(DeviceError):
        pick_device("cuda")


def test_precision_names_select_types():
    assert pick_precision("auto", CPU) == torch.float32
    assert pick_precision("bf16", CPU) == torch.bfloat16
    with pytest.raises(UsageError):
        pick_precision("fp8", CPU)
