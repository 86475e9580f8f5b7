"""ICC profiles, and the conversion to sRGB for formats without a place for a profile."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cache
from typing import Literal

import imagecodecs
import numpy as np
from numpy.typing import DTypeLike
from PIL import ImageCms

from upscale.images.image import Image, Pixels
from upscale.images.pixels.row_chunks import row_chunks

_CLOSE = 1e-3
"""Difference of values that profiles of equal colours have, as their numbers are rounded."""


def is_srgb(profile: bytes) -> bool:
    """Return whether a profile calls itself sRGB, as the variants of cameras and programs do."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return "srgb" in ImageCms.getProfileDescription(opened).lower()
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False


def in_srgb(image: Image) -> Image:
    """Convert an image to sRGB in its own depth, and remove its profile.

    Colours outside sRGB are clipped to it. A damaged profile is removed without a conversion.
    """
    profile = image.metadata.icc
    if profile is None:
        return image
    bare = replace(image, metadata=replace(image.metadata, icc=None, calibration=None))
    if is_srgb(profile):
        return bare
    try:
        return replace(bare, pixels=_converted(image.pixels, profile))
    except (RuntimeError, ValueError):
        return bare


def in_linear_srgb(pixels: Pixels, profile: bytes) -> Pixels:
    """Convert linear light to the primaries of sRGB without clipping.

    Args:
        pixels: Array of shape (H, W, 1 or 3), float32.
        profile: ICC profile of linear light. A damaged one leaves the values as they are.
    """
    if pixels.shape[2] == 1:
        return pixels
    result = np.empty_like(pixels)
    try:
        for rows in row_chunks(pixels.shape):
            result[rows] = imagecodecs.cms_transform(
                np.ascontiguousarray(pixels[rows]),
                profile,
                linear_profile(),
                colorspace="rgb",
                outcolorspace="rgb",
                outdtype=np.float32,
                intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
            )
    except (RuntimeError, ValueError):
        return pixels
    return result


def is_linear_srgb(profile: bytes) -> bool:
    """Return whether a profile is that of linear light with the primaries of sRGB."""
    primaries = np.eye(3, dtype=np.float32)[None]
    return bool(np.allclose(in_linear_srgb(primaries, profile), primaries, atol=_CLOSE))


def to_srgb(samples: Pixels, profile: bytes, colours: str, dtype: DTypeLike) -> Pixels:
    """Convert samples to sRGB with relative colorimetric intent and black point compensation.

    Args:
        samples: Array of shape (H, W) or (H, W, C).
        profile: ICC profile of the samples.
        colours: Kind of the samples: gray, rgb, cmyk or lab.
        dtype: Type of the result.

    Raises:
        RuntimeError: The profile is damaged.
        ValueError: The profile is for other colours.
    """
    return imagecodecs.cms_transform(
        samples,
        profile,
        built_in_profile("sRGB"),
        colorspace=colours,
        outcolorspace="rgb",
        outdtype=dtype,
        intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
        flags=imagecodecs.CMS.FLAGS.BLACKPOINTCOMPENSATION,
    )


@cache
def built_in_profile(name: Literal["sRGB", "LAB"]) -> bytes:
    """Return a profile of Little CMS: sRGB, or LAB with D50."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


@cache
def linear_profile() -> bytes:
    """Return a profile of linear light with the primaries of sRGB."""
    return imagecodecs.cms_profile(
        "rgb",
        whitepoint=(0.3127, 0.329, 1.0),
        primaries=(0.64, 0.33, 1.0, 0.3, 0.6, 1.0, 0.15, 0.06, 1.0),
        gamma=1.0,
    )


def _converted(pixels: Pixels, profile: bytes) -> Pixels:
    """Convert pixels (H, W, 1 or 3) to sRGB; ValueError or RuntimeError for a damaged profile."""
    channels = pixels.shape[2]
    result = np.empty_like(pixels)
    for rows in row_chunks(pixels.shape):
        chunk = np.ascontiguousarray(pixels[rows])
        colours = "gray" if channels == 1 else "rgb"
        plain = chunk[..., 0] if channels == 1 else chunk
        result[rows] = to_srgb(plain, profile, colours, pixels.dtype)[..., :channels]
    return result
