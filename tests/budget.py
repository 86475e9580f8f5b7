"""How often tests repeat what is random: all of it takes too long for each change."""

from __future__ import annotations

import os

from hypothesis import settings


def cases(most: int) -> int:
    """Number of cases of the present profile, where `ci` has `most`."""
    return max(1, most * settings().max_examples // 100)


def rounds(most: int) -> int:
    """Number of rounds of an attack: all with `UPSCALE_ALL_ROUNDS=1`, else a third."""
    return most if all_rounds() else max(1, most // 3)


def all_rounds() -> bool:
    """Whether `UPSCALE_ALL_ROUNDS=1` asks for everything, which takes an hour."""
    return os.environ.get("UPSCALE_ALL_ROUNDS") == "1"
