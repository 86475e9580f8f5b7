"""Frames of a damaged animation or document: those that can be decoded, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

from upscale.errors import DamagedImageError
from upscale.images.codecs.base import Header, StoredFrame
from upscale.images.image import Frame

Noun = Literal["frame", "page"]


def partial_frames(
    noun: Noun,
    header: Header,
    read_next: Callable[[], StoredFrame | None],
    decode: Callable[[StoredFrame], Frame],
) -> Iterator[Frame]:
    """Yield the frames of a sequence that can be decoded, and leave out the others.

    `Origin.damage` of a frame beside it says what is missing. The frame before one of an animation
    that is left out is shown for the time of both, so that later frames keep their time.

    Args:
        noun: Name of one frame.
        header: Header of the file with the number of frames.
        read_next: Function that reads the next stored frame; None after the last.
        decode: Function that decodes a stored frame.

    Raises:
        DamagedImageError: No frame can be decoded.
    """
    held: Frame | None = None
    missing = list(header.damage)
    cause: DamagedImageError | None = None
    for number in range(1, header.frames + 1):
        stored = None
        try:
            stored = read_next()
            if stored is None:
                missing.append(_rest(noun, number, header.frames))
                break
            frame = decode(stored)
        except DamagedImageError as error:
            cause = error
            if stored is None:
                missing.append(_rest(noun, number, header.frames))
                break
            missing.append(f"{noun} {number} of {header.frames} was left out")
            if held is not None and held.seconds is not None:
                held = replace(held, seconds=held.seconds + (stored.seconds or 0))
            continue
        if held is not None:
            yield held
        held, missing = _with_damage(frame, missing), []
    if held is None:
        raise cause or DamagedImageError("the file contains no frame")
    yield _with_damage(held, missing)


def _rest(noun: Noun, first: int, count: int) -> str:
    """Return a clause about the frames from a number on."""
    if first == count:
        return f"{noun} {first} of {count} is missing"
    return f"{noun}s {first} to {count} are missing"


def _with_damage(frame: Frame, missing: list[str]) -> Frame:
    if not missing:
        return frame
    origin = frame.image.origin
    origin = replace(origin, damage=(*missing, *origin.damage))
    return replace(frame, image=replace(frame.image, origin=origin))
