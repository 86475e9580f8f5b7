from __future__ import annotations

import pytest
import torch

from upscale.engine import memory
from upscale.engine.memory import (
    CPU_MINIMUM,
    automatic_tile,
    available_memory,
    initial_placement,
    minimum_tile_for,
)
from upscale.models import RRDBNet, RRDBSpec
from upscale.tiling.schedule import NO_MINIMUM, plan

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_available_memory_is_plausible():
    assert 1 << 26 < available_memory(CPU) < 1 << 50


def test_limits_of_the_process_count(monkeypatch):
    monkeypatch.setattr(memory, "remaining_memory", lambda: 2_500_000)
    assert available_memory(CPU) == 2_500_000


def test_memory_of_a_gpu_is_what_is_free_and_what_torch_has_cached(monkeypatch):
    device = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", {device: (7000, 9000)}.__getitem__)
    monkeypatch.setattr(torch.cuda, "memory_reserved", {device: 500}.__getitem__)
    monkeypatch.setattr(torch.cuda, "memory_allocated", {device: 200}.__getitem__)
    assert available_memory(device) == 7300


@pytest.mark.parametrize("available", [1 << 34, 3 << 29, 1 << 29, 1 << 20])
def test_the_automatic_tile_fits_the_memory_or_is_the_smallest(monkeypatch, available):
    groups = RRDBNet(RRDBSpec()).layer_groups()
    monkeypatch.setattr(memory, "available_memory", lambda device: available)
    tile = automatic_tile(groups, 2000, 3000, 4, CPU)
    planned = plan(groups, 2000, 3000, tile, minimum_tile_for(CPU)).values * 4
    assert tile in memory.TILES
    assert tile == memory.TILES[-1] or planned <= available * memory.MEMORY_SHARE


@pytest.mark.parametrize("tile, smaller", [(256, 192), (96, 64), (64, 32)])
@pytest.mark.parametrize("value_size", [2, 4])
def test_the_automatic_tile_takes_45_percent_of_available_memory_and_no_more(
    monkeypatch, tile, smaller, value_size
):
    groups = RRDBNet(RRDBSpec(blocks=2)).layer_groups()
    planned = plan(groups, 2000, 3000, tile, minimum_tile_for(CUDA)).values * value_size
    for available, expected in ((planned / 0.45 + 1, tile), (planned / 0.45 - 1, smaller)):
        monkeypatch.setattr(memory, "available_memory", lambda device, free=available: free)
        assert automatic_tile(groups, 2000, 3000, value_size, CUDA) == expected


@pytest.mark.parametrize("tile, smaller", [(128, 96), (96, 64)])
def test_the_automatic_tile_of_a_cpu_counts_the_memory_of_the_minimum_tile(
    monkeypatch, tile, smaller
):
    groups = RRDBNet(RRDBSpec(blocks=2)).layer_groups()
    planned = plan(groups, 2000, 3000, tile, CPU_MINIMUM).values * 4
    for available, expected in ((planned / 0.45 + 1, tile), (planned / 0.45 - 1, smaller)):
        monkeypatch.setattr(memory, "available_memory", lambda device, free=available: free)
        assert automatic_tile(groups, 2000, 3000, 4, CPU) == expected


def test_a_tile_that_fits_exactly_is_taken(monkeypatch):
    groups = RRDBNet(RRDBSpec(blocks=2)).layer_groups()
    planned = plan(groups, 2000, 3000, 256).values * 4
    monkeypatch.setattr(memory, "MEMORY_SHARE", 0.5)
    monkeypatch.setattr(memory, "available_memory", lambda device: planned * 2)
    assert automatic_tile(groups, 2000, 3000, 4, CUDA) == 256


@pytest.mark.parametrize(("device", "largest"), [("cpu", 256), ("mps", 512), ("cuda", 1024)])
def test_the_automatic_tile_is_limited_by_device_type(monkeypatch, device, largest):
    groups = RRDBNet(RRDBSpec(blocks=1)).layer_groups()
    monkeypatch.setattr(memory, "available_memory", lambda device: 1 << 50)
    assert automatic_tile(groups, 5000, 5000, 4, torch.device(device)) == largest


def test_less_memory_never_gives_a_larger_tile(monkeypatch):
    groups = RRDBNet(RRDBSpec()).layer_groups()
    tiles = []
    for megabytes in range(1000, 5000, 100):
        monkeypatch.setattr(memory, "available_memory", lambda device, m=megabytes: m << 20)
        tiles.append(automatic_tile(groups, 2000, 3000, 4, CPU))
    assert tiles == sorted(tiles)
    assert len(set(tiles)) > 3


def test_only_a_cpu_has_a_minimum_tile():
    assert minimum_tile_for(CPU) == CPU_MINIMUM
    assert minimum_tile_for(torch.device("cuda")) == NO_MINIMUM


@pytest.mark.parametrize(
    ("planned", "placement"),
    [(999, "device"), (1000, "device"), (1001, "host"), (2250, "host"), (2251, "file")],
)
def test_feature_maps_start_in_the_fastest_memory_that_holds_them(monkeypatch, planned, placement):
    free = {"cuda": 1000, "cpu": 5000}
    monkeypatch.setattr(memory, "available_memory", lambda device: free[device.type])
    assert initial_placement(planned, torch.device("cuda")) == placement
