"""ICC profiles of images whose format has no place for one."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cache

import imagecodecs
import numpy as np
from PIL import ImageCms

from upscale.images.image import Image, Pixels

_BAND_ROWS = 256


def is_srgb(profile: bytes) -> bool:
    """Whether a profile calls itself sRGB, as cameras' and programs' own versions do."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return "srgb" in ImageCms.getProfileDescription(opened).lower()
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False


def in_srgb(image: Image) -> Image:
    """The image with its colours in sRGB and without its profile, in its own depth.

    Colours that sRGB lacks become the nearest that it has. A damaged profile is only left out.
    """
    profile = image.metadata.icc
    if profile is None:
        return image
    bare = replace(image, metadata=replace(image.metadata, icc=None))
    if is_srgb(profile):
        return bare
    try:
        return replace(bare, pixels=_converted(image.pixels, profile))
    except (RuntimeError, ValueError):
        return bare


def _converted(pixels: Pixels, profile: bytes) -> Pixels:
    """Pixels (H, W, 1 or 3) from a profile to sRGB, a band at a time; ValueError, RuntimeError."""
    channels = pixels.shape[2]
    result = np.empty_like(pixels)
    for top in range(0, len(pixels), _BAND_ROWS):
        band = np.ascontiguousarray(pixels[top : top + _BAND_ROWS])
        converted = imagecodecs.cms_transform(
            band[..., 0] if channels == 1 else band,
            profile,
            _srgb(),
            colorspace="gray" if channels == 1 else "rgb",
            outcolorspace="rgb",
            outdtype=pixels.dtype,
            intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
            flags=imagecodecs.CMS.FLAGS.BLACKPOINTCOMPENSATION,
        )
        result[top : top + _BAND_ROWS] = converted[..., :channels]
    return result


@cache
def _srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
