"""How much memory there is, which tile fits it, and where planes live."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from upscale.errors import OutputError
from upscale.tiling.group import LayerGroup
from upscale.tiling.schedule import NO_MINIMUM, MinimumTile, plan

SHARE = 0.45
"""Part of the free memory that a run plans to use: allocators keep freed tiles, so that a process
was measured to hold up to 2.1 times its plan."""

TILES = (1024, 768, 512, 384, 256, 192, 128, 96, 64, 32)
"""Sides tried by `auto`, in plane pixels."""

LARGEST_TILE = {"cpu": 256, "mps": 512}
"""On a CPU larger tiles only take memory: the caches are far smaller than any of them. On a fast
GPU a tile of a group should last longer than the host takes to ask for it: 71 groups that compute
nothing took the host 17 ms in one tile each and 57 ms in four (2 cores, torch 2.13), while 24
frames a second leave 42."""

CPU_MINIMUM = MinimumTile(rows=64, side=192)
"""RRDBNet of 23 blocks holds 72,500 values a column between bands whatever the tile, 7,000 for a
band of 16 rows and 22,400 for one of 64: lower ones would save a fifth, and take twice as long."""

MOST_SPARE = 16
"""Pieces of memory that are kept for the next planes."""

CGROUP = Path("/sys/fs/cgroup")


def available_memory(device: torch.device) -> int:
    """Bytes that a run can still take on a device; a container's limit counts."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    return min(psutil.virtual_memory().available, _container_room())


def _container_room() -> int:
    """Bytes below a control group's limit (Linux, version 2), droppable file cache not counted."""
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        lines = (CGROUP / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # no such group, or "max"
        return 1 << 62
    droppable = next(
        (int(line.split()[1]) for line in lines if line.startswith("inactive_file")), 0
    )
    return max(limit - used + droppable, 0)


def automatic_tile(
    groups: Sequence[LayerGroup], height: int, width: int, value_size: int, device: torch.device
) -> int:
    """The largest tile whose plan fits the free memory; the smallest one if none does."""
    room = available_memory(device) * SHARE
    largest = LARGEST_TILE.get(device.type, TILES[0])
    floor = minimum_tile_for(device)
    for tile in TILES:
        planned = plan(groups, height, width, tile, floor).values * value_size
        if tile <= largest and planned <= room:
            return tile
    return TILES[-1]


def minimum_tile_for(device: torch.device) -> MinimumTile:
    """What tiles are not cut below on a device while there is memory."""
    return CPU_MINIMUM if device.type == "cpu" else NO_MINIMUM


@dataclass(frozen=True, slots=True, eq=False)
class _Spare:
    """Memory for `size` values."""

    size: int
    memory: torch.UntypedStorage


class Planes:
    """Where planes live: on the device, then in the host's memory, then in temporary files.

    Args:
        device: where the network computes.
        dtype: of the planes.
        home: `device`, `host` or `file`.
    """

    ORDER = ("device", "host", "file")

    def __init__(self, device: torch.device, dtype: torch.dtype, home: str = "device") -> None:
        self.device = device
        self.dtype = dtype
        self.home = "host" if home == "device" and device.type == "cpu" else home
        self._spare: list[_Spare] = []

    def allocate(self, rows: int, width: int, channels: int) -> Tensor:
        """An uninitialised (rows, width, channels) tensor."""
        shape = (rows, width, channels)
        if self._recycles():
            return self._memory(prod(shape)).view(shape)
        if self.home == "device":
            return torch.empty(shape, dtype=self.dtype, device=self.device)
        if self.home == "file":
            return mapped_tensor(shape, self.dtype)
        return torch.empty(shape, dtype=self.dtype, pin_memory=self.device.type == "cuda")

    def recycle(self, plane: Tensor) -> None:
        """Keep a plane's memory for the next ones: the first use of new memory is slow."""
        if self._recycles():
            storage = plane.untyped_storage()
            spare = _Spare(storage.nbytes() // self.dtype.itemsize, storage)
            self._spare = [*self._spare[1 - MOST_SPARE :], spare]

    def _recycles(self) -> bool:
        """On other devices, torch does."""
        return self.home == "host" and self.device.type == "cpu"

    def _memory(self, size: int) -> Tensor:
        """For `size` values: spare memory that is little larger, or new."""
        fitting = [one for one in self._spare if size <= one.size <= 1.25 * size]
        if not fitting:
            return torch.empty(size, dtype=self.dtype)
        best = min(fitting, key=lambda one: one.size)
        self._spare.remove(best)
        return torch.empty(0, dtype=self.dtype).set_(best.memory)[:size]

    def load(self, view: Tensor) -> Tensor:
        """A part of a plane on the computing device."""
        if self.device.type == "cuda" and self.home != "device":
            staging = torch.empty(view.shape, dtype=view.dtype, pin_memory=True)
            return staging.copy_(view).to(self.device, non_blocking=True)
        return view.to(self.device)

    def offload(self) -> bool:
        """Move on to slower memory; False at the end of the road."""
        position = self.ORDER.index(self.home)
        if position == len(self.ORDER) - 1:
            return False
        self.home = self.ORDER[position + 1]
        self._spare.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return True


def mapped_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor in a temporary file, which is gone with the tensor."""
    size = prod(shape) * dtype.itemsize
    return torch.from_numpy(mapped_array((size,), np.uint8)).view(dtype).view(shape)


def mapped_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array in a temporary file, which is gone with the array.

    Raises:
        OutputError: the disk is full.
    """
    folder = temporary_folder()
    with tempfile.TemporaryFile(prefix="upscale-", dir=folder) as file:
        try:
            _claim(file.fileno(), prod(shape) * np.dtype(dtype).itemsize)
            return np.memmap(file, dtype=dtype, mode="w+", shape=shape)
        except OSError as error:
            raise OutputError(
                f"{folder}: no room for a temporary file ({error.strerror}); "
                "free some, or set TMPDIR to a larger disk"
            ) from error


def temporary_folder() -> str:
    """Where large temporary files go: TMPDIR, else /var/tmp, because /tmp is often memory."""
    if "TMPDIR" not in os.environ and Path("/var/tmp").is_dir():
        return "/var/tmp"
    return tempfile.gettempdir()


def _claim(descriptor: int, size: int) -> None:
    """Reserve a file's blocks now: writing to a mapped hole on a full disk kills the process."""
    if hasattr(os, "posix_fallocate") and size:
        os.posix_fallocate(descriptor, 0, size)


def image_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array for an output image: in memory where it fits, else in a temporary file."""
    size = prod(shape) * np.dtype(dtype).itemsize
    if size > available_memory(torch.device("cpu")) * SHARE:
        return mapped_array(shape, dtype)
    return np.empty(shape, dtype)
