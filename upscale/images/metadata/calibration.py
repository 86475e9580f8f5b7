"""ICC profiles that say what gamma and primaries of a PNG say, for formats without those."""

from __future__ import annotations

import struct
from functools import lru_cache

import imagecodecs

from upscale.images.metadata.fields import Calibration

_UNIT = 100_000
_SRGB_GAMMA = 45455
_TOLERANCE = 0.05
_LINEAR_GAMMA = 70_000
# Distance between coordinates that are rounded to three digits.
_NEAR = 100
_GAMMAS = range(_UNIT // 10, 10 * _UNIT)
_SRGB_PRIMARIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_DATE, _DATE_POSITION = struct.pack(">6H", 2000, 1, 1, 0, 0, 0), 24


@lru_cache(maxsize=8)
def profile_of(calibration: Calibration, *, is_grey: bool) -> bytes | None:
    """Return a profile with the gamma and primaries of a PNG, as browsers understand them.

    Chromium ignores primaries without a gamma, and takes a gamma near 1/2.2 without primaries for
    sRGB, as libpng does.

    Args:
        calibration: Gamma and primaries.
        is_grey: Whether the profile is for grey images, otherwise for RGB.

    Returns:
        The profile, equal for equal arguments; None where the values are sRGB or impossible.
    """
    gamma, points = calibration.gamma, calibration.chromaticities
    if calibration.intent is not None or gamma is None or gamma not in _GAMMAS:
        return None
    if points is None and abs(gamma / _SRGB_GAMMA - 1) < _TOLERANCE:
        return None
    pairs = zip(*[iter(points or _SRGB_PRIMARIES)] * 2, strict=True)
    white, *primaries = ([x / _UNIT, y / _UNIT, 1.0] for x, y in pairs)
    flat = [value for primary in primaries for value in primary]
    try:
        profile = bytes(
            imagecodecs.cms_profile("gray", whitepoint=white, gamma=_UNIT / gamma)
            if is_grey
            else imagecodecs.cms_profile(
                "rgb", whitepoint=white, primaries=flat, gamma=_UNIT / gamma
            )
        )
    except (RuntimeError, ValueError):
        return None
    # Little CMS writes the current time.
    return profile[:_DATE_POSITION] + _DATE + profile[_DATE_POSITION + len(_DATE) :]


def is_nearly_srgb(calibration: Calibration | None) -> bool:
    """Return whether gamma and primaries are those with which PNG files approximate sRGB.

    Args:
        calibration: Gamma and primaries; None where a file states none.
    """
    if calibration is None or calibration.gamma is None:
        return False
    points = calibration.chromaticities or _SRGB_PRIMARIES
    is_close = all(abs(a - b) <= _NEAR for a, b in zip(points, _SRGB_PRIMARIES, strict=True))
    return is_close and abs(calibration.gamma / _SRGB_GAMMA - 1) < _TOLERANCE


def is_linear(calibration: Calibration | None, profile: bytes) -> bool:
    """Return whether a profile only repeats that values are roughly linear light."""
    is_flat = calibration is not None and (calibration.gamma or 0) > _LINEAR_GAMMA
    return is_flat and states(calibration, profile)


def states(calibration: Calibration | None, profile: bytes) -> bool:
    """Return whether a profile says no more than gamma and primaries do."""
    if calibration is None:
        return False
    return any(profile_of(calibration, is_grey=is_grey) == profile for is_grey in (False, True))
