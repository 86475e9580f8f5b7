"""The unfinished work on a video: segments, each of which is whole or not there, and their journal.

They lie in a folder beside the output. A segment is written under another name, brought to the
drive, renamed, and only then entered into the journal; what is in the journal is never computed
again, as long as source, model and settings are those of the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.error import FFmpegError
from filelock import FileLock, Timeout

from upscale.errors import OutputError, VideoError
from upscale.files.atomic import (
    flush_to_disk,
    remove_stale_temporaries,
    replace_text,
    sync_folder,
)
from upscale.files.error_mapping import one_line
from upscale.files.hashing import sha256_of
from upscale.files.printable import printable
from upscale.video.encoders import Encoder
from upscale.video.join import Part

SEGMENT_FRAMES = 120
"""Frames of a segment: as much as a killed run has to compute again, and one key frame more."""

_MANIFEST = "manifest.json"
_JOURNAL = "journal.jsonl"
_LOCK = "lock"
_SEGMENT = re.compile(r"seg-\d{6}\.(part|mkv)")
_LONGEST_NAME = 255
_SAMPLE = 1 << 20


@dataclass(frozen=True, slots=True)
class Segment:
    """Frames that are encoded together.

    Attributes:
        number: From 0.
        times: When its frames should come, in units of the video's time base.
    """

    number: int
    times: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CorruptFrames:
    """What was wrong with frames that a segment has nevertheless.

    Attributes:
        damaged: Times of those that the decoder could only guess in part.
        resized: Times of those of another size or pixel format, brought to the video's.
    """

    damaged: tuple[int, ...] = ()
    resized: tuple[int, ...] = ()


_NO_FLAWS = CorruptFrames()


@dataclass(frozen=True, slots=True)
class Entry:
    """What the journal says of a finished segment.

    Attributes:
        segment: Its number.
        lost: Times of frames that should be in it and could not be decoded.
        damaged: As in `CorruptFrames`.
        resized: As in `CorruptFrames`.
        delay: By how many frames decoding has to run ahead of presentation.
        frames: How many it has.
        first: Time of its first frame; None where it has none.
        last: Time of its last frame; None where it has none.
        sha256: Of the file; None where it has no frames, and so no file.
    """

    segment: int
    lost: tuple[int, ...]
    damaged: tuple[int, ...]
    resized: tuple[int, ...]
    delay: int
    frames: int
    first: int | None
    last: int | None
    sha256: str | None


def segments(times: Sequence[int], length: int = SEGMENT_FRAMES) -> tuple[Segment, ...]:
    """Cut a plan of frames into segments of a fixed number of frames; the last may be shorter."""
    return tuple(
        Segment(number, tuple(times[start : start + length]))
        for number, start in enumerate(range(0, len(times), length))
    )


def folder_for(output: Path) -> Path:
    """The folder beside an output in which work on it lies."""
    name = f".{output.name}.upscale"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(output.name)).hexdigest()[:32]}.upscale"
    return output.parent / name


def identity_of_source(path: Path) -> dict[str, str]:
    """What tells a file from others, and from itself after a change, without reading all of it.

    Raises:
        VideoError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            head = file.read(_SAMPLE)
            file.seek(max(0, facts.st_size - _SAMPLE))
            tail = file.read(_SAMPLE)
    except OSError as error:
        raise VideoError(f"{printable(path)}: cannot be read ({one_line(error)})") from error
    return {
        "source's size": str(facts.st_size),
        "source's time of change": str(facts.st_mtime_ns),
        "source's content": hashlib.sha256(head + tail).hexdigest(),
    }


def identity_of_encoder(encoder: Encoder) -> dict[str, str]:
    """All on which an encoder's bytes depend, beside the frames."""
    return {
        "codec": encoder.encoder,
        "size": f"{encoder.width}x{encoder.height}",
        "pixel format": encoder.pixel_format,
        "encoder's options": json.dumps(encoder.options),
        "colours": str(encoder.colour),
        "pixels' shape": str(encoder.sample_aspect),
        "version of the encoders": f"PyAV {av.__version__}",
    }


