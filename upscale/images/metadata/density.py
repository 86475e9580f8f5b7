"""Resolutions, and ratios of them where pixels are not square and no unit is known."""

from __future__ import annotations

from fractions import Fraction


def ratio_of(across: float, down: float) -> tuple[float, float] | None:
    """Return a ratio of densities; None where pixels are square or a number is not positive."""
    return (float(across), float(down)) if min(across, down) > 0 and across != down else None


def whole_numbers(ratio: tuple[float, float], most: int) -> tuple[int, int]:
    """Return the nearest ratio of two whole numbers.

    Args:
        ratio: Pixels per unit across and down.
        most: Largest number that the format has room for.

    Example:
        >>> whole_numbers((2.0, 1.0), 65535)
        (2, 1)
    """
    across, down = ratio
    if across.is_integer() and down.is_integer() and max(ratio) <= most:
        return int(across), int(down)
    larger = max(Fraction(across) / Fraction(down), Fraction(down) / Fraction(across))
    nearest = larger.limit_denominator(max(1, int(most / larger)))
    long, short = min(nearest.numerator, most), nearest.denominator
    return (long, short) if across > down else (short, long)
