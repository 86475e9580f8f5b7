"""Finished segments of an unfinished video, and the journal that lists them.

They are stored in a hidden folder beside the output. A segment is written to a temporary file,
flushed to disk, renamed, and only then entered into the journal. Segments in the journal are not
computed again, as long as the source, the model and the settings equal those of the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
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
from upscale.video.join import EncodedSegment

SEGMENT_FRAMES = 120
"""Frames per segment: what a killed run has to compute again, and the distance of keyframes."""

_MANIFEST = "manifest.json"
_MANIFEST_FORMAT = 2
_JOURNAL = "journal.jsonl"
_LOCK = "lock"
_SEGMENT_NAME = re.compile(r"seg-\d{6}\.(part|mkv)")
_MAX_NAME_BYTES = 255
_SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Segment:
    """Frames that are encoded together.

    Attributes:
        number: Number of the segment, counted from 0.
        times: Expected times of its frames in units of the video's time base.
    """

    number: int
    times: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CorruptFrames:
    """Frames of a segment that were decoded with problems.

    Attributes:
        damaged: Times of frames that the decoder flagged as corrupt.
        resized: Times of frames of another size or pixel format, which were converted.
    """

    damaged: tuple[int, ...] = ()
    resized: tuple[int, ...] = ()


_NO_CORRUPT_FRAMES = CorruptFrames()


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A finished segment, as listed in the journal.

    Attributes:
        segment: Number of the segment.
        lost: Times of expected frames that could not be decoded.
        damaged: Times of frames that the decoder flagged as corrupt.
        resized: Times of frames that were converted to the video's size and pixel format.
        delay: Number of frames by which decoding runs ahead of presentation.
        frames: Number of frames.
        first: Time of the first frame; None without frames.
        last: Time of the last frame; None without frames.
        sha256: Digest of the file; None without frames, because there is no file then.
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


def split_into_segments(times: Sequence[int]) -> tuple[Segment, ...]:
    """Split frame times into segments of `SEGMENT_FRAMES`; the last one may be shorter."""
    return tuple(
        Segment(number, tuple(times[start : start + SEGMENT_FRAMES]))
        for number, start in enumerate(range(0, len(times), SEGMENT_FRAMES))
    )


def folder_for(output: Path) -> Path:
    """Return the folder beside an output that stores its finished segments."""
    name = f".{output.name}.upscale"
    if len(os.fsencode(name)) > _MAX_NAME_BYTES:
        name = f".{hashlib.sha256(os.fsencode(output.name)).hexdigest()[:32]}.upscale"
    return output.parent / name


def identity_of_source(path: Path) -> dict[str, str]:
    """Return properties that identify a version of a file, without reading all of it.

    Raises:
        VideoError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            head = file.read(_SAMPLE_BYTES)
            file.seek(max(0, status.st_size - _SAMPLE_BYTES))
            tail = file.read(_SAMPLE_BYTES)
    except OSError as error:
        raise VideoError(f"{printable(path)}: cannot be read ({one_line(error)})") from error
    return {
        "source size": str(status.st_size),
        "source modification time": str(status.st_mtime_ns),
        "source content": hashlib.sha256(head + tail).hexdigest(),
    }


def identity_of_encoder(encoder: Encoder) -> dict[str, str]:
    """Return everything that determines the encoder's output for the same frames."""
    frames = encoder.frame_format
    return {
        "codec": encoder.ffmpeg_name,
        "output size": f"{frames.width}x{frames.height}",
        "pixel format": encoder.pixel_format,
        "encoder options": json.dumps(encoder.options),
        "colours": str(frames.colour),
        "pixel aspect ratio": str(encoder.sample_aspect),
        "PyAV version": av.__version__,
    }


