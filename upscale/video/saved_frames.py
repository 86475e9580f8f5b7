"""Upscaled frames of a segment that is not finished, so that an interrupted run loses seconds.

A segment takes as long as its frames, which may be hours on a slow device. If it takes more than
`LONGEST_LOSS` seconds, its frames are also stored one by one, without loss. The next run passes
them to the encoder again, so the output is the same as without an interruption. For fast networks,
nothing is stored.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from time import monotonic
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from upscale.errors import OutputError
from upscale.files.atomic import replace_file
from upscale.video.info import FrameFormat, Plane, VideoFrame

LONGEST_LOSS = 60.0
"""Seconds of work of a segment above which its frames are stored."""

FILE_NAME = re.compile(r"seg-\d{6,}-frame-\d{6}\.npz")

_UNDECIDED = 8
"""Frames by which the speed is measured."""

_HEADER = "header"
_READ_ERRORS = (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class SavedFrame:
    """An upscaled frame, and what is reported about its source.

    Attributes:
        frame: The frame; if it repeats the one before, it has the same planes.
        damaged: Whether the decoder flagged the source frame as corrupt.
        resized: Whether the source frame had another size or pixel format.
    """

    frame: VideoFrame
    damaged: bool = False
    resized: bool = False


class SavedFrames:
    """Stored frames of one segment.

    Args:
        folder: Folder of the segments; None to store nothing.
        segment: Number of the segment.
        format: Format of the frames.
        length: Number of frames of a segment.
        clock: Function that returns a time in seconds.
    """

    def __init__(
        self,
        folder: Path | None,
        segment: int,
        format: FrameFormat,
        length: int,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._folder, self._segment, self._format = folder, segment, format
        self._clock = clock
        self._span = LONGEST_LOSS * _UNDECIDED / length
        self._start: float | None = None
        self._count = 0
        self._waiting: list[SavedFrame] | None = None if folder is None else []
        self._is_slow = False

    def load(self, times: Sequence[int]) -> list[SavedFrame]:
        """Return the frames that need not be computed again, and delete the others.

        The last frame that repeats no other, and those that repeat it, are left out: the next frame
        may depend on it.

        Args:
            times: Times of the segment's frames, sorted.
        """
        expected = iter(times)
        saved = [*takewhile(lambda each: each.frame.pts in expected, self._read_all())]
        while saved and saved.pop().frame.repeats:
            pass
        for number in range(len(saved), len(self._paths())):
            self._path(number).unlink(missing_ok=True)
        self._count, self._is_slow = len(saved), bool(saved)
        return saved

    def add(self, saved: SavedFrame) -> None:
        """Take a frame that was computed, and store it if the segment is slow.

        Frames that cannot be stored, because the disk is full, end the storing.
        """
        if self._waiting is None:
            return
        now = self._clock()
        self._start = now if self._start is None else self._start
        self._waiting.append(saved)
        new = sum(not each.frame.repeats for each in self._waiting)
        self._is_slow = self._is_slow or now - self._start >= self._span
        if self._is_slow:
            self._store()
        elif new > _UNDECIDED:
            self._waiting = None

    def discard(self) -> None:
        """Delete the stored frames."""
        for path in self._paths():
            with suppress(OSError):
                path.unlink()

    def _store(self) -> None:
        waiting, self._waiting = self._waiting or [], []
        for saved in waiting:
            try:
                self._write(saved)
            except (OSError, OutputError):
                self._waiting = None
                self.discard()
                return

    def _write(self, saved: SavedFrame) -> None:
        frame = saved.frame
        header = np.array([frame.pts, frame.repeats, saved.damaged, saved.resized], np.int64)
        planes = () if frame.repeats else frame.planes
        named: dict[str, NDArray[Any]] = {_HEADER: header}
        named |= {f"plane{number}": plane for number, plane in enumerate(planes)}
        replace_file(
            self._path(self._count),
            lambda file: np.savez_compressed(file, allow_pickle=False, **named),
        )
        self._count += 1

    def _read_all(self) -> Iterator[SavedFrame]:
        """Yield the stored frames up to the first one that is missing or damaged."""
        before: SavedFrame | None = None
        for number in range(len(self._paths())):
            try:
                before = self._read(self._path(number), before)
            except _READ_ERRORS:
                return
            yield before

    def _read(self, path: Path, before: SavedFrame | None) -> SavedFrame:
        with np.load(path, allow_pickle=False) as content:
            pts, repeats, damaged, resized = (int(each) for each in content[_HEADER])
            saved = SavedFrame(VideoFrame(pts, (), bool(repeats)), bool(damaged), bool(resized))
            if repeats:
                if before is None:
                    raise ValueError("the first frame repeats none")
                return replace(saved, frame=VideoFrame(pts, before.frame.planes, True))
            planes = tuple(
                self._checked(content[f"plane{number}"], shape)
                for number, shape in enumerate(self._format.plane_shapes())
            )
        return replace(saved, frame=VideoFrame(pts, planes))

    def _checked(self, plane: Plane, shape: tuple[int, int]) -> Plane:
        dtype = np.dtype(np.uint16 if self._format.planes.depth > 8 else np.uint8)
        if plane.shape != shape or plane.dtype != dtype:
            raise ValueError("a plane has another format")
        return plane

    def _path(self, number: int) -> Path:
        assert self._folder is not None
        return self._folder / f"seg-{self._segment:06d}-frame-{number:06d}.npz"

    def _paths(self) -> list[Path]:
        if self._folder is None:
            return []
        return sorted(self._folder.glob(f"seg-{self._segment:06d}-frame-*.npz"))
