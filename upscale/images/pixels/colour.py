"""Tone curves: conversion of an image's values to the input of a network, 0..1 as in sRGB.

Networks were trained on sRGB values. Measured (benchmarks/RESULTS.md): other primaries and gammas
of 1.8 to 2.4 give equal quality, so images keep their values and their profile, and no colour is
clipped to another gamut. Linear light and values outside 0..1 need a curve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import DTypeLike, NDArray

from upscale.images.image import Metadata, Pixels
from upscale.images.pixels.depth import full_scale
from upscale.images.pixels.row_chunks import row_chunks

_LINEAR_TRANSFER = 8
"""Number of the linear transfer function in ITU-T H.273."""

_PROBE = 0.3
_LIGHTEST_PROBE = 49.5
"""L* of 18 % light. A grey of 0.3 is lighter than that for curves below gamma 1.42."""

_LINEAR_MAXIMUM = 2.0
"""Floats without a profile that reach this are linear light; overshoots of filters stay below."""

_SLOPE = 1.055 / 2.4
"""Slope of sRGB's curve at 1, where a logarithm continues it."""


@dataclass(frozen=True, slots=True)
class ToneCurve:
    """A reversible mapping of an image's values to the input of a network.

    Attributes:
        is_linear: Whether the values are linear light. They get sRGB's curve (IEC 61966-2-1), and
            above 1 a logarithm.
        low: Value after the curve that becomes 0.
        high: Value after the curve that becomes 1.
    """

    is_linear: bool
    low: float = 0.0
    high: float = 1.0

    def to_network(self, pixels: Pixels) -> NDArray[np.float32]:
        """Map pixels of shape (H, W, C), uint8, uint16 or float32, to 0..1."""
        result = np.empty(pixels.shape, np.float32)
        for rows in row_chunks(pixels.shape):
            values = pixels[rows].astype(np.float32) / np.float32(full_scale(pixels.dtype))
            values = _encoded(values) if self.is_linear else values
            result[rows] = (values - np.float32(self.low)) / np.float32(self.high - self.low)
        return result

    def from_network(self, pixels: NDArray[np.float32], dtype: DTypeLike) -> Pixels:
        """Map the output of a network back to the image's values.

        Args:
            pixels: Array of shape (H, W, C).
            dtype: Type of the result: uint8, uint16 or float32.
        """
        result = np.empty(pixels.shape, dtype)
        full = full_scale(result.dtype)
        for rows in row_chunks(pixels.shape):
            values = pixels[rows] * np.float32(self.high - self.low) + np.float32(self.low)
            values = (_decoded(values) if self.is_linear else values) * np.float32(full)
            result[rows] = np.rint(values).clip(0, full) if result.dtype.kind == "u" else values
        return result


def tone_curve(pixels: Pixels, metadata: Metadata) -> ToneCurve | None:
    """Return the curve that an image needs before a network; None if it needs none.

    Floats that are not finite get no curve; see `finite`.

    Args:
        pixels: Array of shape (H, W, 1 or 3), without arbitrary colours under transparent pixels.
        metadata: Metadata with the profile, or the transfer function in its place.
    """
    least, most = 0.0, 1.0
    if pixels.dtype.kind == "f":
        least, most = float(pixels.min()), float(pixels.max())
        if not math.isfinite(most - least):
            return None
    if metadata.icc is not None:
        is_linear = _is_linear(metadata.icc, pixels.shape[2])
    elif metadata.cicp is not None:
        is_linear = metadata.cicp[1] == _LINEAR_TRANSFER
    else:
        is_linear = most >= _LINEAR_MAXIMUM
    ends = np.array([least, most], np.float32)
    lowest, highest = (_encoded(ends) if is_linear else ends).tolist()
    curve = ToneCurve(is_linear, min(lowest, 0.0), max(highest, 1.0))
    return None if curve == ToneCurve(False) else curve


def is_grey(pixels: Pixels) -> bool:
    """Return whether all channels of an array of shape (H, W, C) are equal."""
    chunks = (pixels[rows] for rows in row_chunks(pixels.shape))
    return all(bool((chunk == chunk[..., :1]).all()) for chunk in chunks)


def finite(pixels: Pixels) -> Pixels:
    """Replace infinities by the ends of the range of floats, and NaN by 0."""
    if pixels.dtype.kind != "f" or bool(np.isfinite(pixels).all()):
        return pixels
    numbers = pixels[np.isfinite(pixels)]
    least, most = (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 1.0)
    return np.nan_to_num(pixels, nan=0.0, posinf=most, neginf=least)


def _is_linear(profile: bytes, channels: int) -> bool:
    """Return whether a profile's values are roughly linear light; False for damaged profiles."""
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
    """Apply sRGB's curve, continued by a straight line below 0 and a logarithm above 1."""
    curved = light.clip(0.0031308, 1) ** (1 / 2.4) * 1.055 - 0.055
    above = 1 + np.log(np.maximum(light, 1)) * _SLOPE
    return np.select([light <= 0.0031308, light <= 1], [light * 12.92, curved], above).astype(
        np.float32
    )


def _decoded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply the inverse of `_encoded`."""
    curved = ((values.clip(0.04045, 1) + 0.055) / 1.055) ** 2.4
    above = np.exp((np.maximum(values, 1) - 1) / _SLOPE)
    return np.select([values <= 0.04045, values <= 1], [values / 12.92, curved], above).astype(
        np.float32
    )
