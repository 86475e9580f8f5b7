"""One picture: run the network on its colour and its alpha."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from upscale.pictures import Picture, extend_colour
from upscale.pictures.alpha import hold_to_source
from upscale.pictures.colour import finite, is_grey, tone_curve

if TYPE_CHECKING:
    from upscale.engine.upscaler import Progress, Report, Result

Pixels = NDArray[Any]
TileProgress = Callable[[int, int], None]
"""Called with (tiles done, tiles in all)."""


class PictureUpscaler(Protocol):
    """What a job needs of `upscale.Upscaler`."""

    def run(
        self,
        array: Pixels,
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Result:
        """Enlarge (H, W, C) to `size` = (width, height); see `Upscaler.run`."""
        ...


@dataclass(frozen=True, slots=True)
class ImageJob:
    """One picture that can be done.

    `label` names the input as the user did; `source` is a path, or the bytes of standard input;
    `target` None is standard output. Sizes are (width, height), of the upright picture.
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


def enlarge_picture(
    picture: Picture,
    size: tuple[int, int],
    upscaler: PictureUpscaler,
    progress: TileProgress | None = None,
) -> tuple[Picture, Report]:
    """Return the picture in `size` = (width, height), in its own depth, and the engine's report.

    The network sees colours as it was trained on them (see `tone_curve`), and of a picture without
    colour a single channel, lest it adds a cast. Colour is first spread under transparent pixels,
    whose own colour is arbitrary and would bleed into the edges. Alpha goes through the network as
    a grey picture, unless it is constant, and is then held to what it was made from.
    """
    picture = replace(picture, pixels=finite(picture.pixels))
    if picture.alpha is None:
        return _enlarge_colour(picture, size, upscaler, _relay(progress))
    flat = bool((picture.alpha == picture.alpha.flat[0]).all())
    runs = 1 if flat else 2
    tiles = _TileCount(progress, runs)
    spread = replace(picture, pixels=extend_colour(picture.pixels, picture.alpha), alpha=None)
    large, report = _enlarge_colour(spread, size, upscaler, tiles.of_run(0))
    if flat:
        alpha = np.full((size[1], size[0]), picture.alpha.flat[0], picture.alpha.dtype)
    else:
        grown = upscaler.run(picture.alpha[..., None], size=size, progress=tiles.of_run(1))
        alpha = np.ascontiguousarray(grown.pixels[..., 0])
        hold_to_source(alpha, picture.alpha)
    return replace(large, alpha=alpha), report


def _enlarge_colour(
    picture: Picture,
    size: tuple[int, int],
    upscaler: PictureUpscaler,
    progress: Callable[[Progress], None] | None,
) -> tuple[Picture, Report]:
    """Enlarge an opaque picture."""
    curve = tone_curve(picture.pixels, picture.metadata)
    channels = 1 if is_grey(picture.pixels) else picture.pixels.shape[2]
    seen = np.ascontiguousarray(picture.pixels[..., :channels])
    if curve is not None:
        seen = curve.to_network(seen)
    result = upscaler.run(seen, size=size, progress=progress)
    large = result.pixels
    if curve is not None:
        large = curve.from_network(large, picture.pixels.dtype)
    if channels != picture.pixels.shape[2]:
        large = large.repeat(picture.pixels.shape[2], axis=2)
    return replace(picture, pixels=large), result.report


def _relay(progress: TileProgress | None) -> Callable[[Progress], None] | None:
    if progress is None:
        return None
    return lambda step: progress(step.done, step.total)


class _TileCount:
    """Shows several runs of the network over one picture as one count of tiles."""

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
