"""One image: run the network on its colour and its alpha channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from upscale.errors import ImageError
from upscale.images import Image, extend_colour
from upscale.images.pixels import normals
from upscale.images.pixels.alpha import hold_to_source
from upscale.images.pixels.colour import ToneCurve, finite, is_grey, tone_curve
from upscale.images.pixels.interpolation import match_means
from upscale.options import TextureOptions

if TYPE_CHECKING:
    from upscale.engine.choices import Seamless
    from upscale.engine.upscaler import Progress, Report, Result

Pixels = NDArray[Any]
TileProgress = Callable[[int, int], None]
"""Called with (tiles done, total tiles)."""


class ImageUpscaler(Protocol):
    """The part of `upscale.Upscaler` that jobs need."""

    def run(
        self,
        array: Pixels,
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        seamless: Seamless = "",
        progress: Callable[[Progress], None] | None = None,
    ) -> Result:
        """Upscale (H, W, C) to `size` = (width, height); see `Upscaler.run`."""
        ...


Run = Callable[..., "Result"]
"""The method `run` of an upscaler, with the options of an image."""


@dataclass(frozen=True, slots=True)
class ImageJob:
    """An image that can be processed.

    Attributes:
        label: Name of the input as the user gave it.
        source: Path of the input, or its content if it came from a stream.
        target: File to write, None for standard output.
        format: Output format.
        size_in: Input (width, height) in pixels, after applying the orientation.
        size_out: Output (width, height) in pixels.
        model: Name of the network.
        note: Remark on the output format, or None.
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
        """Output width divided by input width, to four digits."""
        return float(f"{self.size_out[0] / self.size_in[0]:.4g}")


FaceFunction = Callable[[Pixels, Pixels], object]
"""Restores faces in place: called with the upscaled image and its source, as networks get it."""

PLAIN = TextureOptions()


def upscale_image(
    image: Image,
    size: tuple[int, int],
    upscaler: ImageUpscaler,
    progress: TileProgress | None = None,
    texture: TextureOptions = PLAIN,
    *,
    keep_colour: bool = False,
    faces: FaceFunction | None = None,
) -> tuple[Image, Report]:
    """Upscale an image to `size` in its own depth.

    The network gets colours in the tone curve that it was trained on (see `tone_curve`), and a
    single channel of an image without colour, because it could otherwise add a colour cast. Colour
    is first extended under transparent pixels, whose own colour is arbitrary and would bleed into
    the edges. Alpha is upscaled by the network as a grey image, unless it is constant, and then
    corrected to match its source.

    Args:
        image: Image to upscale.
        size: Output (width, height) in pixels.
        upscaler: Network to run.
        progress: Function that is called after each tile, or None.
        texture: Whether the image repeats, and whether its colours are directions.
        keep_colour: Whether the result gets the colours of the image, which networks shift a
            little; ignored for directions.
        faces: Function that restores the faces of the result; ignored for directions.

    Returns:
        The upscaled image and the engine's report.
    """
    seamless = texture.seamless
    run = partial(upscaler.run, seamless=seamless) if seamless else upscaler.run
    image = replace(image, pixels=finite(image.pixels))
    if texture.normal_map:
        return upscale_normal_map(image, size, run, progress, seamless)
    colours = _Colours(run, seamless, keep_colour, faces)
    if image.alpha is None:
        return colours.upscale(image, size, _TileCount(progress, 1).of_run(0))
    is_constant = bool((image.alpha == image.alpha.flat[0]).all())
    tiles = _TileCount(progress, 1 if is_constant else 2)
    extended = extend_colour(image.pixels, image.alpha, seamless)
    colour = replace(image, pixels=extended, alpha=None)
    large, report = colours.upscale(colour, size, tiles.of_run(0))
    if is_constant:
        alpha = np.full((size[1], size[0]), image.alpha.flat[0], image.alpha.dtype)
    else:
        result = run(image.alpha[..., None], size=size, progress=tiles.of_run(1))
        alpha = np.ascontiguousarray(result.pixels[..., 0])
        hold_to_source(alpha, image.alpha, seamless)
    return replace(large, alpha=alpha), report