class Work:
    """The work on one output: what is done, and what is to do.

    Use it as a context manager; meanwhile no other run can work on the same output. Whatever ends
    it, what is done stays, until `remove` is called.

    Args:
        output: The file to be.
        times: The plan: times of all frames, sorted.
        identity: All that the result depends on, by the names that a user knows.
        restart: Throw away work that was done with another identity, or any.

    Raises:
        OutputError: The folder cannot be made, another run is in it, or it belongs to work that
            had another identity.
    """

    def __init__(
        self,
        output: Path,
        times: Sequence[int],
        identity: Mapping[str, str],
        *,
        restart: bool = False,
    ) -> None:
        self.folder = folder_for(output)
        self.segments = segments(times)
        plan = hashlib.sha256(json.dumps(list(times)).encode()).hexdigest()
        self._identity = {**identity, "choice of frames": plan}
        self._restart = restart
        self._entries: dict[int, Entry] = {}
        self._settled: dict[str, int] = {}
        self._lock = FileLock(self.folder / _LOCK)

    def __enter__(self) -> Self:
        with self._failures():
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise OutputError(
                    f"{printable(self.folder)}: another run is working there; wait for its end"
                ) from None
            try:
                self._open()
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    @property
    def to_do(self) -> tuple[Segment, ...]:
        """Segments that are not finished, in order."""
        return tuple(each for each in self.segments if each.number not in self._entries)

    @property
    def lost(self) -> tuple[int, ...]:
        """Times of frames that could not be decoded, in finished segments."""
        return tuple(time for entry in self._finished() for time in entry.lost)

    @property
    def corrupt_frames(self) -> CorruptFrames:
        """What is wrong with frames of finished segments."""
        return CorruptFrames(
            tuple(time for entry in self._finished() for time in entry.damaged),
            tuple(time for entry in self._finished() for time in entry.resized),
        )

    def settle(self, name: str, choose: Callable[[int | None], int]) -> int:
        """Settle something on which bits depend, for this run and those that go on from it.

        Args:
            name: Of it.
            choose: Is given what was settled before, or None, and returns what holds from now on.

        Raises:
            OutputError: It cannot be written down.
        """
        value = choose(self._settled.get(name))
        if value != self._settled.get(name):
            self._settled[name] = value
            with self._failures():
                self._write_manifest()
        return value

    def path_for(self, segment: Segment) -> Path:
        """Where a segment is to be written before it is finished."""
        return self.folder / f"seg-{segment.number:06d}.part"

    def finish(
        self, segment: Segment, times: Sequence[int], corrupt_frames: CorruptFrames = _NO_FLAWS
    ) -> None:
        """Enter a segment into the journal, once its file is written and closed.

        Segments may be finished in any order, but by one thread at a time.

        Args:
            segment: One of `to_do`; `path_for` it lies its file.
            times: Of the frames in it: all that it should have, except those that are lost.
            corrupt_frames: What is wrong with them.

        Raises:
            OutputError: The file cannot be kept, or does not hold these frames.
            ValueError: It has frames that the plan does not know.
        """
        lost = sorted(set(segment.times) - set(times))
        if [*times] != [time for time in segment.times if time not in set(lost)]:
            raise ValueError(f"segment {segment.number} has frames that are not in the plan")
        with self._failures():
            path = self.path_for(segment)
            delay, digest = (_delay(path, len(times)), _keep(path)) if times else (0, None)
            if digest is None:
                path.unlink(missing_ok=True)
            else:
                path.replace(path.with_suffix(".mkv"))
                sync_folder(self.folder)
            entry = Entry(
                segment=segment.number,
                lost=tuple(lost),
                damaged=corrupt_frames.damaged,
                resized=corrupt_frames.resized,
                delay=delay,
                frames=len(times),
                first=times[0] if times else None,
                last=times[-1] if times else None,
                sha256=digest,
            )
            _append(self.folder / _JOURNAL, entry)
        self._entries[segment.number] = entry

    def parts(self) -> list[Part]:
        """All segments, ready to be joined, once nothing is left `to_do`."""
        return [self._part(each, self._entries[each.number]) for each in self.segments]

    def remove(self) -> None:
        """Take the work away, after the output has appeared; files of others stay."""
        with suppress(OSError):
            self._clear()
            self._lock.release()
            (self.folder / _LOCK).unlink(missing_ok=True)
            self.folder.rmdir()

    def _finished(self) -> Iterator[Entry]:
        """Entries of finished segments, in the video's order."""
        return (self._entries[number] for number in sorted(self._entries))

    def _part(self, segment: Segment, entry: Entry) -> Part:
        lost = set(entry.lost)
        times = tuple(time for time in segment.times if time not in lost)
        path = self.path_for(segment).with_suffix(".mkv") if times else None
        return Part(path, times, entry.delay)

    def _open(self) -> None:
        remove_stale_temporaries(self.folder)
        if self._restart:
            self._clear()
        manifest = self.folder / _MANIFEST
        known, self._settled = _manifest(manifest)
        if known is None:
            self._clear()
            self._write_manifest()
        elif known != self._identity:
            changed = [
                name
                for name in {**known, **self._identity}
                if known.get(name) != self._identity.get(name)
            ]
            raise OutputError(
                f"{printable(self.folder)}: was begun with another {', '.join(changed)};"
                " pass --restart to throw that work away"
            )
        self._entries = {
            entry.segment: entry
            for entry in _journal(self.folder / _JOURNAL)
            if self._is_whole(entry)
        }

    def _write_manifest(self) -> None:
        content = {"identity": self._identity, "settled": self._settled}
        replace_text(self.folder / _MANIFEST, json.dumps(content, indent=1))
        sync_folder(self.folder)

    def _is_whole(self, entry: Entry) -> bool:
        """Whether a segment is what the journal says."""
        if not 0 <= entry.segment < len(self.segments):
            return False
        segment = self.segments[entry.segment]
        part = self._part(segment, entry)
        ends = (part.times[0], part.times[-1]) if part.times else (None, None)
        if (len(part.times), *ends) != (entry.frames, entry.first, entry.last):
            return False
        try:
            return (None if part.path is None else sha256_of(part.path)) == entry.sha256
        except OSError:
            return False

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if _SEGMENT.fullmatch(path.name) or path.name in (_MANIFEST, _JOURNAL):
                path.unlink()

    @contextmanager
    def _failures(self) -> Generator[None]:
        try:
            yield
        except (OSError, FFmpegError) as error:
            raise OutputError(
                f"{printable(self.folder)}: cannot be used ({one_line(error)});"
                " what is done there stays, so run the same command again"
            ) from error


