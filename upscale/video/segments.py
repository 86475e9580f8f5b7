"""Finished segments of an unfinished video, and the journal that lists them.

They are stored in a hidden folder beside the output. A segment is written to a temporary file,
flushed to disk, renamed, and only then entered into the journal. Segments in the journal are not
computed again, as long as the source, the model and the settings equal those of the manifest.

Either one run has the whole folder, or several runs have a shard each. The former holds `lock`. The
latter hold a lock for their shard, and one for the journal and the manifest while they change them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import av
from av.error import FFmpegError
from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from upscale.errors import OutputError
from upscale.files.atomic import (
    flush_to_disk,
    remove_stale_temporaries,
    replace_text,
    sync_folder,
)
from upscale.files.error_mapping import one_line
from upscale.files.hashing import sha256_of
from upscale.files.printable import printable
from upscale.files.private_folder import check_regular_files, make_private_folder
from upscale.files.regular import create_anew, open_regular
from upscale.files.system_errors import raise_system_error
from upscale.shards import Shard
from upscale.video.encoders import Encoder
from upscale.video.info import FrameFormat
from upscale.video.join import EncodedSegment
from upscale.video.saved_frames import FILE_NAME, SavedFrames

T = TypeVar("T")

MUX_TEST_NAMES = ("mux-test", "mux-test-segment", "mux-test-frames")
"""Files by which `streams` tries out what a container can hold."""

SEGMENT_FRAMES = 120
"""Frames per segment: what a killed run has to compute again, and the distance of keyframes."""

_MANIFEST = "manifest.json"
_MANIFEST_FORMAT = 3
_JOURNAL = "journal.jsonl"
_LOCK = "lock"
_JOURNAL_LOCK = "journal.lock"
_SHARD_LOCK = re.compile(r"shard-\d+-of-(\d+)\.lock")
_PATIENCE = 10.0
"""Seconds to wait for another run that only looks whether the folder is free."""
_SEGMENT_NAME = re.compile(r"seg-\d{6,}\.(part|mkv)")
_MAX_MANIFEST_BYTES = 1 << 24
_MAX_JOURNAL_BYTES = 1 << 28
_MAX_NAME_BYTES = 255


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


@dataclass(frozen=True, slots=True)
class _Manifest:
    """Content of a manifest.

    Attributes:
        identity: Everything that determines the result, by names that users understand.
        format: Version of the format; other versions of upscale wrote other ones, or none.
        pinned: Options that were chosen once for all runs, by name.
    """

    identity: dict[str, str]
    format: object = None
    pinned: dict[str, Any] = field(default_factory=dict[str, Any])


_ENTRY, _MANIFEST_CONTENT = TypeAdapter(JournalEntry), TypeAdapter(_Manifest)


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


class InUseError(OutputError):
    """Another run works in the folder."""


class SegmentStore:
    """Finished and pending segments of one output.

    Use it as a context manager, which locks the folder against other runs. Finished segments stay
    until `remove` is called, even if the process is killed.

    Args:
        output: Output file.
        times: Times of all frames, sorted.
        identity: Everything that determines the result, by names that users understand.
        restart: Discard existing segments.
        shard: The share of the segments that this run computes, while others compute theirs; None
            for all of them.

    Attributes:
        folder: Folder that stores the segments.
        segments: All segments in order.
        share: Those of this run.

    Raises:
        InUseError: The folder, or the shard, is used by another run.
        OutputError: The folder cannot be created, belongs to another user, or to a run with another
            identity.
    """

    def __init__(
        self,
        output: Path,
        times: Sequence[int],
        identity: Mapping[str, str],
        *,
        restart: bool = False,
        shard: Shard | None = None,
    ) -> None:
        self.folder = folder_for(output)
        self.segments = split_into_segments(times)
        self.share = self.segments
        if shard is not None:
            places = shard.span(len(self.segments))
            self.share = self.segments[places.start : places.stop]
        digest = hashlib.sha256(json.dumps(list(times)).encode()).hexdigest()
        self._identity = {**identity, "selection of frames": digest}
        self._restart = restart
        self._entries: dict[int, JournalEntry] = {}
        self._pinned: dict[str, Any] = {}
        self._shard = shard
        self._lock = FileLock(self.folder / (_LOCK if shard is None else _shard_lock(shard)))

    def __enter__(self) -> Self:
        with self._map_errors():
            if not self._restart and not self.folder.exists():
                self._take_over()
            make_private_folder(self.folder)
            check_regular_files(self.folder, _is_own)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise self._in_use("another run") from None
            try:
                self._check_others()
                with self.exclusive():
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

    @contextmanager
    def exclusive(self) -> Generator[None]:
        """Keep runs with other shards from changing the folder during the block.

        Raises:
            OutputError: The lock cannot be stored.
        """
        if self._shard is None:
            yield
            return
        lock = FileLock(self.folder / _JOURNAL_LOCK)
        with self._map_errors():
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @property
    def pending(self) -> tuple[Segment, ...]:
        """Segments of this run that are not finished, in order."""
        return tuple(each for each in self.share if each.number not in self._entries)

    def count_unfinished(self) -> int:
        """Return how many of all segments are not in the journal yet, which other runs may extend.

        Raises:
            OutputError: The journal cannot be read.
        """
        with self.exclusive(), self._map_errors():
            entries = {entry.segment for entry in _read_journal(self.folder / _JOURNAL)}
        return sum(each.number not in entries for each in self.segments)

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

    def pin(self, name: str, kind: type[T], choose: Callable[[T | None], T]) -> T:
        """Choose an option that affects the result, and store it for resumed runs.

        Args:
            name: Name of the option.
            kind: Type of its values.
            choose: Function that takes the stored value or None, and returns the value to use,
                which JSON can represent.

        Returns:
            The chosen value.

        Raises:
            OutputError: The stored value is damaged, or the new one cannot be stored.
        """
        with self.exclusive():
            return self._pin(name, kind, choose)

    def _pin(self, name: str, kind: type[T], choose: Callable[[T | None], T]) -> T:
        if self._shard is not None:
            with self._map_errors():
                manifest = _read_manifest(self.folder / _MANIFEST)
            self._pinned = {} if manifest is None else manifest.pinned
        known: T | None = None
        if name in self._pinned:
            try:
                known = TypeAdapter(kind).validate_python(self._pinned[name], strict=True)
            except ValidationError:
                raise self.damaged(name) from None
        value = choose(known)
        if value != self._pinned.get(name):
            self._pinned[name] = value
            with self._map_errors():
                self._write_manifest()
        return value

    def damaged(self, name: str) -> OutputError:
        """Return the error for a stored option that no run of upscale wrote."""
        return OutputError(
            f"{printable(self.folder)}: the stored {name} is damaged; pass --restart to discard it"
        )

    def path_for(self, segment: Segment) -> Path:
        """Return the file to write a segment to before it is finished."""
        return self.folder / f"seg-{segment.number:06d}.part"

    def create(self, segment: Segment) -> Path:
        """Create the empty file of a segment, and return its path, which `path_for` returns.

        Raises:
            OutputError: The file cannot be created.
        """
        path = self.path_for(segment)
        with self._map_errors():
            create_anew(path)
        return path

    def saved_frames(self, segment: Segment, format: FrameFormat) -> SavedFrames:
        """Return the frames of a pending segment that an interrupted run has stored.

        Args:
            segment: Pending segment.
            format: Format of the upscaled frames.
        """
        return SavedFrames(self.folder, segment.number, format, SEGMENT_FRAMES)

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
            with self.exclusive():
                _append(self.folder / _JOURNAL, entry)
        self._entries[segment.number] = entry

    def add(
        self,
        segment: Segment,
        content: bytes,
        times: Sequence[int],
        corrupt_frames: CorruptFrames = _NO_CORRUPT_FRAMES,
    ) -> None:
        """Enter a segment into the journal that another process has computed; see `finish`.

        Args:
            segment: Pending segment.
            content: Content of its file; empty if it has no frames.
            times: Times of its frames.
            corrupt_frames: Frames that were decoded with problems.

        Raises:
            OutputError: The file cannot be stored, or does not contain these frames.
            ValueError: A time is not one of the segment's.
        """
        path = self.create(segment)
        with self._map_errors():
            path.write_bytes(content)
        self.finish(segment, times, corrupt_frames)

    def encoded_segments(self) -> list[EncodedSegment]:
        """Return all segments for joining, once none is pending."""
        return [self._encoded(each, self._entries[each.number]) for each in self.segments]

    def remove(self) -> None:
        """Delete the stored segments after the output was written; other files stay."""
        with suppress(OSError):
            self._clear()
            self._lock.release()
            for path in self.folder.iterdir():
                if _is_lock(path.name):
                    path.unlink()
            self.folder.rmdir()

    def _in_use(self, user: str) -> InUseError:
        return InUseError(f"{printable(self.folder)}: is in use by {user}; wait until it has ended")

    def _check_others(self) -> None:
        """Check that no run has the whole folder, and none a shard of another division.

        Each run takes its own lock first, so that of two runs at least one sees the other.
        """
        if self._shard is None:
            self._check_shards(None)
            return
        try:
            with FileLock(self.folder / _LOCK).acquire(timeout=_PATIENCE):
                self._check_shards(self._shard)
        except Timeout:
            raise self._in_use("a run without --shard") from None

    def _check_shards(self, own: Shard | None) -> None:
        for path in sorted(self.folder.iterdir()):
            match = _SHARD_LOCK.fullmatch(path.name)
            if match is None or (own is not None and int(match[1]) == own.count):
                continue
            try:
                FileLock(path).acquire(timeout=0).lock.release()
            except Timeout:
                raise self._in_use(f"a run with --shard I/{int(match[1])}") from None

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
            self._pinned = manifest.pinned
        self._entries = {
            entry.segment: entry
            for entry in _read_journal(self.folder / _JOURNAL)
            if self._is_shared(entry) and self._is_intact(entry)
        }

    def _take_over(self) -> None:
        """Take over the work of a run that differs in the name of its output alone."""
        for folder in sorted(self.folder.parent.glob(".*.upscale")):
            if folder.is_symlink() or not folder.is_dir():
                continue
            with suppress(OSError, Timeout, OutputError):
                check_regular_files(folder, _is_own)
                manifest = _read_manifest(folder / _MANIFEST)
                if manifest is None or manifest.identity != self._identity:
                    continue
                with FileLock(folder / _LOCK).acquire(timeout=0):
                    folder.rename(self.folder)
                return

    def _check_identity(self, manifest: _Manifest) -> None:
        if manifest.format != _MANIFEST_FORMAT:
            raise OutputError(
                f"{printable(self.folder)}: was started by another version of upscale;"
                " pass --restart to discard it"
            )
        known = manifest.identity
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

    def _is_shared(self, entry: JournalEntry) -> bool:
        """Return whether a segment is one of this run, so that its file is worth checking."""
        share = self.share
        return bool(share) and share[0].number <= entry.segment <= share[-1].number

    def _is_intact(self, entry: JournalEntry) -> bool:
        """Return whether the file of a segment matches its journal entry."""
        if not 0 <= entry.segment < len(self.segments):
            return False
        segment = self.segments[entry.segment]
        if not {*entry.lost, *entry.damaged, *entry.resized} <= {*segment.times}:
            return False
        encoded = self._encoded(segment, entry)
        ends = (encoded.times[0], encoded.times[-1]) if encoded.times else (None, None)
        if (len(encoded.times), *ends) != (entry.frames, entry.first, entry.last):
            return False
        if not 0 <= entry.delay <= entry.frames:
            return False
        try:
            digest = None if encoded.path is None else sha256_of(encoded.path)
            return digest == entry.sha256
        except OSError as error:
            raise_system_error(error)
            return False

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if _is_own(path.name) and not _is_lock(path.name):
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


def _is_own(name: str) -> bool:
    """Return whether a file has a name that upscale gives to files of the folder."""
    is_known = name in (_MANIFEST, _JOURNAL, *MUX_TEST_NAMES) or _is_lock(name)
    return is_known or any(each.fullmatch(name) for each in (_SEGMENT_NAME, FILE_NAME))


def _is_lock(name: str) -> bool:
    return name in (_LOCK, _JOURNAL_LOCK) or _SHARD_LOCK.fullmatch(name) is not None


def _shard_lock(shard: Shard) -> str:
    return f"shard-{shard.number}-of-{shard.count}.lock"


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


def _read_manifest(path: Path) -> _Manifest | None:
    """Read a manifest; None if there is none, or it is damaged."""
    try:
        return _MANIFEST_CONTENT.validate_json(_read(path, _MAX_MANIFEST_BYTES), strict=True)
    except (FileNotFoundError, ValidationError):
        return None


def _read(path: Path, limit: int) -> bytes:
    """Read a regular file; of one that is larger than all that upscale writes, the start."""
    with open_regular(path) as file:
        return file.read(limit)


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
        entries = map(_parse_entry, _read(path, _MAX_JOURNAL_BYTES).splitlines())
        return [entry for entry in entries if entry is not None]
    return []


def _parse_entry(line: bytes) -> JournalEntry | None:
    try:
        return _ENTRY.validate_json(line, strict=True)
    except ValidationError:
        return None
