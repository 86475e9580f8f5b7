"""Read headers of H.264 (ITU-T H.264, 7.3 and annexes D and E) as far as they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from upscale.video.info import FrameShape

START_CODE = b"\0\0\1"
SEQUENCE, SUPPLEMENT = 7, 6
SLICES = (1, 5)
"""Types of units in a stream."""

_PICTURE_TIMING = 1
_PIXEL_ASPECTS = (
    *((1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11), (80, 33)),
    *((18, 11), (15, 11), (64, 33), (160, 99), (4, 3), (3, 2), (2, 1)),
)
"""Shapes of pixels by their numbers in H.264, from 1 on."""

_EXTENDED = 255
_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence parameter set.

    Attributes:
        shape: Size and pixel shape of the frames.
        has_fields: Whether pictures may consist of fields.
        mixes_fields: Whether frames may consist of frame and field macroblocks.
        number_bits: Bits of a frame's number.
        has_colour_planes: Whether the colour planes are coded apart.
        delay_bits: Bits of the delays in a picture's timing.
        has_structure: Whether a picture's timing has its structure.
    """

    shape: FrameShape
    has_fields: bool
    mixes_fields: bool
    number_bits: int
    has_colour_planes: bool
    delay_bits: int
    has_structure: bool


def parse_sequence(content: bytes) -> Sequence:
    """Parse a sequence parameter set.

    Args:
        content: Unit without its first byte.

    Raises:
        IndexError, ValueError: It is cut or damaged.
    """
    bits = Bits(content.replace(b"\0\0\3", b"\0\0"))
    profile = bits.read(8)
    bits.read(16)
    bits.unsigned()
    chroma, planes = _skip_high_profile(bits) if profile in _HIGH_PROFILES else (1, False)
    number_bits = bits.unsigned() + 4
    _skip_picture_order(bits)
    bits.unsigned()
    bits.read(1)
    width, units = (bits.unsigned() + 1) * 16, (bits.unsigned() + 1) * 16
    fields = 2 - bits.read(1)
    height = units * fields
    mixes = bool(bits.read(1)) if fields == 2 else False
    bits.read(1)
    if bits.read(1):
        across = 2 if chroma in (1, 2) else 1
        down = fields * (2 if chroma == 1 else 1)
        left, right, top, bottom = (bits.unsigned() for _ in range(4))
        width, height = width - across * (left + right), height - down * (top + bottom)
    if width < 1 or height < 1:
        raise ValueError("no size")
    has_vui = bool(bits.read(1))
    shape = FrameShape(width, height, _pixel_aspect(bits) if has_vui else Fraction(1))
    delays, structure = _timing(bits) if has_vui else (0, False)
    return Sequence(shape, fields == 2, mixes, number_bits, planes, delays, structure)


def _timing(bits: Bits) -> tuple[int, bool]:
    """Return the bits of delays, and whether pictures have a structure."""
    if bits.read(1):
        bits.read(1)
    if bits.read(1):
        bits.read(4)
        if bits.read(1):
            bits.read(24)
    if bits.read(1):
        bits.unsigned()
        bits.unsigned()
    if bits.read(1):
        bits.read(65)
    delays = [_buffer_delays(bits) for _ in range(2) if bits.read(1)]
    if delays:
        bits.read(1)
    return (delays[-1] if delays else 0), bool(bits.read(1))


def _buffer_delays(bits: Bits) -> int:
    count = bits.unsigned() + 1
    bits.read(8)
    for _ in range(count):
        bits.unsigned()
        bits.unsigned()
        bits.read(1)
    bits.read(5)
    delays = bits.read(5) + bits.read(5) + 2
    bits.read(5)
    return delays


