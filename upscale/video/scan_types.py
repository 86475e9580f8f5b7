"""Count the progressive and the interlaced frames of a video by the headers of its packets."""

from __future__ import annotations

from typing import Any

from av.packet import Packet

_EXTENSION = b"\0\0\1\xb5"
_SEQUENCE_EXTENSION, _CODING_EXTENSION = 1, 8
_SEQUENCE_BYTE, _PROGRESSIVE_BYTE = 1, 4
_SEQUENCE_BIT = 3
_LOOKED_AT = 256
"""The header of a picture is at the beginning of its packet."""


class ScanTypes:
    """Count frames by the flags in MPEG-2's headers (ISO 13818-2, 6.2.2.3 and 6.2.3.1).

    Args:
        codec: FFmpeg's name of the codec; other ones than MPEG-2 are not counted.

    Attributes:
        counts: Number of progressive and of interlaced pictures.
    """

    def __init__(self, codec: str) -> None:
        self._is_mpeg2 = codec == "mpeg2video"
        self._is_progressive_sequence = False
        self.counts = (0, 0)

    def add(self, packet: Packet[Any]) -> None:
        """Count the picture of a packet."""
        if not self._is_mpeg2:
            return
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
