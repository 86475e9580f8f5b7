"""Find where the size of frames or the shape of pixels changes, by the headers of a stream.

MPEG-1 and MPEG-2 (ISO 13818-2, 6.2.2.1) and H.264 (ITU-T H.264, 7.3.2.1) repeat them within the
stream. Otherwise a change would be noticed only when its frames are decoded.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from av.packet import Packet
from av.video.stream import VideoStream

from upscale.video.h264 import SEQUENCE, START_CODE, Bits, parse_sequence
from upscale.video.info import FrameShape

_MPEG_SEQUENCE = 0xB3
_MPEG = ("mpeg1video", "mpeg2video")
_LOOKED_AT = 1024
"""Headers are at the beginning of a packet."""

_MOST = 64
"""Changes that are kept; more make no difference."""

_DISPLAY_ASPECTS = {2: Fraction(4, 3), 3: Fraction(16, 9), 4: Fraction(221, 100)}
"""Shapes of the picture by their numbers in MPEG-2; 1 stands for square pixels."""


class SequenceHeaders:
    """Collect the shapes in the headers of a stream.

    Args:
        stream: Video stream; other codecs have none.

    Attributes:
        shapes: Times and shapes, each different from the one before.
    """

    def __init__(self, stream: VideoStream) -> None:
        codec = stream.codec_context.codec.canonical_name
        # In MP4 and Matroska, lengths stand in place of start codes.
        has_lengths = (stream.codec_context.extradata or b"")[:1] == b"\1"
        self._is_mpeg = codec in _MPEG
        self._is_h264 = codec == "h264" and not has_lengths
        self.shapes: list[tuple[int | None, FrameShape]] = []

    def add(self, packet: Packet[Any]) -> None:
        """Look for a header in a packet."""
        if not (self._is_mpeg or self._is_h264) or len(self.shapes) >= _MOST:
            return
        for part in memoryview(packet)[:_LOOKED_AT].tobytes().split(START_CODE)[1:]:
            shape = self._shape(part)
            if shape is not None and (not self.shapes or self.shapes[-1][1] != shape):
                self.shapes.append((packet.pts, shape))

    def _shape(self, part: bytes) -> FrameShape | None:
        try:
            if self._is_mpeg and part[0] == _MPEG_SEQUENCE:
                return _mpeg_shape(part[1:])
            if self._is_h264 and part[0] & 31 == SEQUENCE:
                return parse_sequence(part[1:]).shape
        except (IndexError, ValueError):  # damaged
            return None
        return None


def _mpeg_shape(content: bytes) -> FrameShape:
    bits = Bits(content)
    width, height, number = bits.read(12), bits.read(12), bits.read(4)
    if not width or not height:
        raise ValueError("no size")
    shown = _DISPLAY_ASPECTS.get(number)
    aspect = Fraction(1) if shown is None else shown * height / width
    return FrameShape(width, height, aspect)
