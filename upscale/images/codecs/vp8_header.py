"""Quality of a VP8 key frame, the image in a lossy WebP, from the quantisers in its header."""

from __future__ import annotations

_START_CODE = b"\x9d\x01\x2a"
_FIRST_PARTITION = 10
_SEGMENTS, _DELTAS, _TREE_PROBABILITIES = 4, 4, 3
_MAX_INDEX = 127
# JPEG qualities for libwebp's 0 and 100: VP8 has finer steps and a filter, but always half the
# resolution of colour. From where networks for clean and for damaged images measure alike.
_WORST, _BEST = 63, 95


def quality_of(start: bytes) -> int | None:
    """Return the quality 1..100 of a JPEG that is as damaged.

    Args:
        start: First 64 bytes of the frame, or all of a shorter one.

    Returns:
        None where there is no key frame.
    """
    if len(start) <= _FIRST_PARTITION or start[0] & 1 or start[3:6] != _START_CODE:
        return None
    indices = _quantiser_indices(_BoolDecoder(start[_FIRST_PARTITION:]))
    # Inverse of QualityToCompression and VP8SetSegmentParams in libwebp's src/enc/quant_enc.c.
    linear = (1 - sum(indices) / len(indices) / _MAX_INDEX) ** 3
    own = 1.5 * linear if linear < 0.5 else (1 + linear) / 2
    return round(_WORST + (_BEST - _WORST) * own)


def _quantiser_indices(bits: _BoolDecoder) -> list[int]:
    """Return the quantiser index 0..127 of each segment of the frame (RFC 6386, section 19.2)."""
    bits.number(2)
    steps: list[int] = []
    is_absolute = False
    if bits.number(1):
        has_map, has_data = bits.number(1), bits.number(1)
        if has_data:
            is_absolute = bool(bits.number(1))
            steps = [bits.optional_signed(7) for _ in range(_SEGMENTS)]
            _ = [bits.optional_signed(6) for _ in range(_SEGMENTS)]
        if has_map:
            _ = [bits.number(1) and bits.number(8) for _ in range(_TREE_PROBABILITIES)]
    # Filter type, level and sharpness, then the changes of the level.
    bits.number(1 + 6 + 3)
    if bits.number(1) and bits.number(1):
        _ = [bits.optional_signed(6) for _ in range(2 * _DELTAS)]
    # Number of partitions.
    bits.number(2)
    base = bits.number(7)
    indices = steps if is_absolute else [base + step for step in steps or [0]]
    return [min(max(index, 0), _MAX_INDEX) for index in indices]


class _BoolDecoder:
    """Decodes bits of even probability (RFC 6386, section 7.3)."""

    def __init__(self, data: bytes) -> None:
        self._data = data + bytes(4)
        self._position = 2
        self._value = int.from_bytes(self._data[:2], "big")
        self._range, self._shifts = 255, 0

    def number(self, bits: int) -> int:
        """Read an unsigned number."""
        value = 0
        for _ in range(bits):
            value = 2 * value + self._bit()
        return value

    def optional_signed(self, bits: int) -> int:
        """Read a number and its sign, or 0 where a bit says that there is none."""
        if not self.number(1):
            return 0
        value = self.number(bits)
        return -value if self.number(1) else value

    def _bit(self) -> int:
        split = 1 + ((self._range - 1) * 128 >> 8)
        bit = self._value >= split << 8
        if bit:
            self._range -= split
            self._value -= split << 8
        else:
            self._range = split
        while self._range < 128:
            self._value <<= 1
            self._range <<= 1
            self._shifts += 1
            if self._shifts == 8:
                self._shifts = 0
                if self._position < len(self._data):
                    self._value |= self._data[self._position]
                    self._position += 1
        return int(bit)
