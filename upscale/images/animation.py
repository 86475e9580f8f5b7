"""Frames of an animation, composed as a viewer shows them, one after another.

GIF and APNG store rectangles to lay over what was shown before. They are composed here, since
Pillow lets a canvas grow in mid-animation, keeps the disposal of the frame before where a GIF
states none, fills with a background colour that no browser shows, and lays half-transparent
colours wrongly. WebP is composed by libwebp, and AVIF has whole frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import AvifImagePlugin, WebPImagePlugin

from upscale.images.codecs import avif, pillow, webp
from upscale.images.codecs.base import Header, MalformedError, Raster, Still, UnsupportedError
from upscale.images.image import Metadata, Pixels

_MAX_UNSEEN_PIXELS = 2**24


@dataclass(frozen=True, slots=True)
class Patch:
    """A stored rectangle of one frame.

    Attributes:
        left: Columns from the left of the canvas, 0 or more.
        top: Rows from its top, 0 or more.
        width: Pixels across; what is beyond the canvas is not shown.
        height: Pixels down.
        seconds: How long the frame is shown.
        disposal: What becomes of the rectangle afterwards: it stays, is cleared to transparent, or
            what was there before comes back.
        over: Whether it is laid over what is there, or replaces it.
        opaque: Whether it is known to have no transparent pixel.
        decode: Decodes it, to its width and height.
    """

    left: int
    top: int
    width: int
    height: int
    seconds: Fraction
    disposal: Literal["stays", "clear", "before"]
    over: bool
    opaque: bool
    decode: Callable[[], Raster]


def composed(header: Header, patches: Sequence[Patch]) -> Iterator[Still]:
    """What a viewer shows, frame after frame: all with alpha, or none.

    Args:
        header: The canvas and its metadata, of which frames after the first keep their colours'.
        patches: What is stored, in order.

    Raises:
        MalformedError: A patch is far larger than what it could show.
        Exception: Whatever decoding raises.
    """
    transparent = _shows_through(header, patches)
    canvas: Pixels | None = None
    for number, patch in enumerate(patches):
        if patch.width * patch.height > max(header.width * header.height, _MAX_UNSEEN_PIXELS):
            raise MalformedError("is damaged")
        samples = _with_alpha(patch.decode())
        if canvas is None:
            canvas = np.zeros((header.height, header.width, samples.shape[2]), samples.dtype)
        area = canvas[patch.top : patch.top + patch.height, patch.left : patch.left + patch.width]
        before = area.copy() if patch.disposal == "before" else None
        seen = samples[: area.shape[0], : area.shape[1]]
        area[...] = _laid_over(area, seen) if patch.over else seen
        shown = canvas.copy() if transparent else canvas[..., :-1].copy()
        yield Still(_header_of(header, number), partial(Raster.of, shown), patch.seconds)
        if before is not None:
            area[...] = before
        elif patch.disposal == "clear":
            area[...] = 0


def webp_frames(file: BinaryIO) -> Iterator[Still]:
    """The frames of an animated WebP.

    Raises:
        Exception: Whatever Pillow raises on damaged content.
    """
    header = webp.read_header(file)
    file.seek(0)
    pil_image = WebPImagePlugin.WebPImageFile(file)
    for number in range(header.frames):
        pil_image.seek(number)
        pil_image.load()
        seconds = Fraction(int(pil_image.info["duration"]), 1000)
        yield Still(_header_of(header, number), partial(pillow.raster_of, pil_image), seconds)


def avif_frames(file: BinaryIO) -> Iterator[Still]:
    """The frames of an animated AVIF.

    Raises:
        UnsupportedError: It has more than 8 bits a sample, of which Pillow would keep 8.
        Exception: Whatever Pillow raises on damaged content.
    """
    header = avif.read_header(file)
    if header.bits is not None:
        raise UnsupportedError(f"is an animation of {header.bits} bits a sample")
    file.seek(0)
    decoder: Any = AvifImagePlugin.AvifImageFile(file)._decoder  # pyright: ignore[reportPrivateUsage]
    for number in range(header.frames):
        # Pillow's `info` has times in whole milliseconds.
        data, scale, _, duration = decoder.get_frame(number)
        samples = np.frombuffer(data, np.uint8).reshape(header.height, header.width, -1)
        yield Still(
            _header_of(header, number), partial(Raster.of, samples), Fraction(duration, scale)
        )


def _header_of(header: Header, number: int) -> Header:
    """The header for a frame: the first carries all metadata, the others that of colours."""
    if number == 0:
        return header
    metadata = header.metadata
    return replace(header, metadata=Metadata(icc=metadata.icc, cicp=metadata.cicp))


def _shows_through(header: Header, patches: Sequence[Patch]) -> bool:
    """Whether any frame may have transparent pixels: a cleared canvas that is not covered whole."""
    cleared = True
    for patch in patches:
        reaches = patch.left + patch.width >= header.width
        covers = patch.left == patch.top == 0 and reaches and patch.height >= header.height
        if not patch.opaque and not patch.over:
            return True
        if cleared and not (covers and patch.opaque):
            return True
        cleared = patch.disposal == "clear"
    return False


def _with_alpha(raster: Raster) -> Pixels:
    """Samples (H, W, 2 or 4), opaque where nothing else is said."""
    pixels, alpha = raster.pixels, raster.alpha
    if alpha is None:
        alpha = np.full(pixels.shape[:2], np.iinfo(pixels.dtype).max, pixels.dtype)
    return np.dstack((pixels, alpha))


def _laid_over(below: Pixels, above: Pixels) -> Pixels:
    """Samples with alpha laid over others, (H, W, 2 or 4) each."""
    full = np.iinfo(above.dtype).max
    if not np.any((above[..., -1] > 0) & (above[..., -1] < full)):
        return np.where(above[..., -1:] > 0, above, below)
    alpha = above[..., -1:] / full
    rest = below[..., -1:] / full * (1 - alpha)
    total = alpha + rest
    colour = (above[..., :-1] * alpha + below[..., :-1] * rest) / np.maximum(total, 1e-9)
    return np.rint(np.dstack((colour, total * full))).astype(above.dtype)
