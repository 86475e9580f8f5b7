"""Composing and splitting animations, for formats that store rectangles of frames.

GIF and APNG store rectangles that are drawn over the previous frame. They are composed here, since
Pillow extends the canvas during an animation, keeps the previous frame's disposal where a GIF
states none, fills with a background colour that no browser shows, and blends half-transparent
colours incorrectly. For writing, Pillow would collect all frames in memory and merge equal ones;
here frames are computed and written one after another, as the rectangle that has changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Literal

import numpy as np

from upscale.images.codecs.base import Header, MalformedError, Raster, StoredFrame
from upscale.images.image import Image, ImageSequence, Metadata, Pixels

Disposal = Literal["keep", "clear", "restore"]
"""Treatment of a rectangle after its frame: keep it, clear it, or restore what was there before."""

_MAX_INVISIBLE_PIXELS = 2**24


@dataclass(frozen=True, slots=True)
class Patch:
    """A stored rectangle of one frame.

    Attributes:
        left: First column on the canvas, 0 or more.
        top: First row on the canvas, 0 or more.
        width: Width in pixels; columns beyond the canvas are not shown.
        height: Height in pixels; rows beyond the canvas are not shown.
        seconds: Duration of the frame.
        disposal: Treatment of the rectangle after the frame.
        blends: Whether it is blended over the canvas; otherwise it replaces the pixels there.
        opaque: Whether it certainly has no transparent pixel.
        decode: Function that decodes it.
    """

    left: int
    top: int
    width: int
    height: int
    seconds: Fraction
    disposal: Disposal
    blends: bool
    opaque: bool
    decode: Callable[[], Raster]


def composed(header: Header, patches: Sequence[Patch]) -> Iterator[StoredFrame]:
    """Yield the frames of an animation as a viewer shows them: all with alpha, or none.

    Args:
        header: Canvas size and metadata.
        patches: Stored rectangles, one per frame.

    Raises:
        MalformedError: A rectangle is far larger than the canvas.
    """
    has_alpha = _has_transparency(header, patches)
    canvas: Pixels | None = None
    for number, patch in enumerate(patches):
        if patch.width * patch.height > max(header.width * header.height, _MAX_INVISIBLE_PIXELS):
            raise MalformedError("is damaged")
        samples = _with_alpha(patch.decode())
        if canvas is None:
            canvas = np.zeros((header.height, header.width, samples.shape[2]), samples.dtype)
        area = canvas[patch.top : patch.top + patch.height, patch.left : patch.left + patch.width]
        before = area.copy() if patch.disposal == "restore" else None
        visible = samples[: area.shape[0], : area.shape[1]]
        area[...] = _blended(area, visible) if patch.blends else visible
        frame = canvas.copy() if has_alpha else canvas[..., :-1].copy()
        yield StoredFrame(frame_header(header, number), partial(Raster.of, frame), patch.seconds)
        if before is not None:
            area[...] = before
        elif patch.disposal == "clear":
            area[...] = 0


def frame_header(header: Header, number: int) -> Header:
    """Return the header of one frame: the first has all metadata, the others only colour spaces.

    Args:
        header: Header of the file.
        number: Number of the frame, from 0.
    """
    if number == 0:
        return header
    metadata = header.metadata
    colours = Metadata(icc=metadata.icc, cicp=metadata.cicp, calibration=metadata.calibration)
    return replace(header, metadata=colours)


@dataclass(frozen=True, slots=True)
class FramePart:
    """A rectangle of a frame to write; it replaces the pixels of the canvas.

    Attributes:
        image: Pixels of the rectangle, without metadata.
        metadata: Metadata of the whole frame.
        seconds: Duration of the frame.
        left: First column on the canvas.
        top: First row on the canvas.
    """

    image: Image
    metadata: Metadata
    seconds: Fraction
    left: int = 0
    top: int = 0


def whole_frames(animation: ImageSequence) -> Iterator[FramePart]:
    """Yield complete frames.

    Raises:
        ValueError: The frames differ in size, depth or transparency.
    """
    first: tuple[object, ...] | None = None
    for frame in animation.frames():
        image = frame.image
        kind = image.pixels.shape, image.pixels.dtype, image.alpha is None
        if kind != (first := first or kind):
            raise ValueError("its frames differ in size, depth or transparency")
        bare = replace(image, metadata=Metadata())
        yield FramePart(bare, image.metadata, frame.seconds or Fraction())


def changed_parts(animation: ImageSequence, step: int) -> Iterator[FramePart]:
    """Yield the first frame whole, and of each other frame the rectangle that has changed.

    Args:
        animation: The animation to write.
        step: Divisor of the `left` and `top` of all rectangles.

    Raises:
        ValueError: The frames differ in size, depth or transparency.
    """
    before = None
    for part in whole_frames(animation):
        yield difference(before, part, step)
        before = part


def difference(before: FramePart | None, after: FramePart, step: int) -> FramePart:
    """Return the smallest rectangle of a frame with all changes; one pixel without changes.

    Args:
        before: The whole previous frame; None returns `after`.
        after: The whole frame.
        step: Divisor of `left` and `top`.
    """
    if before is None:
        return after
    old, new = before.image, after.image
    differs = (old.pixels != new.pixels).any(axis=2)
    if old.alpha is not None and new.alpha is not None:
        differs |= old.alpha != new.alpha
    top, bottom = _extent(differs.any(axis=1), step)
    left, right = _extent(differs.any(axis=0), step)
    alpha = None if new.alpha is None else new.alpha[top:bottom, left:right]
    image = replace(new, pixels=new.pixels[top:bottom, left:right], alpha=alpha)
    return replace(after, image=image, left=left, top=top)


class Clock:
    """Converts durations to ticks so that rounding errors do not add up.

    A duration of 0 remains 0. Longer ones become at least two ticks where they exceed one, since
    viewers replace very short durations by much longer ones.

    Args:
        rate: Ticks per second.
        longest: Largest number of ticks of a frame.
    """

    def __init__(self, rate: int, longest: int) -> None:
        self._rate, self._longest = rate, longest
        self._exact_sum, self._sum = Fraction(), 0

    def ticks(self, seconds: Fraction) -> int:
        """Return the duration of the next frame in ticks."""
        exact = seconds * self._rate
        if not exact:
            return 0
        self._exact_sum += exact
        ticks = max(round(self._exact_sum) - self._sum, min(2, math.ceil(exact)))
        self._sum += ticks
        return min(ticks, self._longest)


def _has_transparency(header: Header, patches: Sequence[Patch]) -> bool:
    """Return whether any frame may have transparent pixels, for example on an uncovered canvas."""
    cleared = True
    for patch in patches:
        reaches_right = patch.left + patch.width >= header.width
        covers = patch.left == patch.top == 0 and reaches_right and patch.height >= header.height
        if not patch.opaque and not patch.blends:
            return True
        if cleared and not (covers and patch.opaque):
            return True
        cleared = patch.disposal == "clear"
    return False


def _with_alpha(raster: Raster) -> Pixels:
    """Return samples of shape (H, W, 2 or 4), opaque where there is no alpha."""
    pixels, alpha = raster.pixels, raster.alpha
    if alpha is None:
        alpha = np.full(pixels.shape[:2], np.iinfo(pixels.dtype).max, pixels.dtype)
    return np.dstack((pixels, alpha))


def _blended(below: Pixels, above: Pixels) -> Pixels:
    """Blend samples with alpha over others, both of shape (H, W, 2 or 4)."""
    full = np.iinfo(above.dtype).max
    if not np.any((above[..., -1] > 0) & (above[..., -1] < full)):
        return np.where(above[..., -1:] > 0, above, below)
    alpha = above[..., -1:] / full
    rest = below[..., -1:] / full * (1 - alpha)
    total = alpha + rest
    colour = (above[..., :-1] * alpha + below[..., :-1] * rest) / np.maximum(total, 1e-9)
    return np.rint(np.dstack((colour, total * full))).astype(above.dtype)


def _extent(changed: Pixels, step: int) -> tuple[int, int]:
    """Return first and last + 1 of the changed positions along one axis; (0, 1) without any."""
    positions = np.flatnonzero(changed)
    if not len(positions):
        return 0, 1
    return int(positions[0]) // step * step, int(positions[-1]) + 1