class SegmentStore:
    """Finished and pending segments of one output.

    Use it as a context manager, which locks the folder against other runs. Finished segments stay
    until `remove` is called, even if the process is killed.

    Args:
        output: Output file.
        times: Times of all frames, sorted.
        identity: Everything that determines the result, by names that users understand.
        restart: Discard existing segments.

    Attributes:
        folder: Folder that stores the segments.
        segments: All segments in order.

    Raises:
        OutputError: The folder cannot be created, is used by another run, or belongs to a run with
            another identity.
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
        self.segments = split_into_segments(times)
        digest = hashlib.sha256(json.dumps(list(times)).encode()).hexdigest()
        self._identity = {**identity, "selection of frames": digest}
        self._restart = restart
        self._entries: dict[int, JournalEntry] = {}
        self._pinned: dict[str, int] = {}
        self._lock = FileLock(self.folder / _LOCK)

    def __enter__(self) -> Self:
        with self._map_errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise OutputError(
                    f"{printable(self.folder)}: is in use by another run; wait until it has ended"
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
    def pending(self) -> tuple[Segment, ...]:
        """Segments that are not finished, in order."""
        return tuple(each for each in self.segments if each.number not in self._entries)

    @property
    def lost(self) -> tuple[int, ...]:
        """Times of frames of finished segments that could not be decoded."""
        return tuple(time for entry in self._finished() for time in entry.lost)

    @property
    def corrupt_frames(self) -> CorruptFrames:
        """Frames of finished segments that were decoded with problems."""
        return CorruptFrames(
            tuple(time for entry in self._finished() for time in entry.damaged),
            tuple(time for entry in self._finished() for time in entry.resized),
        )

    def pin(self, name: str, choose: Callable[[int | None], int]) -> int:
        """Choose an option that affects the result, and store it for resumed runs.

        Args:
            name: Name of the option.
            choose: Function that takes the stored value or None, and returns the value to use.

        Returns:
            The chosen value.

        Raises:
            OutputError: The value cannot be stored.
        """
        value = choose(self._pinned.get(name))
        if value != self._pinned.get(name):
            self._pinned[name] = value
            with self._map_errors():
                self._write_manifest()
        return value

    def path_for(self, segment: Segment) -> Path:
        """Return the file to write a segment to before it is finished."""
        return self.folder / f"seg-{segment.number:06d}.part"

    def finish(
        self,
        segment: Segment,
        times: Sequence[int],
        corrupt_frames: CorruptFrames = _NO_CORRUPT_FRAMES,
    ) -> None:
        """Enter a segment into the journal, after its file was written and closed.

        Segments may be finished in any order, but only by one thread at a time.

        Args:
            segment: Pending segment, whose file is at `path_for`.
            times: Times of its frames; expected times that are missing are reported as lost.
            corrupt_frames: Frames that were decoded with problems.

        Raises:
            OutputError: The file cannot be stored, or does not contain these frames.
            ValueError: A time is not one of the segment's.
        """
        lost = sorted(set(segment.times) - set(times))
        if [*times] != [time for time in segment.times if time not in set(lost)]:
            raise ValueError(f"segment {segment.number} has unexpected frames")
        with self._map_errors():
            path = self.path_for(segment)
            delay, digest = (_delay(path, len(times)), _keep(path)) if times else (0, None)
            if digest is None:
                path.unlink(missing_ok=True)
            else:
                path.replace(path.with_suffix(".mkv"))
                sync_folder(self.folder)
            entry = JournalEntry(
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

    def encoded_segments(self) -> list[EncodedSegment]:
        """Return all segments for joining, once none is pending."""
        return [self._encoded(each, self._entries[each.number]) for each in self.segments]

    def remove(self) -> None:
        """Delete the stored segments after the output was written; other files stay."""
        with suppress(OSError):
            self._clear()
            self._lock.release()
            (self.folder / _LOCK).unlink(missing_ok=True)
            self.folder.rmdir()

    def _finished(self) -> Iterator[JournalEntry]:
        """Return the entries of finished segments in order."""
        return (self._entries[number] for number in sorted(self._entries))

    def _encoded(self, segment: Segment, entry: JournalEntry) -> EncodedSegment:
        lost = set(entry.lost)
        times = tuple(time for time in segment.times if time not in lost)
        path = self.path_for(segment).with_suffix(".mkv") if times else None
        return EncodedSegment(path, times, entry.delay)

    def _open(self) -> None:
        remove_stale_temporaries(self.folder)
        if self._restart:
            self._clear()
        manifest = _read_manifest(self.folder / _MANIFEST)
        if manifest is None:
            self._clear()
            self._write_manifest()
        else:
            self._check_identity(manifest)
            self._pinned = manifest["pinned"]
        self._entries = {
            entry.segment: entry
            for entry in _read_journal(self.folder / _JOURNAL)
            if self._is_intact(entry)
        }

    def _check_identity(self, manifest: Mapping[str, Any]) -> None:
        if manifest.get("format") != _MANIFEST_FORMAT:
            raise OutputError(
                f"{printable(self.folder)}: was started by another version of upscale;"
                " pass --restart to discard it"
            )
        known = manifest["identity"]
        names = {**known, **self._identity}
        changed = [name for name in names if known.get(name) != self._identity.get(name)]
        if changed:
            raise OutputError(
                f"{printable(self.folder)}: was started with another {', '.join(changed)};"
                " pass --restart to discard it"
            )

    def _write_manifest(self) -> None:
        content = {
            "format": _MANIFEST_FORMAT,
            "identity": self._identity,
            "pinned": self._pinned,
        }
        replace_text(self.folder / _MANIFEST, json.dumps(content, indent=1))
        sync_folder(self.folder)

    def _is_intact(self, entry: JournalEntry) -> bool:
        """Return whether the file of a segment matches its journal entry."""
        if not 0 <= entry.segment < len(self.segments):
            return False
        encoded = self._encoded(self.segments[entry.segment], entry)
        ends = (encoded.times[0], encoded.times[-1]) if encoded.times else (None, None)
        if (len(encoded.times), *ends) != (entry.frames, entry.first, entry.last):
            return False
        try:
            digest = None if encoded.path is None else sha256_of(encoded.path)
            return digest == entry.sha256
        except OSError:
            return False

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if _SEGMENT_NAME.fullmatch(path.name) or path.name in (_MANIFEST, _JOURNAL):
                path.unlink()

    @contextmanager
    def _map_errors(self) -> Generator[None]:
        try:
            yield
        except (OSError, FFmpegError) as error:
            raise OutputError(
                f"{printable(self.folder)}: cannot be written ({one_line(error)}); finished"
                " segments are kept, so fix this and run the same command again"
            ) from error


def _delay(path: Path, frames: int) -> int:
    """Read a segment back, check its frames, and return by how many decoding runs ahead."""
    with av.open(f"file:{path}") as container:
        numbers = [packet.pts for packet in container.demux(video=0) if packet.size]
    if sorted(number for number in numbers if number is not None) != list(range(frames)):
        raise OutputError(
            f"{printable(path)}: contains {len(numbers)} of {frames} frames;"
            " run the same command again"
        )
    return max(place - (number or 0) for place, number in enumerate(numbers))


def _keep(path: Path) -> str:
    """Flush a file to disk, and return its digest."""
    with path.open("rb+") as file:
        flush_to_disk(file)
    return sha256_of(path)


def _read_manifest(path: Path) -> dict[str, Any] | None:
    """Read a manifest; None if there is none, or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            "format": content.get("format"),
            "identity": dict(content["identity"]),
            "pinned": dict(content.get("pinned", {})),
        }
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _append(path: Path, entry: JournalEntry) -> None:
    """Add a line to a journal, whose last line may be incomplete."""
    line = json.dumps({each.name: getattr(entry, each.name) for each in fields(entry)})
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(f"{line}\n".encode())
        flush_to_disk(file)


def _read_journal(path: Path) -> list[JournalEntry]:
    """Read all valid entries of a journal; if a segment has several, the last one counts."""
    with suppress(FileNotFoundError):
        entries = map(_parse_entry, path.read_bytes().splitlines())
        return [entry for entry in entries if entry is not None]
    return []


def _parse_entry(line: bytes) -> JournalEntry | None:
    try:
        values: dict[str, Any] = json.loads(line)
        if type(values["segment"]) is not int:
            return None
        for name in ("lost", "damaged", "resized"):
            values[name] = tuple(values[name])
        return JournalEntry(**values)
    except (ValueError, TypeError, KeyError):
        return None
