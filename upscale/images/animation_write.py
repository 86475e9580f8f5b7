"""Write animations whose frames are computed one after another.

They are spliced from still images: Pillow would gather all frames first and merge those that are
alike, which changes their number. After the first frame, only the rectangle that differs from what
is shown already is written. An AVIF, whose frames build upon each other, is left to Pillow.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, pairwise
from typing import BinaryIO

import numpy as np
from PIL import Image as PILImage

from upscale.images.codecs import gif, pillow, png, webp
from upscale.images.codecs.iso_boxes import box, boxes
from upscale.images.encoding import Encoding
from upscale.images.image import Image, ImageSequence, Metadata, Pixels

_MAX_16, _MAX_24, _MAX_31, _MAX_32 = 2**16 - 1, 2**24 - 1, 2**31 - 1, 2**32 - 2
_VISIBLE = 128
_STAYS, _IS_CLEARED = 1, 2
_HAS_PROFILE, _HAS_ALPHA, _HAS_EXIF, _HAS_XMP, _IS_ANIMATED = 32, 16, 8, 4, 2
_REPLACES = 2
_CHUNK_HEAD = 8
_AVIF_SPEED = 8
_ENDLESS = b"\xff" * 8
_RIFF_HEAD = 12
_PIXELS = (b"ALPH", b"VP8 ", b"VP8L")


def write_png(animation: ImageSequence, target: BinaryIO) -> None:
    """Write an animated PNG; times are kept as fractions of two 16-bit numbers.

    Raises:
        ValueError: The frames differ in size or kind.
    """
    count, number, control = 0, 0, 0
    for part in _parts(animation, step=1):
        plain = png.encode_plain(part.image)
        if count == 0:
            target.write(plain[: png.HEADER_END])
            control = target.tell()
            target.write(_animation_control(0, 0))
            target.write(png.metadata_chunks(part.metadata))
        target.write(_frame_control(number, part))
        packed, number = _packed(plain), number + 1
        if count == 0:
            target.write(png.chunk(b"IDAT", packed))
        else:
            target.write(png.chunk(b"fdAT", struct.pack(">I", number) + packed))
            number += 1
        count += 1
    target.write(png.chunk(b"IEND", b""))
    target.seek(control)
    target.write(_animation_control(count, animation.plays))
    target.seek(0, 2)


def write_webp(animation: ImageSequence, target: BinaryIO, encoding: Encoding) -> None:
    """Write an animated WebP; times are rounded to milliseconds, and plays end at 65535.

    Raises:
        ValueError: The frames differ in size or kind, or are too large together.
    """
    clock, metadata = _Clock(1000, _MAX_24), Metadata()
    target.write(b"RIFF\0\0\0\0WEBP")
    for number, part in enumerate(_parts(animation, step=2)):
        if number == 0:
            metadata = part.metadata
            target.write(_webp_start(part, animation.plays))
        still = io.BytesIO()
        webp.encode(part.image, still, encoding.for_image(part.image, "webp"))
        target.write(_webp_frame(part, clock.ticks(part.seconds), still.getvalue()))
    if metadata.exif:
        target.write(_riff(b"EXIF", metadata.exif))
    if metadata.xmp:
        target.write(_riff(b"XMP ", metadata.xmp))
    size = target.tell()
    if size > _MAX_32:
        raise ValueError("its frames come to more than 4 GB")
    target.seek(4)
    target.write(struct.pack("<I", size - _CHUNK_HEAD))
    target.seek(0, 2)


def write_gif(animation: ImageSequence, target: BinaryIO) -> None:
    """Write an animated GIF; times are rounded to hundredths of a second.

    Where a visible pixel becomes transparent, the frame before is cleared, for which both are
    written whole.

    Raises:
        ValueError: The frames differ in size or kind.
    """
    clock, before, cleared = _Clock(100, _MAX_16), None, False
    for shown, following in pairwise(chain(_shown(animation), (None,))):
        assert shown is not None
        image = shown.image
        if before is None:
            comment = shown.metadata.comment
            target.write(gif.start(image.width, image.height, animation.plays, comment))
        clears = following is not None and _uncovers(image, following.image)
        part = shown if cleared or clears else _difference(before, shown, 1)
        disposal = _IS_CLEARED if clears else _STAYS
        ticks, place = clock.ticks(shown.seconds), (part.left, part.top)
        target.write(gif.image_block(part.image, ticks, disposal=disposal, place=place))
        before, cleared = shown, clears
    target.write(gif.END)


def write_avif(animation: ImageSequence, target: BinaryIO, encoding: Encoding) -> None:
    """Write an animated AVIF of 8 bits; times are rounded to milliseconds.

    The packed frames are in memory until the end.

    Raises:
        ValueError: It has more than 8 bits, shall be lossless, or names a colour space by numbers;
            or the frames differ in size or kind.
    """
    parts = _whole(animation)
    first = next(parts)
    metadata, settled = first.metadata, encoding.for_image(first.image, "avif")
    if encoding.lossless:
        raise ValueError("an animation without loss is not supported there")
    if first.image.depth > 8:
        raise ValueError("an animation of more than 8 bits is not supported there")
    if metadata.cicp and not metadata.icc:
        raise ValueError("an animation in a colour space without a profile is not supported there")
    clock = _Clock(1000, _MAX_31)
    times = [clock.ticks(first.seconds)]
    whole = io.BytesIO()
    _avif_image(first).save(
        whole,
        "AVIF",
        save_all=True,
        append_images=[_Rest(parts, clock, times)],
        duration=times,
        quality=settled.quality,
        subsampling="4:4:4",
        speed=_AVIF_SPEED,
        icc_profile=metadata.icc or b"",
        exif=metadata.exif or b"",
        xmp=metadata.xmp or b"",
    )
    for kind, body in boxes(whole.getvalue()):
        # Pillow has animations shown for ever, which libavif states as endless durations.
        plays = struct.pack(">Q", sum(times) * animation.plays) if animation.plays else _ENDLESS
        target.write(box(kind, body.replace(_ENDLESS, plays) if kind == b"moov" else body))


class _Rest:
    """Frames as Pillow's encoder asks for them, where it would have a list of images."""

    def __init__(self, parts: Iterator[_Part], clock: _Clock, times: list[int]) -> None:
        self._parts, self._clock, self._times = parts, clock, times

    def seek(self, number: int) -> None:
        """Take the next frame, whose time is added to the list."""
        del number
        part = next(self._parts, None)
        if part is None:
            raise EOFError
        self._image = _avif_image(part)
        self.mode, self.size = self._image.mode, self._image.size
        self._times.append(self._clock.ticks(part.seconds))

    def tobytes(self, *layout: str) -> bytes:
        """The samples of the current frame."""
        return self._image.tobytes(*layout)


