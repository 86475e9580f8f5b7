"""Take closed captions (CEA-608 and CEA-708) apart, and put them together again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

from upscale.video import h264, t35

DVD = b"CC\x01\xf8"
"""Beginning of captions in the user data of a DVD, all of a group of frames at once."""

_MPEG_USER_DATA = 0xB2
_UNIT = 3
_MOST_UNITS = 31
_IS_VALID = 4
_HAS_CAPTIONS = 0x40
_FIELDS = {0xFF: 0xFC, 0xFE: 0xFD}
"""First byte of a unit of the upper and lower field, by that of DVDs."""

_FRAME = Fraction(1001, 30000)
"""Seconds of the frame that a pair of units belongs to on a DVD."""


def joined(payloads: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the captions of several frames as payloads of one frame, without fillers.

    A payload has at most 31 units; what is left comes in another one, for the next frame.

    Args:
        payloads: Payloads that begin with `t35.CAPTIONS`, in the order of their times.
    """
    units = [unit for each in payloads for unit in _units(each) if unit[0] & _IS_VALID]
    for start in range(0, len(units), _MOST_UNITS):
        yield _payload(units[start : start + _MOST_UNITS])


def of_dvd(content: bytes) -> Iterator[tuple[Fraction, bytes]]:
    """Yield the captions of an MPEG-2 packet of a DVD, with their seconds after its frame.

    Args:
        content: The packet.
    """
    for part in h264.units(content, 0):
        if part[0] != _MPEG_USER_DATA or part[1:5] != DVD:
            continue
        count = (part[5] >> 1 & 31) * 2 + (part[5] & 1) if len(part) > 5 else 0
        blocks = [part[6 + _UNIT * number :][:_UNIT] for number in range(count)]
        whole = (each for each in blocks if len(each) == _UNIT and each[0] in _FIELDS)
        units = [bytes([_FIELDS[each[0]]]) + each[1:] for each in whole]
        for number in range(0, len(units), 2):
            yield number // 2 * _FRAME, _payload(units[number : number + 2])


def _units(payload: bytes) -> list[bytes]:
    place = len(t35.CAPTIONS)
    if len(payload) <= place or not payload[place] & _HAS_CAPTIONS:
        return []
    count, start = payload[place] & _MOST_UNITS, place + 2
    parts = (payload[start + _UNIT * number :][:_UNIT] for number in range(count))
    return [each for each in parts if len(each) == _UNIT]


def _payload(units: list[bytes]) -> bytes:
    count = bytes([0x80 | _HAS_CAPTIONS | len(units), 0xFF])
    return t35.CAPTIONS + count + b"".join(units) + b"\xff"
