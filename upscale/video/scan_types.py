"""Count the progressive and the interlaced frames of a video by the headers of its packets."""

from __future__ import annotations

from typing import Any, Protocol

from av.packet import Packet
from av.video.stream import VideoStream

from upscale.video import h264

_EXTENSION = b"\0\0\1\xb5"
_SEQUENCE_EXTENSION, _CODING_EXTENSION = 1, 8
_SEQUENCE_BYTE, _PROGRESSIVE_BYTE = 1, 4
_SEQUENCE_BIT = 3
_FIELD_STRUCTURES = (1, 2, 3, 4)
"""Structures of pictures in H.264 (table D-1) that are fields, or frames of two times."""

_LOOKED_AT = 256
"""The header of a picture is at the beginning of its packet."""


class ScanTypes(Protocol):
    """Counts frames by the flags in the headers of packets."""

    @property
    def counts(self) -> tuple[int, int]:
        """Number of progressive and of interlaced pictures; zeros if flags say nothing."""
        ...

    def add(self, packet: Packet[Any]) -> None:
        """Count the picture of a packet."""
        ...


def scan_types(stream: VideoStream) -> ScanTypes:
    """Return the counter for a stream; other codecs than MPEG-2 and H.264 are not counted.

    Args:
        stream: Video stream.
    """
    context = stream.codec_context
    if context.codec.canonical_name == "mpeg2video":
        return _Mpeg2()
    if context.codec.canonical_name == "h264":
        return _H264(context.extradata or b"")
    return _Uncounted()


class _Uncounted:
    counts = (0, 0)

    def add(self, packet: Packet[Any]) -> None:
        del packet


class _Mpeg2:
    """Count by ISO 13818-2, 6.2.2.3 and 6.2.3.1."""

    def __init__(self) -> None:
        self._is_progressive_sequence = False
        self.counts = (0, 0)

    def add(self, packet: Packet[Any]) -> None:
        for part in memoryview(packet)[:_LOOKED_AT].tobytes().split(_EXTENSION)[1:]:
            if len(part) <= _PROGRESSIVE_BYTE:
                continue
            if part[0] >> 4 == _SEQUENCE_EXTENSION:
                self._is_progressive_sequence = bool(part[_SEQUENCE_BYTE] >> _SEQUENCE_BIT & 1)
            elif part[0] >> 4 == _CODING_EXTENSION:
                progressive, interlaced = self.counts
                is_progressive = part[_PROGRESSIVE_BYTE] >> 7 or self._is_progressive_sequence
                self.counts = (progressive + is_progressive, interlaced + 1 - is_progressive)
                return


class _H264:
    """Count by the structure in a picture's timing, else by its first slice.

    Most videos are of one kind, and many of these have the wrong flags. So only a mixture counts.
    """

    def __init__(self, extradata: bytes) -> None:
        self._sequence: h264.Sequence | None = None
        self._progressive = self._interlaced = 0
        try:
            self._length_bytes, sets = h264.configuration(extradata)
        except IndexError:
            self._length_bytes, sets = 0, []
        for unit in sets:
            self._read_sequence(unit)

    @property
    def counts(self) -> tuple[int, int]:
        """Number of progressive and of interlaced pictures, if there are both."""
        is_mixed = self._progressive and self._interlaced
        return (self._progressive, self._interlaced) if is_mixed else (0, 0)

    def add(self, packet: Packet[Any]) -> None:
        """Count the picture of a packet."""
        structure: int | None = None
        for unit in h264.units(memoryview(packet).tobytes(), self._length_bytes):
            kind = unit[0] & 31
            self._read_sequence(unit)
            try:
                if kind == h264.SUPPLEMENT and self._sequence is not None:
                    found = h264.picture_structure(unit[1:], self._sequence)
                    structure = structure if found is None else found
                elif kind in h264.SLICES and self._sequence is not None:
                    self._count(structure, h264.is_field_picture(unit[1:], self._sequence))
                    return
            except (IndexError, ValueError):  # damaged
                return

    def _count(self, structure: int | None, has_fields: bool) -> None:
        if structure is not None:
            has_fields = has_fields and structure in _FIELD_STRUCTURES
        self._interlaced += has_fields
        self._progressive += not has_fields

    def _read_sequence(self, unit: bytes) -> None:
        if not unit or unit[0] & 31 != h264.SEQUENCE:
            return
        try:
            self._sequence = h264.parse_sequence(unit[1:])
        except (IndexError, ValueError):  # damaged
            return
