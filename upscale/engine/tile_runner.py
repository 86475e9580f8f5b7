"""The computation of one image in tiles: networks by precision, tile size and feature maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from upscale.engine.canvas import ImageCanvas, TileFormat
from upscale.engine.choices import SMALLEST_TILE
from upscale.engine.device import computing_on
from upscale.engine.feature_maps import FeatureMaps
from upscale.engine.kernel_selection import NetworkOnDevice, SelectedGroups, select_groups
from upscale.engine.loading import Model
from upscale.engine.memory import (
    automatic_tile,
    initial_placement,
    minimum_tile_for,
    release_cached_memory,
)
from upscale.engine.report import Progress, ProgressCallback
from upscale.kernels.verdicts import Record
from upscale.models import Network
from upscale.tiling.blended import BlendedRun
from upscale.tiling.exact import ExactRun
from upscale.tiling.group import LayerGroup
from upscale.tiling.interfaces import TileStats
from upscale.tiling.recovery import with_less_memory
from upscale.tiling.schedule import SMALLEST_SIDE, plan
from upscale.tiling.wrapping import NO_WRAP, Wrap, WrappedMargin

OVERLAP = 32
"""Pixels that neighbouring tiles share where exact tiling is impossible."""

BLENDED_TILE = 256
"""Automatic tile of models without layer groups, whose memory cannot be planned."""

BATCH_PIXELS = 256 * 256
"""Pixels of a batch on a GPU: smaller tiles are computed together."""


@dataclass(slots=True)
class ImageRun:
    """The state of one image, over all its passes through the network.

    Attributes:
        dtype: Precision of the network.
        checks_tiles: Whether each half-precision tile is checked and recomputed in fp32 if it is
            not finite.
        passes: Number of passes through the network.
        progress: Callback after each tile.
        stats: Tile statistics of the finished passes.
        tile: Side of the tiles in image pixels at the end of the last pass; 0 without tiles.
        placement: Memory of the feature maps at the end of the last pass.
    """

    dtype: torch.dtype
    checks_tiles: bool
    passes: int
    progress: ProgressCallback | None
    stats: TileStats = field(default_factory=TileStats)
    tile: int = 0
    placement: str = "device"

    def on_tile(self, stats: TileStats) -> None:
        """Report the progress of the current pass."""
        if self.progress is not None:
            done = self.stats.done + stats.done
            self.progress(Progress(done, max(stats.total * self.passes, done)))

    def add(self, stats: TileStats) -> None:
        """Add the statistics of a finished pass."""
        self.stats.done += stats.done
        self.stats.fp32_fallbacks += stats.fp32_fallbacks
        self.stats.halvings += stats.halvings


class TileRunner:
    """A model on a device that computes images tile by tile.

    Args:
        model: Model to run.
        device: Device that computes.
        tile: Side of a tile in image pixels, 0 for no tiles, or None for automatic.
        kernels: Whether compiled kernels may replace torch's convolutions.
    """

    def __init__(
        self, model: Model, device: torch.device, *, tile: int | None, kernels: bool
    ) -> None:
        self.tile = tile
        self._model = model
        self._device = device
        self._kernels = kernels
        self._record: Record = {}
        self._networks: dict[torch.dtype, nn.Module] = {}
        self._selected: dict[torch.dtype, SelectedGroups] = {}

    def tile_format(self, run: ImageRun, wrap: Wrap = NO_WRAP) -> TileFormat:
        """Return the format in which canvases exchange tiles with the network.

        Args:
            run: State of the image.
            wrap: Directions in which the image repeats.
        """
        return TileFormat(
            device=self._device,
            dtype=run.dtype,
            scale=self._model.scale,
            channels=self._model.channels,
            unshuffle=self._model.unshuffle,
            margin=self._model.margin,
            wrap=wrap,
        )

    def run(self, canvas: ImageCanvas, run: ImageRun, wrap: Wrap = NO_WRAP) -> None:
        """Send an image through the network once.

        Args:
            canvas: Image to read and image to write.
            run: State of the image.
            wrap: Directions in which the image repeats. Its sides are then multiples of the
                model's unshuffle factor.

        Raises:
            MemoryExhaustedError: The smallest tile does not fit into memory.
            PrecisionLossError: A value exceeds half precision.
            CheckpointError: The result is not finite in fp32.
        """
        self.launch(canvas, run, wrap)
        with_less_memory(canvas.finish, release_cached_memory)

    def launch(self, canvas: ImageCanvas, run: ImageRun, wrap: Wrap = NO_WRAP) -> None:
        """Send an image through the network once, without `canvas.finish`; see `run`."""
        if self._model.supports_exact_tiling:
            self._run_exact(canvas, run, wrap)
        else:
            self._run_blended(canvas, run, wrap)

    def planned_bytes(self, width: int, height: int, dtype: torch.dtype) -> int:
        """Return the memory that a model with layer groups needs for an image size."""
        size = self._feature_size(height, width)
        tile, minimum = self._feature_tile(*size, dtype, NO_WRAP), minimum_tile_for(self._device)
        return plan(self.groups(dtype), *size, tile, minimum).values * dtype.itemsize

    def automatic_tile(self, width: int, height: int, dtype: torch.dtype) -> int:
        """Return the tile that `auto` selects now for an image size, in image pixels."""
        if not self._model.supports_exact_tiling:
            return BLENDED_TILE
        groups, size = self.groups(dtype), self._feature_size(height, width)
        tile = automatic_tile(groups, *size, dtype.itemsize, self._device)
        return self._model.unshuffle * tile

    def groups(self, dtype: torch.dtype) -> tuple[LayerGroup, ...]:
        """Return the layer groups in a precision."""
        return self.selected(dtype).groups

    def selected(self, dtype: torch.dtype) -> SelectedGroups:
        """Return the layer groups in a precision, with the kernels selected for them."""
        if dtype not in self._selected:
            with computing_on(self._device):
                network = NetworkOnDevice(
                    cast(Network[Any], self._network(dtype)),
                    self._model.channels * self._model.unshuffle**2,
                    self._device,
                    dtype,
                )
                select = partial(select_groups, network, kernels=self._kernels, known=self._record)
                self._selected[dtype] = with_less_memory(select, release_cached_memory)
        return self._selected[dtype]

    def resolve_kernels(self, dtype: torch.dtype, known: Record) -> Record:
        """Select kernels by the verdicts of an earlier run, and return all verdicts.

        Verdicts are ignored if the kernels have been selected already.
        """
        self._record = known
        return {**known, **self.selected(dtype).record}

    def _run_exact(self, canvas: ImageCanvas, run: ImageRun, wrap: Wrap) -> None:
        if self._model.margin:
            wrap = NO_WRAP  # the canvas repeats the image in its margin
        groups = self.groups(run.dtype)
        minimum = minimum_tile_for(self._device)
        size = canvas.height, canvas.width
        tile = self._feature_tile(*size, run.dtype, wrap)
        planned = plan(groups, *size, tile, minimum, wrap=wrap).feature_maps
        placement = initial_placement(planned * run.dtype.itemsize, self._device)
        feature_maps = FeatureMaps(self._device, run.dtype, placement)
        exact = ExactRun(
            groups,
            canvas,
            feature_maps,
            height=canvas.height,
            width=canvas.width,
            tile=tile,
            smallest=max(SMALLEST_TILE // self._model.unshuffle, SMALLEST_SIDE),
            minimum=minimum,
            batch=max(BATCH_PIXELS // tile**2, 1) if self._device.type == "cuda" else 1,
            wrap=wrap,
            fp32_groups=(lambda: self.groups(torch.float32)) if run.checks_tiles else None,
            on_tile=run.on_tile,
        )
        exact.run()
        is_whole = self.tile == 0 and not exact.stats.halvings
        run.tile = 0 if is_whole else exact.schedule.tile * self._model.unshuffle
        run.placement = feature_maps.placement
        run.add(exact.stats)

    def _run_blended(self, canvas: ImageCanvas, run: ImageRun, wrap: Wrap) -> None:
        side = BLENDED_TILE if self.tile is None else self.tile
        scale, size = self._model.scale, (canvas.height, canvas.width)
        extended = WrappedMargin(canvas, *size, wrap, margin=OVERLAP, scale=scale)
        blended = BlendedRun(
            self._network_with_fallback(run),
            scale,
            extended,
            height=extended.height,
            width=extended.width,
            tile=side or max(extended.height, extended.width),
            overlap=OVERLAP,
            on_tile=run.on_tile,
        )
        blended.run()
        run.tile = blended.tile if side or blended.stats.halvings else 0
        run.add(blended.stats)

    def _network_with_fallback(self, run: ImageRun) -> Callable[[Tensor], Tensor]:
        """Return the network as a function that recomputes overflowing tiles in fp32."""
        network = self._network(run.dtype)

        def compute(tile: Tensor) -> Tensor:
            result = network(tile)
            if run.dtype == torch.float32 or bool(torch.isfinite(result).all()):
                return result
            run.stats.fp32_fallbacks += 1
            return self._network(torch.float32)(tile.float())

        return compute

    def _network(self, dtype: torch.dtype) -> nn.Module:
        if dtype not in self._networks:
            self._networks[dtype] = with_less_memory(
                lambda: self._model.network_on(self._device, dtype), release_cached_memory
            )
        return self._networks[dtype]

    def _feature_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and the columns of a feature map for an image size."""
        side, margin = self._model.unshuffle, self._model.margin
        return -(-height // side) + 2 * margin, -(-width // side) + 2 * margin

    def _feature_tile(self, height: int, width: int, dtype: torch.dtype, wrap: Wrap) -> int:
        """Return the tile side in feature pixels."""
        if self.tile is None:
            groups, device = self.groups(dtype), self._device
            return automatic_tile(groups, height, width, dtype.itemsize, device, wrap=wrap)
        return max(self.tile // self._model.unshuffle, 1) if self.tile else max(height, width)
