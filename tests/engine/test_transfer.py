from __future__ import annotations

from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch

from upscale.engine import transfer as transfer_module
from upscale.engine.transfer import Transfer
from upscale.engine.yuv import Layout, plane_array, plane_tensor, to_planes, to_rgb

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]


def planes_of(seed, kind, size=(64, 48)):
    random = np.random.default_rng(seed)
    highest = np.iinfo(kind).max
    return [random.integers(0, highest, size, kind, endpoint=True) for _ in range(3)]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("device", DEVICES)
def test_planes_survive_upload_and_download(device, kind):
    transfer = Transfer(torch.device(device))
    sent = planes_of(1, kind)
    uploaded = transfer.upload(sent).planes()
    assert {plane.device.type for plane in uploaded} == {device}
    for plane, same in zip(transfer.download(uploaded).arrays(), sent, strict=True):
        assert plane.dtype == kind and np.array_equal(plane, same)


@pytest.mark.parametrize("device", DEVICES)
def test_frames_transferred_at_the_same_time_are_not_mixed_up(device):
    """Each is uploaded before the one before it is computed, and fetched after the next one is."""
    transfer, form = Transfer(torch.device(device)), Layout(8, 0, 0, "rgb", "rgb", True)
    frames = [planes_of(seed, np.uint8, (700, 900)) for seed in range(12)]
    uploaded = [transfer.upload(planes) for planes in frames]
    downloaded = []
    for each in uploaded:
        inverted = 1 - to_rgb(each.planes(), form, device)
        downloaded.append(transfer.download(to_planes(inverted, form)))
        del each, inverted
    for planes, result in zip(frames, downloaded, strict=True):
        for plane, inverse in zip(planes, result.arrays(), strict=True):
            assert np.array_equal(255 - plane, inverse)


def test_nothing_is_copied_on_the_cpu():
    transfer = Transfer(torch.device("cpu"))
    [plane, *_] = sent = planes_of(2, np.uint16)
    uploaded = transfer.upload(sent).planes()
    assert np.shares_memory(uploaded[0].numpy(), plane)
    assert np.shares_memory(transfer.download(uploaded).arrays()[0], plane)


def test_all_sixteen_bits_survive_as_a_tensor():
    plane = np.array([[0, 1, 32767, 32768, 65535]], np.uint16)
    assert np.array_equal(plane_array(plane_tensor(plane)), plane)
    values = to_rgb([plane_tensor(plane)], Layout(16, 0, 0, "grey", "rgb", True))
    assert torch.allclose(values[0, 0, 0], torch.tensor([0, 1, 32767, 32768, 65535]) / 65535)


@pytest.fixture
def calls(monkeypatch):
    """Record the calls to stand-ins for CUDA's streams; tensors stay where they are.

    The record shows the order of waits, not that copies overlap.
    """
    calls, current = [], ["computing"]

    class Stream:
        def __init__(self, device):
            self.name = "up" if not calls else "down"
            calls.append(f"{self.name} is created")

        def wait_event(self, event):
            calls.append(f"{self.name} waits for {event.name}")

    class Event:
        def record(self, stream):
            self.name = f"the work of {stream.name}"

        def synchronize(self):
            calls.append(f"host waits for {self.name}")

    @contextmanager
    def stream(chosen):
        current.append(chosen.name)
        yield
        current.pop()

    def copied(self, *_, non_blocking):
        calls.append(f"{current[-1]} copies")
        return self

    def unpinned(shape, *, dtype, pin_memory):
        return empty(shape, dtype=dtype)

    def kept(self, stream):
        calls.append(f"{stream.name} keeps")

    computing, empty = object.__new__(Stream), torch.empty
    computing.name = "computing"
    monkeypatch.setattr(transfer_module, "current_device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: computing)
    monkeypatch.setattr(torch, "empty", unpinned)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch.Tensor, "to", copied)
    monkeypatch.setattr(torch.Tensor, "copy_", copied)
    monkeypatch.setattr(torch.Tensor, "record_stream", kept)
    return calls


def test_streams_wait_for_each_other_and_the_host_waits_for_the_download_only(calls):
    transfer = Transfer(torch.device("cuda"))
    [plane, *_] = planes_of(3, np.uint16)
    uploaded = transfer.upload([plane]).planes()
    downloaded = transfer.download(uploaded)
    assert "host" not in " ".join(calls)
    assert downloaded.arrays()[0].shape == plane.shape
    assert calls == [
        "up is created",
        "down is created",
        "up copies",
        "computing waits for the work of up",
        "computing keeps",
        "down waits for the work of computing",
        "down copies",
        "down keeps",
        "host waits for the work of down",
    ]


def test_a_frame_that_a_device_has_no_memory_for_stays_on_the_host(calls, monkeypatch):
    def full(self, *_, non_blocking):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.Tensor, "to", full)
    transfer = Transfer(torch.device("cuda"))
    [plane, *_] = planes_of(3, np.uint16)
    [uploaded] = transfer.upload([plane]).planes()
    assert np.shares_memory(uploaded.numpy(), plane)
    assert calls == ["up is created", "down is created"]
