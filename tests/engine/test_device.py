from __future__ import annotations

import threading
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from upscale.engine.device import (
    automatic_precision,
    computing_on,
    device_notes,
    pick_device,
    pick_precision,
)
from upscale.engine.transfer import Transfer
from upscale.errors import DeviceError, UsageError

CPU = torch.device("cpu")


MATMUL, CONVOLUTION = torch.backends.cuda.matmul, torch.backends.cudnn.conv


@pytest.fixture
def tf32():
    """Enable TF32, and restore the settings afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
    yield lambda: [each.fp32_precision == "tf32" for each in (CONVOLUTION, MATMUL)]
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision(before)


class Gpus:
    """A stand-in for `torch.cuda` with GPUs, for a build of PyTorch with some machine code.

    Attributes:
        current: Current device.
        touched: Devices on which a context was created.
    """

    def __init__(self, monkeypatch, gpus, code="sm_75 sm_80 sm_86 sm_90 sm_100 sm_120", hip=None):
        self.gpus, self.current, self.touched = gpus, 0, set()
        for name, value in {
            "is_available": lambda: bool(gpus),
            "device_count": lambda: len(gpus),
            "get_arch_list": code.split,
            "get_device_name": lambda index: gpus[index][0],
            "get_device_capability": lambda index: gpus[index][1],
            "is_bf16_supported": self._is_bf16_supported,
            "device": self.device,
            "stream": self.stream,
            "Stream": Stream,
            "Event": Event,
            "current_stream": lambda device=None: Stream(
                self.current if device is None else device
            ),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch.version, "hip", hip)

    def _is_bf16_supported(self, including_emulation=True):
        return including_emulation or self.gpus[self.current][1] >= (8, 0)

    def select(self, index):
        self.current = index
        self.touched.add(index)

    @contextmanager
    def device(self, device):
        before = self.current
        self.select(torch.device(device).index)
        yield
        self.current = before  # without a context

    @contextmanager
    def stream(self, stream):
        before = self.current
        self.select(stream.device.index)
        yield
        self.select(before)


class Stream:
    def __init__(self, device):
        self.device = torch.device("cuda", device) if isinstance(device, int) else device

    def wait_event(self, event):
        pass


class Event:
    def record(self, stream):
        pass

    def synchronize(self):
        pass


PASCAL, TURING = ("Tesla P100", (6, 0)), ("NVIDIA GeForce RTX 2080", (7, 5))
HOPPER, TU116 = ("NVIDIA H200", (9, 0)), ("NVIDIA GeForce GTX 1660 SUPER", (7, 5))


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
        assert tf32() == [False, False]
    assert tf32() == [False, False]
    may_leave.set()
    thread.join()
    assert tf32() == [True, True]


def test_gradients_are_off_and_an_error_restores_the_settings(tf32):
    with pytest.raises(RuntimeError), computing_on(CPU):
        assert torch.is_inference_mode_enabled()
        raise RuntimeError
    assert not torch.is_inference_mode_enabled()
    assert tf32() == [True, True]


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "xpu:x", "cpu:1", "mps:0", ""])
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


@pytest.mark.parametrize("setting", ["tf32", "ieee"])
@pytest.mark.parametrize("scope", [torch.backends.cudnn, torch.backends])
def test_settings_of_fp32_precision_are_respected(tf32, scope, setting):
    """With them, `allow_tf32` cannot be read, and setting it has no effect."""
    scope.fp32_precision = setting
    CONVOLUTION.fp32_precision = MATMUL.fp32_precision = setting
    try:
        with computing_on(CPU):
            assert tf32() == [False, False]
        assert [CONVOLUTION.fp32_precision, MATMUL.fp32_precision] == [setting] * 2
    finally:
        scope.fp32_precision = "none"


@pytest.mark.parametrize(
    ("capability", "code", "is_usable"),
    [
        ((6, 1), "sm_75 sm_80 sm_120", False),
        ((8, 9), "sm_75 sm_86 sm_90", True),  # code of its generation, for an older one
        ((8, 0), "sm_75 sm_86", False),
        ((10, 3), "sm_90 compute_90", True),  # intermediate code
        ((7, 5), "sm_90 compute_90", False),
        ((10, 0), "sm_90a compute_90a", False),
        ((9, 0), "sm_90a", True),
        ((10, 3), "sm_100f", True),
        ((10, 0), "sm_103f", False),
        ((12, 1), "sm_120", True),
        ((7, 0), "something_else", True),
        ((7, 0), "", True),
    ],
)
def test_gpus_without_code_in_this_torch_are_refused(capability, code, is_usable, monkeypatch):
    Gpus(monkeypatch, [("A GPU", capability)], code)
    if is_usable:
        assert pick_device("cuda:0") == pick_device("cuda") == torch.device("cuda", 0)
        assert device_notes("auto", "fp16") == []
        return
    for name in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError, match=r"cuda:0 \(A GPU, .*needs another build .*--device"):
            pick_device(name)
    assert pick_device("auto") == CPU
    [note] = device_notes("auto")
    assert "compute capability" in note and note.endswith("it is not used")


def test_auto_takes_the_first_gpu_that_can_compute(monkeypatch):
    Gpus(monkeypatch, [PASCAL, HOPPER, PASCAL])
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda", 1)
    [note] = device_notes("auto")
    assert note.startswith("cuda:0 (Tesla P100, compute capability 6.0) needs another build")
    assert device_notes("cuda:1") == device_notes("cpu") == []


@pytest.mark.parametrize(
    ("name", "capability", "precision"),
    [
        ("NVIDIA GeForce GTX 1660 SUPER", (7, 5), "fp32"),
        ("NVIDIA GeForce GTX 1650 Ti", (7, 5), "fp32"),
        ("NVIDIA T1000 8GB", (7, 5), "fp32"),
        ("Quadro T2000 with Max-Q Design", (7, 5), "fp32"),
        ("NVIDIA GeForce MX450", (7, 5), "fp32"),
        ("NVIDIA GeForce GTX 1080 Ti", (6, 1), "fp32"),
        ("Tesla T4", (7, 5), "fp16"),
        ("NVIDIA GeForce RTX 2060", (7, 5), "fp16"),
        ("Quadro RTX 4000", (7, 5), "fp16"),
        ("NVIDIA TITAN V", (7, 0), "fp16"),
        ("NVIDIA H200", (9, 0), "fp16"),
    ],
)
def test_half_precision_is_the_default_where_it_is_fast_and_right(
    name, capability, precision, monkeypatch
):
    Gpus(monkeypatch, [(name, capability)], code="sm_50 compute_50")
    device = pick_device("auto")
    chosen, reason = automatic_precision(device)
    assert chosen == precision
    assert pick_precision("auto", device) == getattr(
        torch, {"fp32": "float32"}.get(precision, "half")
    )
    assert pick_precision("fp16", device) == torch.float16  # on request
    notes = [f"cuda:0 computes in fp32: {reason}"] if precision == "fp32" else []
    assert device_notes("auto") == notes
    assert device_notes("auto", "fp16") == []


def test_emulated_bf16_does_not_count(monkeypatch):
    Gpus(monkeypatch, [HOPPER, TURING])
    assert pick_precision("bf16", pick_device("cuda:0")) == torch.bfloat16
    with pytest.raises(DeviceError, match="does not support bf16"):
        pick_precision("bf16", pick_device("cuda:1"))


def test_compute_capabilities_mean_nothing_on_amd_gpus(monkeypatch):
    Gpus(monkeypatch, [("AMD Radeon GTX 1660", (6, 0))], "gfx1100 gfx942", hip="6.4")
    assert pick_device("auto") == torch.device("cuda", 0)
    assert automatic_precision(pick_device("auto")) == ("fp16", "default on a GPU")


def test_intel_and_apple_gpus_are_found(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == pick_device("mps") == torch.device("mps")
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 2)
    assert pick_device("auto") == pick_device("xpu") == torch.device("xpu", 0)
    assert pick_device("xpu:1") == torch.device("xpu", 1)
    assert automatic_precision(torch.device("xpu", 1)) == ("fp16", "default on a GPU")
    with pytest.raises(DeviceError, match="there is no xpu:2: use xpu:0 to xpu:1"):
        pick_device("xpu:2")


def test_transfers_to_a_second_gpu_leave_the_first_alone(monkeypatch):
    gpus = Gpus(monkeypatch, [HOPPER, HOPPER])
    transfer = Transfer(torch.device("cuda", 1))
    transfer._pinned = SimpleNamespace(upload=lambda plane: plane, download=lambda plane: plane)
    transfer.upload([np.zeros((2, 3), np.uint8)])
    transfer.download([SimpleNamespace(is_cuda=True, record_stream=lambda stream: None)])
    assert (gpus.current, gpus.touched) == (0, {1})
