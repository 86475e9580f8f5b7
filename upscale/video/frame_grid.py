"""Put the frames of a constant rate back onto exact times, where a container rounded them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

_COARSE_UNIT = Fraction(1, 1000)
_MAX_RATE = 250
"""Frames per second up to which rounding to milliseconds leaves no doubt about a frame's place."""
_SLOWED = Fraction(1000, 1001)
"""Rate of NTSC relative to a whole number."""
_SAME = Fraction(1, 20_000)
"""Relative difference up to which a rate is one of NTSC that was measured in milliseconds."""


def on_grid(
    times: Sequence[int], unit: Fraction, rate: Fraction
) -> tuple[list[int], Fraction] | None:
    """Return the exact times of frames, and their unit; None if the rate is not constant.

    Frames may be missing. No time changes by more than the container's rounding.

    Args:
        times: Times that a container rounded to milliseconds, strictly increasing.
        unit: Duration in seconds of one unit of `times`.
        rate: Tagged frame rate in frames per second.

    Returns:
        Times in a unit that divides a frame and a millisecond evenly, and that unit.

    Example:
        >>> on_grid([0, 42, 83, 125], Fraction(1, 1000), Fraction(24000, 1001))
        ([0, 1001, 2002, 3003], Fraction(1, 24000))
    """
    if unit != _COARSE_UNIT or rate > _MAX_RATE or len(times) < 2:
        return None
    exact = (_at_rate(times, unit, each) for each in _candidates(rate))
    return next((each for each in exact if each is not None), None)


def _candidates(rate: Fraction) -> list[Fraction]:
    """Return the NTSC rate that a rate is close to, if there is one, and the rate itself."""
    exact = round(rate / _SLOWED) * _SLOWED
    return [exact, rate] if abs(exact / rate - 1) <= _SAME else [rate]


def _at_rate(
    times: Sequence[int], unit: Fraction, rate: Fraction
) -> tuple[list[int], Fraction] | None:
    step = 1 / (rate * unit)
    places = [round((time - times[0]) / step) for time in times]
    errors = [time - times[0] - place * step for time, place in zip(times, places, strict=True)]
    if max(errors) - min(errors) > 1 or len(set(places)) < len(places):
        return None
    parts = lcm(rate.numerator, _COARSE_UNIT.denominator)
    fine, length = Fraction(1, parts), parts // rate.numerator * rate.denominator
    # The first time was rounded, too; zero is kept as the beginning.
    shift = (max(errors) + min(errors)) / 2 if times[0] else Fraction(0)
    start = round((times[0] + shift) * unit / fine)
    return [start + place * length for place in places], fine
