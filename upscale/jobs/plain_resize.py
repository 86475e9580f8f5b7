"""Resizing in place of a network: for `--faces-only`."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING

from upscale.jobs.image import Pixels

if TYPE_CHECKING:
    from upscale.engine.choices import Seamless
    from upscale.engine.upscaler import Progress, Result

NAME = "none"
"""Name of the network in reports."""


class PlainResize:
    """An upscaler without a network: it copies images, or resizes them with a Lanczos filter."""

    def run(
        self,
        array: Pixels,
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        seamless: Seamless = "",
        progress: Callable[[Progress], None] | None = None,
    ) -> Result:
        """Resize (H, W, C) to `size` = (width, height); see `Upscaler.run`."""
        from upscale.engine.report import Progress, Report, Result
        from upscale.engine.resize import description, output_size, resize
        from upscale.tiling.wrapping import Wrap

        began = perf_counter()
        height, width = array.shape[:2]
        target = output_size(width, height, scale or 1, size)
        is_same = target == (width, height)
        wrap = Wrap(rows="y" in seamless, columns="x" in seamless)
        pixels = array.copy() if is_same else resize(array, *target, wrap)
        if progress is not None:
            progress(Progress(1, 1))
        report = Report(
            model=NAME,
            model_scale=1,
            tile=0,
            tiles=1,
            tiling="exact",
            device="cpu",
            precision="fp32",
            fp32_fallbacks=0,
            halvings=0,
            placement="host",
            resize=None if is_same else description(1, *target),
            seconds=perf_counter() - began,
        )
        return Result(pixels, report)
