"""Animations and documents: frame after frame, each different one once.

Enlarged frames wait on disk, not in memory, until they are written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import numpy as np

from upscale.errors import PictureError
from upscale.pictures import Frame, Metadata, Origin, Picture, Sequence

if TYPE_CHECKING:
    from upscale.engine.upscaler import Report

TileProgress = Callable[[int, int], None]
Enlarge = Callable[[Picture, tuple[int, int], TileProgress | None], "tuple[Picture, Report]"]
"""Enlarges a picture to (width, height)."""


def enlarge_sequence(
    sequence: Sequence,
    size: tuple[int, int],
    enlarge: Enlarge,
    progress: TileProgress | None = None,
) -> tuple[Sequence, Report]:
    """Enlarge every frame, those that are identical once.

    Args:
        sequence: What was read.
        size: (width, height) of the first frame's result; pages of other sizes keep the ratio.
        enlarge: Enlarges one picture.
        progress: Called with tiles done and in all, as if every frame had those of the current.

    Returns:
        The enlarged sequence, and the report of the last frame that was computed.

    Raises:
        PictureError: The frames cannot be read, or there is none.
    """
    shelf, slots, report = _Shelf(), list[_Slot](), None
    known: dict[bytes, _Place] = {}
    ratio: tuple[float, float] | None = None
    for number, frame in enumerate(sequence.frames()):
        picture = frame.picture
        ratio = ratio or (size[0] / picture.width, size[1] / picture.height)
        wanted = max(1, round(picture.width * ratio[0])), max(1, round(picture.height * ratio[1]))
        key = _digest(picture)
        if key not in known:
            large, report = enlarge(picture, wanted, _shifted(progress, number, sequence.count))
            known[key] = shelf.put(large)
        slots.append(_Slot(known[key], picture.metadata, picture.origin, frame.seconds))
    if report is None:
        raise PictureError("the animation holds no frame")

    def frames() -> Iterator[Frame]:
        for slot in slots:
            large = replace(shelf.get(slot.place), metadata=slot.metadata, origin=slot.origin)
            yield Frame(large, slot.seconds)

    return replace(sequence, frames=frames, count=len(slots)), report


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a picture lies in the shelf's file: pixels, then alpha."""

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
    """Keeps pictures in a temporary file, which goes when the shelf does."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 -- it lives as long as the shelf

    def put(self, picture: Picture) -> _Place:
        """Store pixels and alpha."""
        start = self._file.seek(0, 2)
        for plane in (picture.pixels, picture.alpha):
            if plane is not None:
                self._file.write(np.ascontiguousarray(plane).data)
        pixels = picture.pixels
        return _Place(start, pixels.shape, pixels.dtype.name, picture.alpha is not None)

    def get(self, place: _Place) -> Picture:
        """Fetch pixels and alpha."""
        self._file.seek(place.start)
        pixels = self._read(place.shape, place.dtype)
        alpha = self._read(place.shape[:2], place.dtype) if place.alpha else None
        return Picture(pixels, alpha)

    def _read(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        plane = np.empty(shape, dtype)
        self._file.readinto(plane.reshape(-1).view(np.uint8).data)
        return plane


def _digest(picture: Picture) -> bytes:
    """What two pictures have in common exactly when their samples are the same."""
    digest = hashlib.blake2b(repr((picture.pixels.shape, picture.depth)).encode(), digest_size=32)
    for plane in (picture.pixels, picture.alpha):
        digest.update(b"-" if plane is None else np.ascontiguousarray(plane).data)
    return digest.digest()


def _shifted(progress: TileProgress | None, number: int, count: int) -> TileProgress | None:
    """Progress of one frame as progress of the sequence."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, count * total)
