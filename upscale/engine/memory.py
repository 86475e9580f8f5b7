"""Available memory, the tile size that fits into it, and where feature maps are placed."""

from __future__ import annotations

from collections.abc import Sequence

import psutil
import torch

from upscale.engine.memory_limits import remaining_memory
from upscale.tiling.group import LayerGroup
from upscale.tiling.schedule import NO_MINIMUM, MinimumTile, plan
from upscale.tiling.wrapping import NO_WRAP, Wrap

MEMORY_SHARE = 0.45
"""Share of the available memory that a run plans to use: allocators keep freed tiles, so that
processes were measured to hold up to 2.1 times their plan."""

TILES = (1024, 768, 512, 384, 256, 192, 128, 96, 64, 32)
"""Tile sides that `auto` chooses from, in feature pixels."""

LARGEST_TILE = {"cpu": 256, "mps": 512}
"""Largest automatic tile by device type. On a CPU, larger tiles take more memory without being
faster, because all of them exceed the caches. A fast GPU needs tiles that take longer to compute
than the host needs to launch them: 71 groups without work took the host 17 ms with one tile each
and 57 ms with four (2 cores, torch 2.13), while 24 frames per second leave 42 ms."""

CPU_MINIMUM = MinimumTile(rows=64, side=192)
"""Minimum tile on a CPU. RRDBNet with 23 blocks holds 72,500 values per column between row chunks
at any tile size, plus 7,000 for a row chunk of 16 rows or 22,400 for one of 64. Smaller chunks
would save a fifth of the memory and take twice as long."""


def available_memory(device: torch.device) -> int:
    """Return the bytes that a run can still allocate on a device, within the limits set for it."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    return min(psutil.virtual_memory().available, remaining_memory())


def automatic_tile(
    groups: Sequence[LayerGroup],
    height: int,
    width: int,
    value_size: int,
    device: torch.device,
    *,
    wrap: Wrap = NO_WRAP,
) -> int:
    """Choose the largest tile whose plan fits into the available memory, or the smallest one.

    Args:
        groups: Layer groups of the network.
        height: Rows of a feature map.
        width: Columns of a feature map.
        value_size: Bytes per value.
        device: Device that computes.
        wrap: Directions in which the image repeats.

    Returns:
        Side of the tile in feature pixels.
    """
    budget = available_memory(device) * MEMORY_SHARE
    largest = LARGEST_TILE.get(device.type, TILES[0])
    minimum = minimum_tile_for(device)
    for tile in TILES:
        planned = plan(groups, height, width, tile, minimum, wrap=wrap).values * value_size
        if tile <= largest and planned <= budget:
            return tile
    return TILES[-1]


def minimum_tile_for(device: torch.device) -> MinimumTile:
    """Return the minimum tile of a device as long as there is memory."""
    return CPU_MINIMUM if device.type == "cpu" else NO_MINIMUM


def initial_placement(planned_bytes: int, device: torch.device) -> str:
    """Return the fastest memory that can hold feature maps: `device`, `host` or `file`."""
    if planned_bytes <= available_memory(device):
        return "device"
    in_host_memory = available_memory(torch.device("cpu")) * MEMORY_SHARE
    return "host" if planned_bytes <= in_host_memory else "file"


def release_cached_memory() -> None:
    """Return memory that is not used any more to the device, where torch keeps it."""
    torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
