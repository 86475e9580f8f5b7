"""Keep tracks of timed metadata in MP4 and MOV files, such as those of Android, Apple and GoPro.

FFmpeg copies their packets, but not what describes them: it knows few of their formats. So the
muxer writes a track with a long name, which reserves space in the index. Afterwards the index gets
the description of the source's track in place of that name, and nothing else moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from upscale.video.mp4_index import boxes, too_many_samples

_CONTAINERS = (b"mdia", b"minf", b"stbl")
_HEADERS = (b"nmhd", b"gmhd")
_DESCRIBED = (b"hdlr", b"stsd", *_HEADERS)
_METADATA = b"meta"
_LARGEST = 1 << 16
"""Bytes of a description; true ones have hundreds."""

_HEAD = 8
_HANDLER_NAME = 24
_MOV_HANDLER = b"mhlr"
_SPARE = 64


@dataclass(frozen=True, slots=True)
class MetadataTrack:
    """What describes a track.

    Attributes:
        boxes: Handler, media header and sample description by their kinds, with heads.
        references: Kinds of references, and the numbers of the tracks that they refer to.
    """

    boxes: Mapping[bytes, bytes]
    references: Mapping[bytes, tuple[int, ...]]

    @property
    def placeholder(self) -> str:
        """A name of the track that is longer than its description."""
        length = sum(map(len, self.boxes.values())) + len(_references(self, {}, keep_all=True))
        return "-" * (length + _SPARE)


def metadata_tracks(path: Path) -> dict[int, MetadataTrack]:
    """Return the tracks of timed metadata of an MP4 or MOV file by their numbers.

    Args:
        path: The file; others have none.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        if too_many_samples(file) is not None:
            return {}
        return {number: track for number, track in _tracks(file) if _is_complete(track)}


def _is_complete(track: MetadataTrack) -> bool:
    handler = track.boxes.get(b"hdlr", b"")[_HEAD + 8 : _HEAD + 12]
    return handler == _METADATA and b"stsd" in track.boxes and len(track.boxes) == 3


def _tracks(file: BinaryIO) -> Iterator[tuple[int, MetadataTrack]]:
    number, found, references = 0, dict[bytes, bytes](), dict[bytes, tuple[int, ...]]()
    for kind, start, end in boxes(file):
        if kind == b"trak":
            if number:
                yield number, MetadataTrack(found, references)
            number, found, references = 0, {}, {}
        elif kind == b"tkhd":
            content = _read(file, start, end)
            place = 20 if content[:1] == b"\1" else 12
            number = int.from_bytes(content[place : place + 4])
        elif kind == b"tref":
            references = {
                each: tuple(int.from_bytes(part[at : at + 4]) for at in range(0, len(part), 4))
                for each, part in _parts(_read(file, start, end))
            }
        elif kind in _DESCRIBED and kind not in found and end - start <= _LARGEST:
            found[kind] = _box(kind, _read(file, start, end))
    if number:
        yield number, MetadataTrack(found, references)


def describe_tracks(
    path: Path, tracks: Mapping[int, MetadataTrack], numbers: Mapping[int, int]
) -> None:
    """Describe tracks of a complete file, which were named with their placeholders.

    Args:
        path: The file.
        tracks: Tracks of the source by their numbers in the file.
        numbers: Numbers of tracks in the file by those in the source, for references.

    Raises:
        OSError: The file cannot be written.
        ValueError: There is no room for a description.
    """
    with path.open("r+b") as file:
        number = start = last = 0
        for kind, first, end in list(boxes(file)):
            if kind == b"trak":
                start, last = first, end
            elif kind == b"tkhd":
                content = _read(file, first, end)
                number = int.from_bytes(content[12:16])
                if number in tracks:
                    file.seek(start)
                    new = _described(file.read(last - start), tracks[number], numbers)
                    file.seek(start)
                    file.write(new)


def _described(content: bytes, track: MetadataTrack, numbers: Mapping[int, int]) -> bytes:
    """Return the content of a track with another description, and as long."""
    result = _replaced(content, track) + _references(track, numbers)
    room = len(content) - len(result)
    if room < _HEAD:
        raise ValueError("its index has no room for a track of metadata")
    return result + _box(b"free", bytes(room - _HEAD))


def _replaced(content: bytes, track: MetadataTrack, parent: bytes = b"trak") -> bytes:
    # FFmpeg writes no header for some tracks.
    headers = [track.boxes[each] for each in _HEADERS if each in track.boxes]
    parts = headers if parent == b"minf" else []
    for kind, part in _parts(content):
        if kind in _CONTAINERS:
            parts.append(_box(kind, _replaced(part, track, kind)))
        elif kind in _HEADERS:
            continue
        elif kind == b"stsd":
            parts.append(track.boxes[kind])
        elif kind == b"hdlr" and parent == b"mdia":
            parts.append(_handler(track.boxes[kind][_HEAD:], is_mov=_is_mov(part)))
        else:
            parts.append(_box(kind, part))
    return b"".join(parts)


def _is_mov(handler: bytes) -> bool:
    return handler[4:8] == _MOV_HANDLER


def _handler(content: bytes, *, is_mov: bool) -> bytes:
    """Return a handler whose name is stored as in MOV, after its length, or as in MP4."""
    subtype, name = content[8:12], content[_HANDLER_NAME:]
    name = name[1 : 1 + name[0]] if _is_mov(content) and name else name.rstrip(b"\0")
    if is_mov:
        stored = bytes([min(len(name), 255)]) + name[:255]
        return _box(b"hdlr", bytes(4) + _MOV_HANDLER + subtype + bytes(12) + stored)
    return _box(b"hdlr", bytes(8) + subtype + bytes(12) + name + b"\0")


def _references(
    track: MetadataTrack, numbers: Mapping[int, int], *, keep_all: bool = False
) -> bytes:
    """Return the references to tracks that are in the output."""
    parts = b""
    for kind, targets in track.references.items():
        own = [numbers.get(each, each) for each in targets if keep_all or each in numbers]
        if own:
            parts += _box(kind, b"".join(each.to_bytes(4) for each in own))
    return _box(b"tref", parts) if parts else b""


def _parts(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + _HEAD <= len(content):
        size = int.from_bytes(content[place : place + 4])
        if size < _HEAD:
            return
        yield content[place + 4 : place + _HEAD], content[place + _HEAD : place + size]
        place += size


def _box(kind: bytes, content: bytes) -> bytes:
    return (_HEAD + len(content)).to_bytes(4) + kind + content


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(min(end - start, _LARGEST))
