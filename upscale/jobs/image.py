"""One picture: read it, run the network on its colour and its alpha, write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from upscale.errors import OutputError
from upscale.pictures import (
    Encoding,
    Picture,
    can_hold,
    encode_picture,
    extend_colour,
    read_picture,
    write_picture,
)
from upscale.pictures.alpha import hold_to_source

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


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """How a picture is written; `quality` 1..100, None for the format's default."""

    quality: int | None = None
    overwrite: bool = False


def load_picture(job: ImageJob, max_pixels: int | None) -> Picture:
    """Read a job's input.

    Raises:
        PictureError: It is not a picture that can be read, or has more than `max_pixels`.
    """
    if max_pixels is None:
        return read_picture(job.source)
    return read_picture(job.source, max_pixels=max_pixels)


def check_format(picture: Picture, job: ImageJob) -> None:
    """Refuse before the computing what the format could not hold after it.

    Raises:
        OutputError: The format has no transparency and the picture has.
    """
    width, height = job.size_out
    depth = picture.pixels.dtype.itemsize * 8
    alpha = picture.alpha is not None
    reason = can_hold(job.format, alpha=alpha, depth=depth, width=width, height=height)
    if reason is not None:
        raise OutputError(f"{job.label}: {reason}: give -f png")


def enlarge_picture(
    picture: Picture,
    size: tuple[int, int],
    upscaler: PictureUpscaler,
    progress: TileProgress | None = None,
) -> tuple[Picture, Report]:
    """Return the picture in `size` = (width, height), in its own depth, and the engine's report.

    Colour is first spread under transparent pixels, whose own colour is arbitrary and would bleed
    into the edges. Alpha goes through the network as a grey picture, unless it is constant, and is
    then held to what it was made from.
    """
    if picture.alpha is None:
        result = upscaler.run(picture.pixels, size=size, progress=_relay(progress))
        return replace(picture, pixels=result.pixels), result.report
    flat = bool((picture.alpha == picture.alpha.flat[0]).all())
    runs = 1 if flat else 2
    tiles = _TileCount(progress, runs)
    colour = extend_colour(picture.pixels, picture.alpha)
    result = upscaler.run(colour, size=size, progress=tiles.of_run(0))
    if flat:
        alpha = np.full((size[1], size[0]), picture.alpha.flat[0], picture.alpha.dtype)
    else:
        grown = upscaler.run(picture.alpha[..., None], size=size, progress=tiles.of_run(1))
        alpha = np.ascontiguousarray(grown.pixels[..., 0])
        hold_to_source(alpha, picture.alpha)
    return replace(picture, pixels=result.pixels, alpha=alpha), result.report


def store_picture(
    picture: Picture, job: ImageJob, settings: WriteSettings, stdout: BinaryIO | None
) -> None:
    """Write an enlarged picture to its job's target.

    Raises:
        OutputError: It cannot be written, or would replace a file without `overwrite`.
    """
    if job.target is None:
        if stdout is None:
            raise OutputError("standard output is not available")
        data = encode_picture(picture, job.format, Encoding(settings.quality))
        try:
            stdout.write(data)
            stdout.flush()
        except OSError as error:
            raise OutputError(f"standard output: {error.strerror}") from error
        return
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{job.target.parent}: cannot be made: {error.strerror}") from error
    write_picture(
        picture,
        job.target,
        format=job.format,
        encoding=Encoding(settings.quality),
        overwrite=settings.overwrite,
    )


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
