"""What a JPEG XL codestream states before its pixels (ISO/IEC 18181-1, annex D), bit by bit.

No decoder at hand tells the size before it has decoded the image.
"""

from __future__ import annotations

from dataclasses import dataclass

from upscale.images.codecs.base import MalformedError

_READ_BYTES = 4096
_SIGNATURE_BITS = 16
_RATIOS = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
# The distributions of numbers: of each of four, what is added and how many bits are read.
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
# The white of screens and that of cinemas, and primaries by their numbers here and in H.273: P3
# has one for each white there.
_PRIMARIES = {(1, 1): 1, (1, 9): 9, (1, 11): 12, (11, 11): 11}


@dataclass(slots=True)
class Codestream:
    """What a codestream states.

    Attributes:
        width: Pixels across, as stored.
        height: Pixels down, as stored.
        orientation: As in EXIF, 1..8.
        animated: Whether it holds frames that follow each other in time.
        bits: Bits a sample.
        floating: Whether the samples are floats.
        channels: Kinds of the channels beside colour.
        associated: Whether colours are multiplied by alpha.
        xyb: Whether colours are stored as the eye sees them, which is lossy.
        colour: Primaries and transfer function by their numbers in ITU-T H.273; None where only
            a profile says them.
        transfer_at: The bit where the number of the transfer function starts; 0 when it has none.
    """

    width: int = 0
    height: int = 0
    orientation: int = 1
    animated: bool = False
    bits: int = 8
    floating: bool = False
    channels: tuple[int, ...] = ()
    associated: bool = False
    xyb: bool = True
    colour: tuple[int, int] | None = (1, 13)
    transfer_at: int = 0


def parse(data: bytes) -> Codestream:
    """Read a codestream's size and what describes its image.

    Raises:
        MalformedError: Damaged or cut off.
    """
    bits, found = _Bits(data[:_READ_BYTES]), Codestream()
    bits.take(_SIGNATURE_BITS)
    found.width, found.height = _size(bits)
    if bits.flag():
        return found
    extra = bits.flag()
    if extra:
        _read_extra(bits, found)
    found.bits, found.floating = _depth(bits)
    bits.flag()
    count = bits.number((0, 0), (1, 0), (2, 4), (1, 12))
    found.channels = tuple(_channel(bits, found) for _ in range(count))
    found.xyb = bits.flag()
    _read_colour(bits, found)
    return found


class _Bits:
    """Numbers from bits, the lowest of a byte first."""

    def __init__(self, data: bytes) -> None:
        self.place = 0
        self._value, self._size = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        """The next bits as a number."""
        found = self._value >> self.place & (1 << count) - 1
        self.place += count
        if self.place > self._size:
            raise MalformedError("is cut off")
        return found

    def flag(self) -> bool:
        """The next bit."""
        return self.take(1) == 1

    def number(self, *choices: tuple[int, int]) -> int:
        """A number in one of four distributions."""
        added, count = choices[self.take(2)]
        return added + self.take(count)


def _size(bits: _Bits) -> tuple[int, int]:
    eighths = bits.flag()
    height = 8 * (1 + bits.take(5)) if eighths else bits.number(*_SIDE)
    ratio = bits.take(3)
    if ratio:
        across, down = _RATIOS[ratio]
        return height * across // down, height
    return 8 * (1 + bits.take(5)) if eighths else bits.number(*_SIDE), height


def _read_extra(bits: _Bits, found: Codestream) -> None:
    """Read the orientation; pass over a size for display and a preview; note an animation."""
    found.orientation = 1 + bits.take(3)
    if bits.flag():
        _size(bits)
    if bits.flag():
        sides = _PREVIEW_EIGHTHS if bits.flag() else _PREVIEW
        bits.number(*sides)
        if not bits.take(3):
            bits.number(*sides)
    found.animated = bits.flag()
    if found.animated:
        bits.number((100, 0), (1000, 0), (1, 10), (1, 30))
        bits.number((1, 0), (1001, 0), (1, 8), (1, 10))
        bits.number((0, 0), (0, 3), (0, 16), (0, 32))
        bits.flag()


def _depth(bits: _Bits) -> tuple[int, bool]:
    """Bits a sample, and whether they are a float."""
    if not bits.flag():
        return bits.number(*_WHOLE_BITS), False
    count = bits.number(*_FLOAT_BITS)
    bits.take(4)
    return count, True


def _channel(bits: _Bits, found: Codestream) -> int:
    """The kind of a channel beside colour."""
    if bits.flag():
        return ALPHA
    kind = bits.number(*_ENUM)
    _depth(bits)
    bits.number((0, 0), (3, 0), (4, 0), (1, 3))
    bits.take(8 * bits.number((0, 0), (0, 4), (16, 5), (48, 10)))
    if kind == ALPHA:
        found.associated = bits.flag()
    elif kind == _SPOT:
        bits.take(64)
    elif kind == _CFA:
        bits.number((1, 0), (0, 2), (3, 4), (19, 8))
    return kind


def _read_colour(bits: _Bits, found: Codestream) -> None:
    """Read primaries and transfer function, as far as they have numbers."""
    if bits.flag():
        return
    found.colour = None
    has_profile, space = bits.flag(), bits.number(*_ENUM)
    if has_profile or space not in (_RGB, _GREY):
        return
    white, primaries = bits.number(*_ENUM), 1
    if white == _CUSTOM:
        _pass_points(bits, 1)
    if space == _RGB:
        primaries = bits.number(*_ENUM)
        if primaries == _CUSTOM:
            _pass_points(bits, 3)
    if bits.flag():
        return
    found.transfer_at = bits.place
    transfer = bits.number(*_ENUM)
    named = _PRIMARIES.get((white, primaries))
    if named and transfer != _UNKNOWN:
        found.colour = named, transfer


def _pass_points(bits: _Bits, count: int) -> None:
    for _ in range(2 * count):
        bits.number(*_COORDINATE)
