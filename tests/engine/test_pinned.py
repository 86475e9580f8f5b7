from __future__ import annotations

import pytest
import torch

from upscale.engine import pinned
from upscale.engine.canvas import WRITES_IN_FLIGHT, ArrayCanvas, TileFormat
from upscale.engine.feature_maps import FeatureMaps
from upscale.engine.memory import MEMORY_SHARE
from upscale.engine.pinned import PinnedMemory
from upscale.tiling.grid import Rect

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda", 0), torch.device("mps")


class Host:
    """Stand-in for a host with page-locked memory: torch's rounding, and a limit of the system."""

    def __init__(self, monkeypatch, free=1000, limit=1 << 30, key="allocated_bytes.current"):
        self.pinned, self.copies, self._limit, self._free = 0, [], limit, free
        empty = torch.empty

        def pinned_empty(shape, *, dtype, pin_memory):
            assert pin_memory
            made = empty(shape, dtype=dtype)
            self._pin(made.nbytes)
            return made

        def pin_memory(tensor):
            self._pin(tensor.nbytes)
            return tensor

        def to(tensor, device, non_blocking=False):
            self.copies.append((torch.device(device).type, non_blocking))
            return tensor

        monkeypatch.setattr(torch, "empty", pinned_empty)
        monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
        monkeypatch.setattr(torch.Tensor, "to", to)
        monkeypatch.setattr(torch.cuda, "host_memory_stats", lambda: {key: self.pinned})
        monkeypatch.setattr(pinned, "available_memory", lambda _: self._free - self.pinned)

    def _pin(self, size):
        size = 1 << (size - 1).bit_length()
        if self.pinned + size > self._limit:
            raise RuntimeError("CUDA error: out of memory")
        self.pinned += size


def values(size):
    return torch.zeros(size, dtype=torch.uint8)


@pytest.mark.parametrize("key", ["allocated_bytes.current", "reserved_bytes.current"])
def test_no_more_than_the_planned_share_of_memory_is_pinned(monkeypatch, key):
    host = Host(monkeypatch, key=key)
    memory = PinnedMemory(CUDA)
    for _ in range(9):
        memory.upload(values(65))  # 128 bytes each
    assert host.pinned == 3 * 128 <= 1000 * MEMORY_SHARE < 4 * 128
    assert host.copies == [("cuda", True)] * 3 + [("cuda", False)] * 6


def test_memory_that_other_copies_have_pinned_counts(monkeypatch):
    host = Host(monkeypatch)
    for _ in range(9):
        PinnedMemory(CUDA).download(values(128))
    assert host.pinned == 3 * 128


def test_a_refused_block_is_replaced_by_pageable_memory(monkeypatch):
    host = Host(monkeypatch, limit=64)
    memory = PinnedMemory(CUDA)
    assert torch.equal(memory.upload(values(65)), values(65))
    assert torch.equal(memory.upload_view(values(650).view(65, 10)[:, :2]), values(130).view(65, 2))
    assert torch.equal(memory.download(values(65)), values(65))
    assert host.pinned == 0
    assert host.copies == [("cuda", False)] * 2


@pytest.mark.parametrize("device", [CPU, MPS])
def test_only_cuda_copies_without_waiting(monkeypatch, device):
    """From pageable memory, such copies to an Apple GPU corrupt data."""
    host = Host(monkeypatch)
    memory = PinnedMemory(device)
    memory.upload(values(65))
    memory.upload_view(values(65)[:9])
    memory.download(values(65))
    assert host.pinned == 0
    assert host.copies == [(device.type, False)] * 2


def test_tiles_are_uploaded_to_an_apple_gpu_before_their_memory_is_freed(monkeypatch):
    import numpy as np

    tile_format = TileFormat(MPS, torch.float32, 1)
    canvas = ArrayCanvas(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8), tile_format)
    uploads, real = [], torch.Tensor.to

    def to(tensor, *args, non_blocking=False):
        if isinstance(args[0], torch.device):
            uploads.append((args[0].type, non_blocking))
            return tensor
        return real(tensor, *args)

    monkeypatch.setattr(torch.Tensor, "to", to)
    canvas.read(Rect(0, 4, 0, 4))
    assert uploads == [("mps", False)]


def test_feature_maps_in_host_memory_are_not_pinned(monkeypatch):
    host = Host(monkeypatch)
    monkeypatch.undo()
    feature_maps = FeatureMaps(CUDA, torch.float32, "host")
    rows = feature_maps.allocate(4, 5, 6)
    assert rows.device == CPU and not rows.is_pinned() and host.pinned == 0
    feature_maps.recycle(rows)
    assert feature_maps.allocate(4, 5, 6).data_ptr() == rows.data_ptr()


def test_writes_from_a_gpu_are_added_once_even_if_memory_runs_out(monkeypatch):
    """Each write fails at first, and an old one is finished before a new one begins."""
    import numpy as np

    failures = []

    class Event:
        def record(self):
            pass

        def synchronize(self):
            pass

    def download(self, tile):
        if len(failures) % 2 == 0:
            failures.append("download")
            raise MemoryError
        failures.append("")
        return tile.contiguous()

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(PinnedMemory, "download", download)
    target = np.zeros((8, 2, 3), np.float32)
    source = np.zeros((8, 2, 3), np.float32)
    canvas = ArrayCanvas(source, target, TileFormat(CUDA, torch.float32, 1), weight=0.5)
    for top in range(8):
        place, tile = Rect(top, top + 1, 0, 2), torch.ones(1, 3, 1, 2)
        with pytest.raises(MemoryError):
            canvas.write(place, tile)
        canvas.write(place, tile)
        assert len(canvas._in_flight) <= WRITES_IN_FLIGHT
    canvas.finish()
    assert (target == 0.5).all()
