"""Animations and multi-page documents: upscale each distinct frame once.

Upscaled frames are kept on disk instead of in memory until they are written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from tempfile import TemporaryFile, gettempdir
from typing import TYPE_CHECKING

import numpy as np

from upscale.errors import ImageError, OutputError
from upscale.files.error_mapping import one_line
from upscale.images import Frame, Image, ImageSequence, Metadata, Origin
from upscale.jobs.image import TileProgress

if TYPE_CHECKING:
    from upscale.engine.upscaler import Report

UpscaleFunction = Callable[[Image, tuple[int, int], TileProgress | None], "tuple[Image, Report]"]
"""Upscales an image to (width, height)."""


def upscale_sequence(
    sequence: ImageSequence,
    size: tuple[int, int],
    upscale: UpscaleFunction,
    progress: TileProgress | None = None,
) -> tuple[ImageSequence, Report]:
    """Upscale every frame; identical frames are computed once.

    Args:
        sequence: Animation or document.
        size: Output (width, height) of the first frame; pages of other sizes use the same ratio.
        upscale: Function that upscales one image.
        progress: Function that is called with tiles done and total tiles, as if every frame had as
            many tiles as the current one.

    Returns:
        The upscaled sequence, and the report of the last computed frame.

    Raises:
        ImageError: A frame cannot be read, or there is no frame.
    """
    store, entries, report = _FrameStore(), list[_FrameEntry](), None
    known: dict[bytes, _StoredPixels] = {}
    ratio: tuple[float, float] | None = None
    for number, frame in enumerate(sequence.frames()):
        image = frame.image
        ratio = ratio or (size[0] / image.width, size[1] / image.height)
        size_out = max(1, round(image.width * ratio[0])), max(1, round(image.height * ratio[1]))
        key = _digest(image)
        if key not in known:
            frame_progress = _offset_progress(progress, number, sequence.count)
            large, report = upscale(image, size_out, frame_progress)
            known[key] = store.put(large)
        entries.append(_FrameEntry(known[key], image.metadata, image.origin, frame.seconds))
    if report is None:
        raise ImageError("the animation contains no frame")

    def frames() -> Iterator[Frame]:
        for entry in entries:
            image = store.get(entry.stored)
            yield Frame(replace(image, metadata=entry.metadata, origin=entry.origin), entry.seconds)

    damage = tuple(clause for entry in entries for clause in entry.origin.damage)
    return replace(sequence, frames=frames, count=len(entries), damage=damage), report


@dataclass(frozen=True, slots=True)
class _StoredPixels:
    """Position of an image in the file of the store: pixels, followed by alpha."""

    start: int
    shape: tuple[int, ...]
    dtype: str
    alpha: bool


@dataclass(frozen=True, slots=True)
class _FrameEntry:
    """One frame of the result; identical frames share their stored pixels."""

    stored: _StoredPixels
    metadata: Metadata
    origin: Origin
    seconds: Fraction | None


class _FrameStore:
    """Images in a temporary file, which is deleted together with the store."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 -- it lives as long as the store

    def put(self, image: Image) -> _StoredPixels:
        """Store pixels and alpha; OutputError on a full disk."""
        try:
            start = self._file.seek(0, 2)
            for array in (image.pixels, image.alpha):
                if array is not None:
                    self._file.write(np.ascontiguousarray(array).data)
            self._file.flush()
        except OSError as error:
            raise OutputError(
                f"{gettempdir()}: frames cannot be stored there ({one_line(error)}); free some "
                "space, or set TMPDIR to a larger disk"
            ) from error
        pixels = image.pixels
        return _StoredPixels(start, pixels.shape, pixels.dtype.name, image.alpha is not None)

    def get(self, stored: _StoredPixels) -> Image:
        """Read pixels and alpha."""
        self._file.seek(stored.start)
        pixels = self._read(stored.shape, stored.dtype)
        alpha = self._read(stored.shape[:2], stored.dtype) if stored.alpha else None
        return Image(pixels, alpha)

    def _read(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        array = np.empty(shape, dtype)
        self._file.readinto(array.reshape(-1).view(np.uint8).data)
        return array


def _digest(image: Image) -> bytes:
    """Return a digest that is equal exactly for images with equal samples."""
    digest = hashlib.blake2b(repr((image.pixels.shape, image.depth)).encode(), digest_size=32)
    for array in (image.pixels, image.alpha):
        digest.update(b"-" if array is None else np.ascontiguousarray(array).data)
    return digest.digest()


def _offset_progress(progress: TileProgress | None, number: int, count: int) -> TileProgress | None:
    """Return a function that reports the progress of a frame as progress of the sequence."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, count * total)
