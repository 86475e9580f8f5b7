"""Colour spaces named by numbers (ITU-T H.273)."""

from __future__ import annotations

SRGB = (1, 13)
"""Primaries and transfer function of sRGB."""
UNSPECIFIED = (2, 2)

_SRGB_PRIMARIES = (1, 2)
# BT.709, unspecified, BT.601 and sRGB: still images that name one of the first three are sRGB.
_SRGB_TRANSFERS = (1, 2, 6, 13)


def named(primaries: int, transfer: int) -> tuple[int, int] | None:
    """Return primaries and transfer function; None where they are those of sRGB or unspecified."""
    if primaries in _SRGB_PRIMARIES and transfer in _SRGB_TRANSFERS:
        return None
    return primaries, transfer
