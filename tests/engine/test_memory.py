from __future__ import annotations

import numpy as np
import pytest
import torch

from upscale.engine import memory
from upscale.engine.memory import (
    CPU_MINIMUM,
    MOST_SPARE,
    Planes,
    automatic_tile,
    available_memory,
    mapped_tensor,
    minimum_tile_for,
)
from upscale.errors import OutputError
from upscale.models import RRDBNet, RRDBSpec
from upscale.tiling.schedule import NO_MINIMUM, plan

CPU = torch.device("cpu")


def test_some_memory_is_available():
    assert 1 << 26 < available_memory(CPU) < 1 << 50


def test_a_control_group_limits_what_is_available(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 500000\n")
    assert available_memory(CPU) == 2_500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(CPU) > 1 << 26


@pytest.mark.parametrize("room", [1 << 34, 3 << 29, 1 << 29, 1 << 20])
def test_the_automatic_tile_fits_the_memory_or_is_the_smallest(monkeypatch, room):
    groups = RRDBNet(RRDBSpec()).groups()
    monkeypatch.setattr(memory, "available_memory", lambda device: room)
    tile = automatic_tile(groups, 2000, 3000, 4, CPU)
    planned = plan(groups, 2000, 3000, tile, minimum_tile_for(CPU)).values * 4
    assert tile in memory.TILES
    assert tile == memory.TILES[-1] or planned <= room * memory.SHARE


def test_less_memory_never_gives_a_larger_tile(monkeypatch):
    groups = RRDBNet(RRDBSpec()).groups()
    tiles = []
    for megabytes in range(1000, 5000, 100):
        monkeypatch.setattr(memory, "available_memory", lambda device, m=megabytes: m << 20)
        tiles.append(automatic_tile(groups, 2000, 3000, 4, CPU))
    assert tiles == sorted(tiles)
    assert len(set(tiles)) > 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_tensor_in_a_file_works_like_any_other_and_leaves_no_file(tmp_path, monkeypatch, dtype):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(memory.tempfile, "tempdir", None)
    tensor = mapped_tensor((5, 7, 3), dtype)
    values = torch.arange(105).view(5, 7, 3).to(dtype)
    tensor.copy_(values)
    assert torch.equal(tensor, values)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_clear_line(monkeypatch):
    def full(descriptor, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memory, "_claim", full)
    with pytest.raises(OutputError, match=r"No space left.*TMPDIR"):
        memory.mapped_array((10, 10), np.uint8)


def test_planes_retreat_to_a_file_and_no_further():
    planes = Planes(CPU, torch.float32)
    assert planes.home == "host"
    assert planes.allocate(2, 3, 4).shape == (2, 3, 4)
    assert planes.offload()
    assert planes.home == "file"
    assert planes.allocate(2, 3, 4).shape == (2, 3, 4)
    assert not planes.offload()


def test_planes_are_made_of_the_memory_of_earlier_ones_of_nearly_their_size():
    planes = Planes(CPU, torch.bfloat16)
    first = planes.allocate(10, 5, 4)
    places = {first.data_ptr()}
    planes.recycle(first)
    assert planes.allocate(4, 5, 4).data_ptr() not in places  # too small for it
    assert planes.allocate(11, 5, 4).data_ptr() not in places
    second = planes.allocate(3, 15, 4)
    assert second.data_ptr() in places and second.shape == (3, 15, 4)
    assert planes.allocate(3, 15, 4).data_ptr() not in places  # taken
    planes.recycle(second)
    assert planes.allocate(10, 5, 4).data_ptr() in places  # its whole size is remembered


def test_few_planes_are_kept_and_none_once_they_go_to_a_file():
    planes = Planes(CPU, torch.float32)
    given = [planes.allocate(10, 5, 4) for _ in range(MOST_SPARE + 3)]
    places = [plane.data_ptr() for plane in given]
    for plane in given:
        planes.recycle(plane)
    again = [planes.allocate(10, 5, 4) for _ in range(MOST_SPARE)]
    assert {plane.data_ptr() for plane in again} == set(places[3:])
    planes.recycle(again[0])
    planes.offload()
    planes.recycle(planes.allocate(10, 5, 4))
    assert planes.allocate(10, 5, 4).data_ptr() not in places


def test_only_a_processor_has_a_floor():
    assert minimum_tile_for(CPU) == CPU_MINIMUM
    assert minimum_tile_for(torch.device("cuda")) == NO_MINIMUM


def test_images_too_large_for_memory_go_to_a_file(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda device: 1000)
    assert isinstance(memory.image_array((100, 10, 3), np.uint16), np.memmap)
    assert not isinstance(memory.image_array((10, 10, 3), np.uint8), np.memmap)