def is_field_picture(content: bytes, sequence: Sequence) -> bool:
    """Return whether a slice belongs to a field, or to a frame with macroblocks of fields.

    Args:
        content: Slice without its first byte.
        sequence: Sequence parameter set.

    Raises:
        IndexError, ValueError: The slice is cut or damaged.
    """
    if not sequence.has_fields or sequence.mixes_fields:
        return sequence.has_fields
    bits = Bits(content[:32].replace(b"\0\0\3", b"\0\0"))
    for _ in range(3):
        bits.unsigned()
    bits.read(sequence.number_bits + 2 * sequence.has_colour_planes)
    return bool(bits.read(1))


def picture_structure(content: bytes, sequence: Sequence) -> int | None:
    """Return the structure of a picture by a supplement; None without one.

    Args:
        content: Supplement without its first byte.
        sequence: Sequence parameter set.

    Raises:
        IndexError, ValueError: The supplement is cut or damaged.
    """
    if not sequence.has_structure:
        return None
    for kind, payload in supplement_messages(content.replace(b"\0\0\3", b"\0\0")):
        if kind == _PICTURE_TIMING:
            bits = Bits(payload)
            bits.read(sequence.delay_bits)
            return bits.read(4)
    return None


def supplement_messages(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the payload of each message of a supplement; HEVC has the same ones.

    Args:
        content: Supplement without its header and its escaping bytes.

    Raises:
        IndexError: It is cut.
    """
    place = 0
    while place + 2 < len(content):
        numbers: list[int] = []
        for _ in range(2):
            number = 0
            while content[place] == 255:
                number, place = number + 255, place + 1
            numbers.append(number + content[place])
            place += 1
        kind, size = numbers
        yield kind, content[place : place + size]
        place += size


def units(content: bytes, length_bytes: int) -> Iterator[bytes]:
    """Yield the units of a packet.

    Args:
        content: The packet, or its beginning.
        length_bytes: Bytes of the length before each unit; 0 for start codes.
    """
    if not length_bytes:
        yield from (unit for unit in content.split(START_CODE)[1:] if unit)
        return
    place = 0
    while place + length_bytes < len(content):
        size = int.from_bytes(content[place : place + length_bytes])
        place += length_bytes
        unit = content[place : place + size]
        if unit:
            yield unit
        place += size


def configuration(extradata: bytes) -> tuple[int, list[bytes]]:
    """Return the bytes of lengths and the parameter sets in the header of MP4 or Matroska.

    Args:
        extradata: Header of the stream; other headers have start codes.
    """
    if extradata[:1] != b"\1":
        return 0, list(units(extradata, 0))
    sets: list[bytes] = []
    place = 6
    for _ in range(extradata[5] & 31):
        size = int.from_bytes(extradata[place : place + 2])
        sets.append(extradata[place + 2 : place + 2 + size])
        place += 2 + size
    return (extradata[4] & 3) + 1, sets


def _skip_high_profile(bits: Bits) -> tuple[int, bool]:
    """Skip what only high profiles have; return the chroma format, and if planes are apart."""
    chroma = bits.unsigned()
    has_planes = bool(bits.read(1)) if chroma == 3 else False
    bits.unsigned()
    bits.unsigned()
    bits.read(1)
    if bits.read(1):
        for number in range(12 if chroma == 3 else 8):
            if bits.read(1):
                _skip_scaling_list(bits, 16 if number < 6 else 64)
    return chroma, has_planes


def _skip_scaling_list(bits: Bits, length: int) -> None:
    last = following = 8
    for _ in range(length):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _skip_picture_order(bits: Bits) -> None:
    kind = bits.unsigned()
    if kind == 0:
        bits.unsigned()
    elif kind == 1:
        bits.read(1)
        bits.signed()
        bits.signed()
        for _ in range(bits.unsigned()):
            bits.signed()


def _pixel_aspect(bits: Bits) -> Fraction:
    if not bits.read(1):
        return Fraction(1)
    number = bits.read(8)
    if number == _EXTENDED:
        width, height = bits.read(16), bits.read(16)
        return Fraction(width, height) if width and height else Fraction(1)
    if not 1 <= number <= len(_PIXEL_ASPECTS):
        return Fraction(1)
    return Fraction(*_PIXEL_ASPECTS[number - 1])


class Bits:
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