def upscale_normal_map(
    image: Image,
    size: tuple[int, int],
    run: Run,
    progress: TileProgress | None,
    seamless: Seamless = "",
) -> tuple[Image, Report]:
    """Upscale directions and the alpha channel, which holds data that is independent of them.

    A third channel that is empty is rebuilt; apart from that, the network gets the values as they
    are. Its result is corrected to the means of the source, and the directions get length 1 again.

    Args:
        image: Image to upscale.
        size: Output (width, height) in pixels.
        run: Method `run` of an upscaler.
        progress: Function that is called after each tile, or None.
        seamless: Directions in which the image repeats.

    Raises:
        ImageError: The image is grey.
    """
    if image.pixels.shape[2] == 1:
        raise ImageError("a grey image holds no directions; leave out --normal-map")
    alpha = image.alpha
    is_constant = alpha is None or bool((alpha == alpha.flat[0]).all())
    tiles = _TileCount(progress, 1 if is_constant else 2)
    is_signed = normals.are_signed(image.pixels)
    source = normals.with_third_channel(
        normals.encoded(image.pixels) if is_signed else image.pixels
    )
    result = run(source, size=size, progress=tiles.of_run(0))
    match_means(result.pixels, source, seamless)
    pixels = normals.renormalised(result.pixels)
    if alpha is not None and is_constant:
        alpha = np.full((size[1], size[0]), alpha.flat[0], alpha.dtype)
    elif alpha is not None:
        large = run(alpha[..., None], size=size, progress=tiles.of_run(1)).pixels
        match_means(large, alpha[..., None], seamless)
        alpha = np.ascontiguousarray(large[..., 0])
    pixels = normals.decoded(pixels) if is_signed else pixels
    return replace(_without_profile(image), pixels=pixels, alpha=alpha), result.report


def _without_profile(image: Image) -> Image:
    """Remove the colour profile, by which directions would otherwise be converted."""
    if image.metadata.icc is None and image.metadata.cicp is None:
        return image
    note = "its colour profile was left out, as directions are no colours"
    return replace(
        image,
        metadata=replace(image.metadata, icc=None, cicp=None),
        origin=replace(image.origin, notes=(*image.origin.notes, note)),
    )


@dataclass(frozen=True, slots=True)
class _Colours:
    """How the colours of an image are upscaled."""

    run: Run
    seamless: Seamless
    are_kept: bool
    faces: FaceFunction | None = None

    def upscale(
        self, image: Image, size: tuple[int, int], progress: Callable[[Progress], None] | None
    ) -> tuple[Image, Report]:
        """Upscale an opaque image."""
        pixels, curve = network_input(image)
        result = self.run(pixels, size=size, progress=progress)
        large = result.pixels
        if self.are_kept:
            self._keep(large, pixels)
        if self.faces is not None:
            self.faces(large, pixels)
        if curve is not None:
            large = curve.from_network(large, image.pixels.dtype)
        if pixels.shape[2] != image.pixels.shape[2]:
            large = large.repeat(image.pixels.shape[2], axis=2)
        return replace(image, pixels=large), result.report

    def _keep(self, large: Pixels, source: Pixels) -> None:
        from upscale.engine.colour_correction import keep_colour

        keep_colour(large, source, self.seamless)


def network_input(image: Image) -> tuple[Pixels, ToneCurve | None]:
    """Return the colours of an opaque image as a network gets them, and the curve they needed."""
    curve = tone_curve(image.pixels, image.metadata)
    channels = 1 if is_grey(image.pixels) else image.pixels.shape[2]
    pixels = np.ascontiguousarray(image.pixels[..., :channels])
    return (pixels if curve is None else curve.to_network(pixels)), curve


def opaque_input(image: Image) -> Pixels:
    """Return the colours of an image as a network gets them from `upscale_image`."""
    pixels = finite(image.pixels)
    if image.alpha is not None:
        pixels = extend_colour(pixels, image.alpha, "")
    return network_input(replace(image, pixels=pixels, alpha=None))[0]


class _TileCount:
    """Combine several runs of the network over one image into one count of tiles."""

    def __init__(self, progress: TileProgress | None, runs: int) -> None:
        self._progress = progress
        self._totals = [0] * runs

    def of_run(self, run: int) -> Callable[[Progress], None] | None:
        """Return the progress function of one run, None if nobody listens."""
        progress = self._progress
        if progress is None:
            return None

        def relay(step: Progress) -> None:
            self._totals[run:] = [step.total] * (len(self._totals) - run)
            progress(sum(self._totals[:run]) + step.done, sum(self._totals))

        return relay
