"""`MixedUpscaler`: networks of one scale, whose results are averaged."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from upscale.engine.canvas import DEPTHS, as_image
from upscale.engine.choices import Seamless
from upscale.engine.device import computing_on
from upscale.engine.report import Progress, ProgressCallback, Report, Result
from upscale.engine.resize import description, output_size, resize, resize_tensor
from upscale.engine.temporary import image_array
from upscale.engine.tta import average_to
from upscale.engine.upscaler import Upscaler
from upscale.kernels.verdicts import Record
from upscale.tiling.wrapping import Wrap

Floats = NDArray[np.float32]

_PLACEMENTS = ("device", "host", "file")


class MixedUpscaler:
    """Several upscalers on one device, ready to upscale images to the mean of their results.

    The mean is computed in float32 at the scale of the networks. Only then is it resized and
    rounded, once.

    Args:
        parts: Upscalers with networks of one scale, and the weight of each result. The sum of the
            weights is 1.

    Raises:
        ValueError: The scales differ, or the sum of the weights is not 1.

    Example:
        >>> import numpy as np
        >>> from upscale.engine.upscaler import Upscaler
        >>> upscaler = Upscaler("realesr-animevideov3", device="cpu")
        >>> mixed = MixedUpscaler([(upscaler, 0.25), (upscaler, 0.75)])
        >>> mixed.run(np.zeros((6, 8, 3), np.uint8), scale=2).pixels.shape
        (12, 16, 3)
    """

    def __init__(self, parts: Sequence[tuple[Upscaler, float]]) -> None:
        if len({upscaler.model_scale for upscaler, _ in parts}) != 1:
            raise ValueError("the networks have different scales")
        if not math.isclose(sum(weight for _, weight in parts), 1, abs_tol=1e-5):
            raise ValueError("the sum of the weights is not 1")
        self._parts = tuple(parts)

    @property
    def model_name(self) -> str:
        """The names of the models, joined by ` + `."""
        return " + ".join(upscaler.model_name for upscaler, _ in self._parts)

    @property
    def model_scale(self) -> int:
        """Output pixels per image pixel and axis before the final resize."""
        return self._parts[0][0].model_scale

    @property
    def device(self) -> torch.device:
        """The device that computes."""
        return self._parts[0][0].device

    def run(
        self,
        array: NDArray[Any],
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        seamless: Seamless = "",
        progress: ProgressCallback | None = None,
    ) -> Result:
        """Upscale an image with all networks; see `Upscaler.run`."""
        started = time.perf_counter()
        image = as_image(array)
        height, width = image.shape[:2]
        target_size = output_size(width, height, scale or self.model_scale, size)
        mean, reports = self._mean(_as_floats(image), seamless, progress)
        resized = None
        if target_size != (width * self.model_scale, height * self.model_scale):
            mean = resize(mean, *target_size, Wrap(rows="y" in seamless, columns="x" in seamless))
            resized = description(self.model_scale, *target_size)
        pixels = _as_type(mean, image.dtype)
        pixels = pixels[:, :, 0] if array.ndim == 2 else pixels
        return Result(pixels, self._report(reports, resized, time.perf_counter() - started))

    def run_tensor(self, image: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """Upscale an image tensor with all networks; see `Upscaler.run_tensor`."""
        with computing_on(self.device):
            first, *others = self._parts
            mean = first[0].run_tensor(image).mul_(first[1])
            for upscaler, weight in others:
                mean.add_(upscaler.run_tensor(image), alpha=weight)
            height, width = image.shape[2:]
            target_size = output_size(width, height, self.model_scale, size)
            if target_size == (width * self.model_scale, height * self.model_scale):
                return mean
            return resize_tensor(mean, *target_size).clamp_(0, 1)

    def resolve_tile(self, width: int, height: int, tile: int | None = None) -> int:
        """Pin one automatic tile for all networks; see `Upscaler.resolve_tile`."""
        for upscaler, _ in self._parts:
            tile = upscaler.resolve_tile(width, height, tile)
        assert tile is not None
        return tile

    def resolve_kernels(self, record: Record | None = None) -> Record:
        """Pin the kernels of all networks; see `Upscaler.resolve_kernels`."""
        record = record or {}
        for upscaler, _ in self._parts:
            record = upscaler.resolve_kernels(record)
        return record

    def _mean(
        self, image: Floats, seamless: Seamless, progress: ProgressCallback | None
    ) -> tuple[Floats, list[Report]]:
        """Return the weighted mean of all results at the networks' scale, and their reports."""
        mean: Floats | None = None
        reports: list[Report] = []
        for upscaler, weight in self._parts:
            relay = None if progress is None else self._counted(progress, reports)
            result = upscaler.run(image, seamless=seamless, progress=relay)
            reports.append(result.report)
            mean = _added(mean, result.pixels, weight)
        assert mean is not None
        return mean, reports

    def _counted(self, progress: ProgressCallback, earlier: Sequence[Report]) -> ProgressCallback:
        """Return a callback that counts the tiles of all networks, with those that are done."""
        before = sum(report.tiles for report in earlier)
        remaining = len(self._parts) - len(earlier)
        return lambda step: progress(Progress(before + step.done, before + step.total * remaining))

    def _report(self, reports: Sequence[Report], resized: str | None, seconds: float) -> Report:
        return Report(
            model=self.model_name,
            model_scale=self.model_scale,
            tile=min(report.tile for report in reports),
            tiles=sum(report.tiles for report in reports),
            tiling=_joined(report.tiling for report in reports),
            device=reports[0].device,
            precision=_joined(report.precision for report in reports),
            fp32_fallbacks=sum(report.fp32_fallbacks for report in reports),
            halvings=sum(report.halvings for report in reports),
            placement=max((report.placement for report in reports), key=_PLACEMENTS.index),
            resize=resized,
            seconds=seconds,
            convolutions=_joined(report.convolutions for report in reports),
        )


def _as_floats(image: NDArray[Any]) -> Floats:
    """Return an image of any type as float32 in 0..1, as networks read it."""
    if image.dtype == np.float32:
        return image
    floats = cast(Floats, image_array(image.shape, np.float32))
    for row, target in zip(image, floats, strict=True):
        np.divide(row, np.float32(DEPTHS[image.dtype]), out=target, dtype=np.float32)
    return floats


def _added(mean: Floats | None, result: Floats, weight: float) -> Floats:
    """Add a result, which is modified, to a weighted mean in place, one row at a time."""
    for row in result:
        np.multiply(row, np.float32(weight), out=row)
    if mean is None:
        return result
    for total, row in zip(mean, result, strict=True):
        np.add(total, row, out=total)
    return mean


def _as_type(mean: Floats, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a mean in the type of an image."""
    if dtype == np.float32:
        return mean
    image = image_array(mean.shape, dtype)
    average_to(mean, image, DEPTHS[dtype])
    return image


def _joined(texts: Iterable[str]) -> str:
    """Join the different ones among some texts, in order."""
    return " + ".join(dict.fromkeys(texts))
