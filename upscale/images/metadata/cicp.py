"""Colour spaces named by numbers (ITU-T H.273): which of them say more than sRGB does."""

from __future__ import annotations

_SRGB_PRIMARIES = (1, 2)
# BT.709, unspecified, BT.601 and sRGB: stills that name one of the first three mean the last.
_SRGB_TRANSFERS = (1, 2, 6, 13)


def named(primaries: int, transfer: int) -> tuple[int, int] | None:
    """Primaries and transfer function; None where they are those of sRGB or unspecified."""
    if primaries in _SRGB_PRIMARIES and transfer in _SRGB_TRANSFERS:
        return None
    return primaries, transfer
