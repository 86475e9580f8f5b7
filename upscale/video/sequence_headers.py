"""Find where the size of frames or the shape of pixels changes, by the headers of a stream.

MPEG-1 and MPEG-2 (ISO 13818-2, 6.2.2.1) and H.264 (ITU-T H.264, 7.3.2.1) repeat them within the
stream. Otherwise a change would be noticed only when its frames are decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from av.packet import Packet
from av.video.stream import VideoStream

_START_CODE = b"\0\0\1"
_MPEG_SEQUENCE = 0xB3
_H264_SEQUENCE = 7
_MPEG = ("mpeg1video", "mpeg2video")
_LOOKED_AT = 1024
"""Headers are at the beginning of a packet."""

_MOST = 64
"""Changes that are kept; more make no difference."""

_DISPLAY_ASPECTS = {2: Fraction(4, 3), 3: Fraction(16, 9), 4: Fraction(221, 100)}
"""Shapes of the picture by their numbers in MPEG-2; 1 stands for square pixels."""

_PIXEL_ASPECTS = (
    *((1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11), (80, 33)),
    *((18, 11), (15, 11), (64, 33), (160, 99), (4, 3), (3, 2), (2, 1)),
)
"""Shapes of pixels by their numbers in H.264, from 1 on."""

_EXTENDED = 255
_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)


@dataclass(frozen=True, slots=True)
class FrameShape:
    """Size of frames, and shape of their pixels.

    Attributes:
        width: Width in pixels.
        height: Height in pixels.
        aspect: Width of a pixel divided by its height; 1 if it is not tagged.
    """

    width: int
    height: int
    aspect: Fraction


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
        for part in memoryview(packet)[:_LOOKED_AT].tobytes().split(_START_CODE)[1:]:
            shape = self._shape(part)
            if shape is not None and (not self.shapes or self.shapes[-1][1] != shape):
                self.shapes.append((packet.pts, shape))

    def _shape(self, part: bytes) -> FrameShape | None:
        try:
            if self._is_mpeg and part[0] == _MPEG_SEQUENCE:
                return _mpeg_shape(part[1:])
            if self._is_h264 and part[0] & 31 == _H264_SEQUENCE:
                return _h264_shape(part[1:])
        except (IndexError, ValueError):  # damaged
            return None
        return None


def _mpeg_shape(content: bytes) -> FrameShape:
    bits = _Bits(content)
    width, height, number = bits.read(12), bits.read(12), bits.read(4)
    if not width or not height:
        raise ValueError("no size")
    shown = _DISPLAY_ASPECTS.get(number)
    aspect = Fraction(1) if shown is None else shown * height / width
    return FrameShape(width, height, aspect)


def _h264_shape(content: bytes) -> FrameShape:
    bits = _Bits(content.replace(b"\0\0\3", b"\0\0"))
    profile = bits.read(8)
    bits.read(16)
    bits.unsigned()
    chroma = _skip_high_profile(bits) if profile in _HIGH_PROFILES else 1
    bits.unsigned()
    _skip_picture_order(bits)
    bits.unsigned()
    bits.read(1)
    width, units = (bits.unsigned() + 1) * 16, (bits.unsigned() + 1) * 16
    fields = 2 - bits.read(1)
    height = units * fields
    if fields == 2:
        bits.read(1)
    bits.read(1)
    if bits.read(1):
        across = 2 if chroma in (1, 2) else 1
        down = fields * (2 if chroma == 1 else 1)
        left, right, top, bottom = (bits.unsigned() for _ in range(4))
        width, height = width - across * (left + right), height - down * (top + bottom)
    if width < 1 or height < 1:
        raise ValueError("no size")
    return FrameShape(width, height, _pixel_aspect(bits))


def _skip_high_profile(bits: _Bits) -> int:
    """Skip what only high profiles have; return the number of the chroma format."""
    chroma = bits.unsigned()
    if chroma == 3:
        bits.read(1)
    bits.unsigned()
    bits.unsigned()
    bits.read(1)
    if bits.read(1):
        for number in range(12 if chroma == 3 else 8):
            if bits.read(1):
                _skip_scaling_list(bits, 16 if number < 6 else 64)
    return chroma


def _skip_scaling_list(bits: _Bits, length: int) -> None:
    last = following = 8
    for _ in range(length):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _skip_picture_order(bits: _Bits) -> None:
    kind = bits.unsigned()
    if kind == 0:
        bits.unsigned()
    elif kind == 1:
        bits.read(1)
        bits.signed()
        bits.signed()
        for _ in range(bits.unsigned()):
            bits.signed()


def _pixel_aspect(bits: _Bits) -> Fraction:
    if not bits.read(1) or not bits.read(1):
        return Fraction(1)
    number = bits.read(8)
    if number == _EXTENDED:
        width, height = bits.read(16), bits.read(16)
        return Fraction(width, height) if width and height else Fraction(1)
    if not 1 <= number <= len(_PIXEL_ASPECTS):
        return Fraction(1)
    return Fraction(*_PIXEL_ASPECTS[number - 1])


class _Bits:
    """Read numbers of some bits from bytes.

    Args:
        content: The bytes.
    """

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, 0

    def read(self, count: int) -> int:
        """Read an unsigned number; IndexError beyond the end."""
        value = 0
        for place in range(self._place, self._place + count):
            value = value << 1 | self._content[place >> 3] >> (7 - (place & 7)) & 1
        self._place += count
        return value

    def unsigned(self) -> int:
        """Read an Exp-Golomb code; ValueError if it is too long."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > 31:
                raise ValueError("no code is that long")
        return (1 << zeros) - 1 + self.read(zeros)

    def signed(self) -> int:
        """Read a signed Exp-Golomb code."""
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)