def _delay(path: Path, frames: int) -> int:
    """Read a segment back: its frames are all there; and how far decoding runs ahead."""
    with av.open(f"file:{path}") as container:
        found = [packet.pts for packet in container.demux(video=0) if packet.size]
    if sorted(time for time in found if time is not None) != list(range(frames)):
        raise OutputError(
            f"{printable(path)}: holds {len(found)} of {frames} frames; run the same command again"
        )
    return max(order - (time or 0) for order, time in enumerate(found))


def _keep(path: Path) -> str:
    """Bring a file to the drive, and say what is in it."""
    with path.open("rb+") as file:
        flush_to_disk(file)
    return sha256_of(path)


def _manifest(path: Path) -> tuple[dict[str, str] | None, dict[str, int]]:
    """What a folder's work depends on and what was settled for it; None where nothing is known."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return dict(content["identity"]), dict(content["settled"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None, {}


def _append(path: Path, entry: Entry) -> None:
    """Add a line to a journal, whose last line may be torn."""
    line = json.dumps({name: getattr(entry, name) for name in Entry.__slots__})
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(f"{line}\n".encode())
        flush_to_disk(file)


def _journal(path: Path) -> list[Entry]:
    """All entries of a journal that can be understood; later ones of a segment come last."""
    with suppress(FileNotFoundError):
        found = map(_entry, path.read_bytes().splitlines())
        return [entry for entry in found if entry is not None]
    return []


def _entry(line: bytes) -> Entry | None:
    try:
        fields: dict[str, Any] = json.loads(line)
        if type(fields["segment"]) is not int:
            return None
        times = {name: tuple(fields[name]) for name in ("lost", "damaged", "resized")}
        return Entry(**{**fields, **times})  # pyright: ignore[reportArgumentType]
    except (ValueError, TypeError, KeyError):
        return None
