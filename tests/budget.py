"""How many random cases a test tries: all with `HYPOTHESIS_PROFILE=ci`, else a quarter."""

from __future__ import annotations

from hypothesis import settings


def cases(most: int) -> int:
    """Number of cases of the present profile, where `ci` has `most`."""
    return max(1, most * settings().max_examples // 100)
