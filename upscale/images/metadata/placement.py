"""Positions in metadata: where the points of an image are after it was turned and resized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from upscale.images.pixels.orientation import mirrors, swaps_sides

Pair = tuple[float, float]

_Number = TypeVar("_Number", int, float, Fraction)
_MAX_32 = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Placement:
    """A change of orientation and size, applied to positions and lengths (across, down).

    Attributes:
        orientation: EXIF orientation 1..8 by which the image was turned.
        before: Width and height in pixels before.
        after: Width and height in pixels after.

    Example:
        >>> turned = Placement(6, (96, 72), (72, 96))
        >>> turned.relative_point((0.25, 0.125))
        (0.875, 0.25)
        >>> Placement(1, (96, 72), (192, 144)).pixel_point((24, 14))
        (48.0, 28.0)
    """

    orientation: int
    before: tuple[int, int]
    after: tuple[int, int]

    @property
    def turned(self) -> tuple[int, int]:
        """Width and height after turning, before resizing."""
        return self._swapped(self.before)

    @property
    def scale(self) -> tuple[Fraction, Fraction]:
        """Factors by which the turned image was resized."""
        (width, height), (new_width, new_height) = self.turned, self.after
        return Fraction(new_width, width), Fraction(new_height, height)

    def relative_point(self, point: Pair) -> Pair:
        """Move a point that is given in 0..1."""
        return self._moved(point, (1, 1))

    def relative_size(self, size: Pair) -> Pair:
        """Turn a size that is given in 0..1."""
        return self._swapped(size)

    def turned_point(self, point: Pair) -> Pair:
        """Turn a point that is given in pixels, without resizing."""
        return self._moved(point, self.turned)

    def pixel_point(self, point: Pair) -> Pair:
        """Move a point that is given in pixels."""
        return self._scaled(self.turned_point(point))

    def pixel_size(self, size: Pair) -> Pair:
        """Turn and resize a size that is given in pixels."""
        return self._scaled(self._swapped(size))

    def subject(self, numbers: Sequence[int]) -> list[int]:
        """Move a subject as in EXIF: centre, then nothing, a diameter, or width and height.

        Raises:
            ValueError: It has another count of numbers.
        """
        if len(numbers) not in (2, 3, 4):
            raise ValueError("is not a subject area")
        values = [*self.pixel_point((numbers[0], numbers[1]))]
        if len(numbers) == 3:
            values.append(numbers[2] * float(self.scale[0]))
        elif len(numbers) == 4:
            values += self.pixel_size((numbers[2], numbers[3]))
        return [max(0, round(value)) for value in values]

    def density(self, density: tuple[Fraction, Fraction]) -> tuple[Fraction, Fraction]:
        """Turn and resize pixels per unit across and down, to fractions of 32-bit numbers.

        Raises:
            ValueError: A number does not fit.
        """
        across, down = self._swapped(density)
        scaled = across * self.scale[0], down * self.scale[1]
        if not 0 < min(scaled) <= max(scaled) < 2**32:
            raise ValueError("is out of range")
        first, second = (_short(value) for value in scaled)
        return first, second

    def _moved(self, point: Pair, size: Pair) -> Pair:
        """Turn a point in an area whose turned size is given."""
        (across, down), (is_mirrored, is_flipped) = self._swapped(point), mirrors(self.orientation)
        return size[0] - across if is_mirrored else across, size[1] - down if is_flipped else down

    def _swapped(self, pair: tuple[_Number, _Number]) -> tuple[_Number, _Number]:
        return (pair[1], pair[0]) if swaps_sides(self.orientation) else pair

    def _scaled(self, pair: Pair) -> Pair:
        across, down = self.scale
        return float(pair[0] * across), float(pair[1] * down)


def _short(value: Fraction) -> Fraction:
    """Return the nearest fraction whose numbers have 32 bits."""
    return value.limit_denominator(max(1, int(_MAX_32 / max(1, value))))