def _avif_image(part: _Part) -> PILImage.Image:
    return pillow.image_of(part.image).convert("RGB" if part.image.alpha is None else "RGBA")


@dataclass(frozen=True, slots=True)
class _Part:
    """What a frame puts in place of what is there, and how long it is shown then."""

    image: Image
    metadata: Metadata
    seconds: Fraction
    left: int = 0
    top: int = 0


class _Clock:
    """Times in ticks: their sum is rounded, not each of them, lest a long animation drifts.

    No time remains no time, and some time becomes at least two ticks where it is more than one:
    viewers take very short times for much longer ones.
    """

    def __init__(self, ticks_a_second: int, longest: int) -> None:
        self._rate, self._longest = ticks_a_second, longest
        self._meant, self._told = Fraction(), 0

    def ticks(self, seconds: Fraction) -> int:
        """The time of the next frame."""
        exact = seconds * self._rate
        if not exact:
            return 0
        self._meant += exact
        ticks = max(round(self._meant) - self._told, min(2, math.ceil(exact)))
        self._told += ticks
        return min(ticks, self._longest)


def _whole(animation: ImageSequence) -> Iterator[_Part]:
    """The frames as they are, found to be of one size and kind."""
    first: tuple[object, ...] | None = None
    for frame in animation.frames():
        image = frame.image
        kind = image.pixels.shape, image.pixels.dtype, image.alpha is None
        if kind != (first := first or kind):
            raise ValueError("its frames differ in size, depth or transparency")
        bare = replace(image, metadata=Metadata())
        yield _Part(bare, image.metadata, frame.seconds or Fraction())


