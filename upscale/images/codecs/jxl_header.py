"""Header of a JPEG XL codestream (ISO/IEC 18181-1, annex D).

imagecodecs and pillow-jxl-plugin return the size only after decoding the image.
"""

from __future__ import annotations

from dataclasses import dataclass

from upscale.images.codecs.base import MalformedError

_READ_BYTES = 4096
_SIGNATURE_BITS = 16
_RATIOS = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
# Distributions of numbers: offset and number of bits of each of four choices.
_SIDE = ((1, 9), (1, 13), (1, 18), (1, 30))
_PREVIEW = ((1, 6), (65, 8), (321, 10), (1345, 12))
_PREVIEW_EIGHTHS = ((16, 0), (32, 0), (1, 5), (33, 9))
_ENUM = ((0, 0), (1, 0), (2, 4), (18, 6))
_WHOLE_BITS = ((8, 0), (10, 0), (12, 0), (1, 6))
_FLOAT_BITS = ((32, 0), (16, 0), (24, 0), (1, 6))
_COORDINATE = ((0, 19), (524288, 19), (1048576, 20), (2097152, 21))
_RGB, _GREY, _XYB = 0, 1, 2
_CUSTOM = 2
ALPHA, BLACK = 0, 4
_SPOT, _CFA = 2, 5
_UNKNOWN = 2
# (White point, primaries) by their numbers here, and primaries in H.273, which has one P3 for each
# white point.
_PRIMARIES = {(1, 1): 1, (1, 9): 9, (1, 11): 12, (11, 11): 11}


@dataclass(slots=True)
class Codestream:
    """Properties of a codestream.

    Attributes:
        width: Stored width in pixels.
        height: Stored height in pixels.
        orientation: EXIF orientation 1..8.
        is_animated: Whether it is an animation.
        bits: Bits per sample.
        is_float: Whether the samples are floats.
        channels: Kinds of the extra channels.
        is_premultiplied: Whether colours are multiplied by alpha.
        is_xyb: Whether colours are stored in XYB, which is lossy.
        colour: Primaries and transfer function by their numbers in ITU-T H.273; None where only
            a profile defines them.
        transfer_position: Bit position of the transfer function's number; 0 when there is none.
    """

    width: int = 0
    height: int = 0
    orientation: int = 1
    is_animated: bool = False
    bits: int = 8
    is_float: bool = False
    channels: tuple[int, ...] = ()
    is_premultiplied: bool = False
    is_xyb: bool = True
    colour: tuple[int, int] | None = (1, 13)
    transfer_position: int = 0


def parse(data: bytes) -> Codestream:
    """Parse the header of a codestream.

    Raises:
        MalformedError: Damaged or cut off.
    """
    bits, header = _Bits(data[:_READ_BYTES]), Codestream()
    bits.take(_SIGNATURE_BITS)
    header.width, header.height = _size(bits)
    if bits.flag():
        return header
    if bits.flag():
        _read_extra_fields(bits, header)
    header.bits, header.is_float = _depth(bits)
    bits.flag()
    count = bits.number((0, 0), (1, 0), (2, 4), (1, 12))
    header.channels = tuple(_channel(bits, header) for _ in range(count))
    header.is_xyb = bits.flag()
    _read_colour(bits, header)
    return header


class _Bits:
    """Reads numbers bit by bit, the lowest bit of a byte first."""

    def __init__(self, data: bytes) -> None:
        self.position = 0
        self._value, self._size = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        """Return the next bits as a number."""
        value = self._value >> self.position & (1 << count) - 1
        self.position += count
        if self.position > self._size:
            raise MalformedError("is cut off")
        return value

    def flag(self) -> bool:
        """Return the next bit."""
        return self.take(1) == 1

    def number(self, *choices: tuple[int, int]) -> int:
        """Return a number in one of four distributions."""
        offset, count = choices[self.take(2)]
        return offset + self.take(count)


def _size(bits: _Bits) -> tuple[int, int]:
    eighths = bits.flag()
    height = 8 * (1 + bits.take(5)) if eighths else bits.number(*_SIDE)
    ratio = bits.take(3)
    if ratio:
        across, down = _RATIOS[ratio]
        return height * across // down, height
    return 8 * (1 + bits.take(5)) if eighths else bits.number(*_SIDE), height


def _read_extra_fields(bits: _Bits, header: Codestream) -> None:
    """Read the orientation and the animation flag; skip a display size and a preview."""
    header.orientation = 1 + bits.take(3)
    if bits.flag():
        _size(bits)
    if bits.flag():
        sides = _PREVIEW_EIGHTHS if bits.flag() else _PREVIEW
        bits.number(*sides)
        if not bits.take(3):
            bits.number(*sides)
    header.is_animated = bits.flag()
    if header.is_animated:
        bits.number((100, 0), (1000, 0), (1, 10), (1, 30))
        bits.number((1, 0), (1001, 0), (1, 8), (1, 10))
        bits.number((0, 0), (0, 3), (0, 16), (0, 32))
        bits.flag()


def _depth(bits: _Bits) -> tuple[int, bool]:
    """Return bits per sample, and whether samples are floats."""
    if not bits.flag():
        return bits.number(*_WHOLE_BITS), False
    count = bits.number(*_FLOAT_BITS)
    bits.take(4)
    return count, True


def _channel(bits: _Bits, header: Codestream) -> int:
    """Return the kind of an extra channel."""
    if bits.flag():
        return ALPHA
    kind = bits.number(*_ENUM)
    _depth(bits)
    bits.number((0, 0), (3, 0), (4, 0), (1, 3))
    bits.take(8 * bits.number((0, 0), (0, 4), (16, 5), (48, 10)))
    if kind == ALPHA:
        header.is_premultiplied = bits.flag()
    elif kind == _SPOT:
        bits.take(64)
    elif kind == _CFA:
        bits.number((1, 0), (0, 2), (3, 4), (19, 8))
    return kind


def _read_colour(bits: _Bits, header: Codestream) -> None:
    """Read primaries and transfer function where they have numbers."""
    if bits.flag():
        return
    header.colour = None
    has_profile, space = bits.flag(), bits.number(*_ENUM)
    if has_profile or space not in (_RGB, _GREY):
        return
    white, primaries = bits.number(*_ENUM), 1
    if white == _CUSTOM:
        _skip_points(bits, 1)
    if space == _RGB:
        primaries = bits.number(*_ENUM)
        if primaries == _CUSTOM:
            _skip_points(bits, 3)
    if bits.flag():
        return
    header.transfer_position = bits.position
    transfer = bits.number(*_ENUM)
    named = _PRIMARIES.get((white, primaries))
    if named and transfer != _UNKNOWN:
        header.colour = named, transfer


def _skip_points(bits: _Bits, count: int) -> None:
    for _ in range(2 * count):
        bits.number(*_COORDINATE)
