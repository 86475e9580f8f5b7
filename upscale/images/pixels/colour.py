"""What a network should see of an image's colours: values as sRGB encodes them, from 0 to 1.

Networks were trained on such values. Measured (benchmarks/RESULTS.md): other primaries and gammas
of 1.8 to 2.4 do them no harm, so images keep their values and their profile, and no colour is
ever clipped to another gamut. Light itself (gamma 1) and values beyond 0..1 need another curve.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import DTypeLike, NDArray

from upscale.images.image import Metadata, Pixels

_LINEAR_TRANSFER = 8
"""Number of the linear transfer function in ITU-T H.273."""

_PROBE = 0.3
_LIGHTEST_PROBE = 49.5
"""L* of 18 % light. A grey of 0.3 is lighter where the curve is below gamma 1.42."""

_SCENE = 2.0
"""Floats without a profile that reach this are light; what filters overshoot stays below it."""

_SLOPE = 1.055 / 2.4
"""Of sRGB's curve at 1, from where it goes on as a logarithm."""

_BAND_ROWS = 256


@dataclass(frozen=True, slots=True)
class ToneCurve:
    """A reversible way from an image's own values to what a network should see.

    Attributes:
        light: The values are proportional to light: they get sRGB's curve, and above 1 a logarithm.
        low: The value that becomes 0, after that curve.
        high: The value that becomes 1, after that curve.
    """

    light: bool
    low: float = 0.0
    high: float = 1.0

    def to_network(self, pixels: Pixels) -> NDArray[np.float32]:
        """Values in [0, 1] of (H, W, C) pixels, uint8, uint16 or float32."""
        result = np.empty(pixels.shape, np.float32)
        for band in _bands(pixels):
            values = pixels[band].astype(np.float32) / np.float32(_full(pixels.dtype))
            values = _encoded(values) if self.light else values
            result[band] = (values - np.float32(self.low)) / np.float32(self.high - self.low)
        return result

    def from_network(self, pixels: NDArray[np.float32], dtype: DTypeLike) -> Pixels:
        """The image's own values, in its own type, of what `to_network` gave or a larger one."""
        result = np.empty(pixels.shape, dtype)
        full = _full(result.dtype)
        for band in _bands(pixels):
            values = pixels[band] * np.float32(self.high - self.low) + np.float32(self.low)
            values = (_decoded(values) if self.light else values) * np.float32(full)
            result[band] = np.rint(values).clip(0, full) if result.dtype.kind == "u" else values
        return result


def tone_curve(pixels: Pixels, metadata: Metadata) -> ToneCurve | None:
    """The curve that an image needs before a network sees it; None if it needs none.

    Floats that are not finite get none: no network takes them.

    Args:
        pixels: (H, W, 1 or 3), as read, with no arbitrary colours under transparent pixels.
        metadata: Its profile, or the transfer function that stands for one.
    """
    least, most = 0.0, 1.0
    if pixels.dtype.kind == "f":
        least, most = float(pixels.min()), float(pixels.max())
        if not math.isfinite(most - least):
            return None
    if metadata.icc is not None:
        light = _is_light(metadata.icc, pixels.shape[2])
    elif metadata.cicp is not None:
        light = metadata.cicp[1] == _LINEAR_TRANSFER
    else:
        light = most >= _SCENE
    ends = np.array([least, most], np.float32)
    lowest, highest = (_encoded(ends) if light else ends).tolist()
    curve = ToneCurve(light, min(lowest, 0.0), max(highest, 1.0))
    return None if curve == ToneCurve(False) else curve


def is_grey(pixels: Pixels) -> bool:
    """Whether all channels of (H, W, C) are equal everywhere."""
    return all(bool((pixels[band] == pixels[band][..., :1]).all()) for band in _bands(pixels))


def finite(pixels: Pixels) -> Pixels:
    """Floats without infinities and what is no number, which become the range's ends and 0."""
    if pixels.dtype.kind != "f" or bool(np.isfinite(pixels).all()):
        return pixels
    known = pixels[np.isfinite(pixels)]
    least, most = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    return np.nan_to_num(pixels, nan=0.0, posinf=most, neginf=least)


def _is_light(profile: bytes, channels: int) -> bool:
    """Whether a profile's values are about proportional to light; damaged ones are taken as not."""
    shape = (1, 1) if channels == 1 else (1, 1, channels)
    try:
        lab = imagecodecs.cms_transform(
            np.full(shape, _PROBE, np.float32),
            profile,
            imagecodecs.cms_profile("lab4"),
            colorspace="gray" if channels == 1 else "rgb",
            outcolorspace="lab",
            outdtype=np.float32,
            intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
        )
    except (RuntimeError, ValueError):
        return False
    return bool(lab[0, 0, 0] > _LIGHTEST_PROBE)


def _encoded(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Light to sRGB's curve, which goes on as a straight line below 0 and a logarithm above 1."""
    curved = light.clip(0.0031308, 1) ** (1 / 2.4) * 1.055 - 0.055
    above = 1 + np.log(np.maximum(light, 1)) * _SLOPE
    return np.select([light <= 0.0031308, light <= 1], [light * 12.92, curved], above).astype(
        np.float32
    )


def _decoded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The reverse of `_encoded`."""
    curved = ((values.clip(0.04045, 1) + 0.055) / 1.055) ** 2.4
    above = np.exp((np.maximum(values, 1) - 1) / _SLOPE)
    return np.select([values <= 0.04045, values <= 1], [values / 12.92, curved], above).astype(
        np.float32
    )


def _bands(pixels: Pixels) -> Iterator[slice]:
    """Every band of rows, from the top."""
    return (slice(at, at + _BAND_ROWS) for at in range(0, pixels.shape[0], _BAND_ROWS))


def _full(dtype: np.dtype[Any]) -> float:
    """The value of a sample at its brightest."""
    return float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0
