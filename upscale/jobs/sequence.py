"""Animations and documents: frame after frame, each different one once.

Upscaled frames wait on disk, not in memory, until they are written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import numpy as np

from upscale.errors import ImageError
from upscale.images import Frame, Image, ImageSequence, Metadata, Origin

if TYPE_CHECKING:
    from upscale.engine.upscaler import Report

TileProgress = Callable[[int, int], None]
UpscaleFunction = Callable[[Image, tuple[int, int], TileProgress | None], "tuple[Image, Report]"]
"""Upscales an image to (width, height)."""


def upscale_sequence(
    sequence: ImageSequence,
    size: tuple[int, int],
    upscale: UpscaleFunction,
    progress: TileProgress | None = None,
) -> tuple[ImageSequence, Report]:
    """UpscaleFunction every frame, those that are identical once.

    Args:
        sequence: What was read.
        size: (width, height) of the first frame's result; pages of other sizes keep the ratio.
        upscale: Upscales one image.
        progress: Called with tiles done and in all, as if every frame had those of the current.

    Returns:
        The upscaled sequence, and the report of the last frame that was computed.

    Raises:
        ImageError: The frames cannot be read, or there is none.
    """
    shelf, slots, report = _Shelf(), list[_Slot](), None
    known: dict[bytes, _Place] = {}
    ratio: tuple[float, float] | None = None
    for number, frame in enumerate(sequence.frames()):
        image = frame.image
        ratio = ratio or (size[0] / image.width, size[1] / image.height)
        wanted = max(1, round(image.width * ratio[0])), max(1, round(image.height * ratio[1]))
        key = _digest(image)
        if key not in known:
            large, report = upscale(image, wanted, _shifted(progress, number, sequence.count))
            known[key] = shelf.put(large)
        slots.append(_Slot(known[key], image.metadata, image.origin, frame.seconds))
    if report is None:
        raise ImageError("the animation holds no frame")

    def frames() -> Iterator[Frame]:
        for slot in slots:
            large = replace(shelf.get(slot.place), metadata=slot.metadata, origin=slot.origin)
            yield Frame(large, slot.seconds)

    return replace(sequence, frames=frames, count=len(slots)), report


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an image lies in the shelf's file: pixels, then alpha."""

    start: int
    shape: tuple[int, ...]
    dtype: str
    alpha: bool


@dataclass(frozen=True, slots=True)
class _Slot:
    """One frame of the result; several may share a place."""

    place: _Place
    metadata: Metadata
    origin: Origin
    seconds: Fraction | None


class _Shelf:
    """Keeps images in a temporary file, which goes when the shelf does."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 -- it lives as long as the shelf

    def put(self, image: Image) -> _Place:
        """Store pixels and alpha."""
        start = self._file.seek(0, 2)
        for plane in (image.pixels, image.alpha):
            if plane is not None:
                self._file.write(np.ascontiguousarray(plane).data)
        pixels = image.pixels
        return _Place(start, pixels.shape, pixels.dtype.name, image.alpha is not None)

    def get(self, place: _Place) -> Image:
        """Fetch pixels and alpha."""
        self._file.seek(place.start)
        pixels = self._read(place.shape, place.dtype)
        alpha = self._read(place.shape[:2], place.dtype) if place.alpha else None
        return Image(pixels, alpha)

    def _read(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        plane = np.empty(shape, dtype)
        self._file.readinto(plane.reshape(-1).view(np.uint8).data)
        return plane


def _digest(image: Image) -> bytes:
    """What two images have in common exactly when their samples are the same."""
    digest = hashlib.blake2b(repr((image.pixels.shape, image.depth)).encode(), digest_size=32)
    for plane in (image.pixels, image.alpha):
        digest.update(b"-" if plane is None else np.ascontiguousarray(plane).data)
    return digest.digest()


def _shifted(progress: TileProgress | None, number: int, count: int) -> TileProgress | None:
    """Progress of one frame as progress of the sequence."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, count * total)