def _shown(animation: ImageSequence) -> Iterator[_Part]:
    """Frames whose pixels are either opaque, or transparent and black."""
    for part in _whole(animation):
        image = part.image
        if image.alpha is not None:
            visible = image.alpha >= _VISIBLE
            pixels = image.pixels * visible[..., None]
            image = replace(image, pixels=pixels, alpha=visible * np.uint8(255))
        yield replace(part, image=image)


def _parts(animation: ImageSequence, step: int) -> Iterator[_Part]:
    """The first frame, and of each other what differs from the frame before."""
    before = None
    for part in _whole(animation):
        yield _difference(before, part, step)
        before = part


def _difference(before: _Part | None, after: _Part, step: int) -> _Part:
    """The smallest rectangle of a frame that holds all that changed; one pixel when nothing did.

    Its left and top are multiples of `step`.
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


def _extent(marked: Pixels, step: int) -> tuple[int, int]:
    """Start and end of what is marked along one axis; of the first place when nothing is."""
    places = np.flatnonzero(marked)
    if not len(places):
        return 0, 1
    return int(places[0]) // step * step, int(places[-1]) + 1


def _uncovers(before: Image, after: Image) -> bool:
    """Whether a visible pixel becomes transparent."""
    if before.alpha is None or after.alpha is None:
        return False
    return bool((before.alpha > after.alpha).any())


def _animation_control(count: int, plays: int) -> bytes:
    return png.chunk(b"acTL", struct.pack(">II", count, min(plays, _MAX_31)))


def _frame_control(number: int, part: _Part) -> bytes:
    """The chunk before a frame's pixels, which stay and replace what is there."""
    width, height = part.image.width, part.image.height
    # Both numbers have 16 bits: a long time leaves less room for the lower one.
    limit = max(1, _MAX_16 // max(1, math.ceil(part.seconds)))
    time = min(part.seconds, Fraction(_MAX_16)).limit_denominator(limit)
    place = struct.pack(">IIIII", number, width, height, part.left, part.top)
    return png.chunk(b"fcTL", place + struct.pack(">HHBB", time.numerator, time.denominator, 0, 0))


def _packed(plain: memoryview) -> bytes:
    """The packed pixels of a PNG file without metadata."""
    pieces: list[memoryview] = []
    place = png.HEADER_END
    while place < len(plain):
        length, kind = struct.unpack_from(">I4s", plain, place)
        if kind == b"IDAT":
            pieces.append(plain[place + _CHUNK_HEAD : place + _CHUNK_HEAD + length])
        place += _CHUNK_HEAD + length + 4
    return b"".join(pieces)


def _webp_start(part: _Part, plays: int) -> bytes:
    """The chunks before the first frame."""
    metadata, image = part.metadata, part.image
    flags = _IS_ANIMATED | (_HAS_ALPHA if image.alpha is not None else 0)
    flags |= _HAS_PROFILE if metadata.icc else 0
    flags |= _HAS_EXIF if metadata.exif else 0
    flags |= _HAS_XMP if metadata.xmp else 0
    size = _three_bytes(image.width - 1) + _three_bytes(image.height - 1)
    profile = _riff(b"ICCP", metadata.icc) if metadata.icc else b""
    control = struct.pack("<IH", 0, min(plays, _MAX_16))
    return _riff(b"VP8X", struct.pack("<I", flags) + size) + profile + _riff(b"ANIM", control)


def _webp_frame(part: _Part, milliseconds: int, still: bytes) -> bytes:
    """A frame that stays and replaces what is there, from a still image without metadata."""
    image = part.image
    numbers = (part.left // 2, part.top // 2, image.width - 1, image.height - 1, milliseconds)
    head = b"".join(map(_three_bytes, numbers)) + bytes((_REPLACES,))
    pixels, place = b"", _RIFF_HEAD
    while place < len(still):
        kind, length = struct.unpack_from("<4sI", still, place)
        end = place + _CHUNK_HEAD + length + length % 2
        pixels += still[place:end] if kind in _PIXELS else b""
        place = end
    return _riff(b"ANMF", head + pixels)


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _three_bytes(number: int) -> bytes:
    return number.to_bytes(3, "little")
