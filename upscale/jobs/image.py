"""One image: run the network on its colour and its alpha."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from upscale.images import Image, extend_colour
from upscale.images.pixels.alpha import hold_to_source
from upscale.images.pixels.colour import finite, is_grey, tone_curve

if TYPE_CHECKING:
    from upscale.engine.upscaler import Progress, Report, Result

Pixels = NDArray[Any]
TileProgress = Callable[[int, int], None]
"""Called with (tiles done, tiles in all)."""


class ImageUpscaler(Protocol):
    """What a job needs of `upscale.Upscaler`."""

    def run(
        self,
        array: Pixels,
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Result:
        """UpscaleFunction (H, W, C) to `size` = (width, height); see `Upscaler.run`."""
        ...


@dataclass(frozen=True, slots=True)
class ImageJob:
    """One image that can be done.

    `label` names the input as the user did; `source` is a path, or the bytes of standard input;
    `target` None is standard output. Sizes are (width, height), of the upright image.
    """

    label: str
    source: Path | bytes
    target: Path | None
    format: str
    size_in: tuple[int, int]
    size_out: tuple[int, int]
    model: str
    note: str | None = None

    @property
    def scale(self) -> float:
        """Output width over input width, to four digits."""
        return float(f"{self.size_out[0] / self.size_in[0]:.4g}")


def upscale_image(
    image: Image,
    size: tuple[int, int],
    upscaler: ImageUpscaler,
    progress: TileProgress | None = None,
) -> tuple[Image, Report]:
    """Return the image in `size` = (width, height), in its own depth, and the engine's report.

    The network sees colours as it was trained on them (see `tone_curve`), and of an image without
    colour a single channel, lest it adds a cast. Colour is first spread under transparent pixels,
    whose own colour is arbitrary and would bleed into the edges. Alpha goes through the network as
    a grey image, unless it is constant, and is then held to what it was made from.
    """
    image = replace(image, pixels=finite(image.pixels))
    if image.alpha is None:
        return _upscale_colour(image, size, upscaler, _relay(progress))
    flat = bool((image.alpha == image.alpha.flat[0]).all())
    runs = 1 if flat else 2
    tiles = _TileCount(progress, runs)
    spread = replace(image, pixels=extend_colour(image.pixels, image.alpha), alpha=None)
    large, report = _upscale_colour(spread, size, upscaler, tiles.of_run(0))
    if flat:
        alpha = np.full((size[1], size[0]), image.alpha.flat[0], image.alpha.dtype)
    else:
        grown = upscaler.run(image.alpha[..., None], size=size, progress=tiles.of_run(1))
        alpha = np.ascontiguousarray(grown.pixels[..., 0])
        hold_to_source(alpha, image.alpha)
    return replace(large, alpha=alpha), report


def _upscale_colour(
    image: Image,
    size: tuple[int, int],
    upscaler: ImageUpscaler,
    progress: Callable[[Progress], None] | None,
) -> tuple[Image, Report]:
    """UpscaleFunction an opaque image."""
    curve = tone_curve(image.pixels, image.metadata)
    channels = 1 if is_grey(image.pixels) else image.pixels.shape[2]
    seen = np.ascontiguousarray(image.pixels[..., :channels])
    if curve is not None:
        seen = curve.to_network(seen)
    result = upscaler.run(seen, size=size, progress=progress)
    large = result.pixels
    if curve is not None:
        large = curve.from_network(large, image.pixels.dtype)
    if channels != image.pixels.shape[2]:
        large = large.repeat(image.pixels.shape[2], axis=2)
    return replace(image, pixels=large), result.report


def _relay(progress: TileProgress | None) -> Callable[[Progress], None] | None:
    if progress is None:
        return None
    return lambda step: progress(step.done, step.total)


class _TileCount:
    """Shows several runs of the network over one image as one count of tiles."""

    def __init__(self, progress: TileProgress | None, runs: int) -> None:
        self._progress = progress
        self._totals = [0] * runs

    def of_run(self, run: int) -> Callable[[Progress], None] | None:
        progress = self._progress
        if progress is None:
            return None

        def relay(step: Progress) -> None:
            self._totals[run:] = [step.total] * (len(self._totals) - run)
            progress(sum(self._totals[:run]) + step.done, sum(self._totals))

        return relay
