"""Conversion between Pillow images and arrays, and of CMYK and CIELAB to sRGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as PILImage
from PIL import ImageCms

from upscale.images.codecs.base import Raster, UnsupportedError
from upscale.images.image import Image, Pixels
from upscale.images.metadata.icc import built_in_profile, to_srgb
from upscale.images.pixels.row_chunks import row_chunks

_GREY_MODES = ("1", "L")
_GREY_ALPHA_MODES = ("LA", "La")
_COLOUR_MODES = ("RGB", "RGBX", "YCbCr", "HSV")
_COLOUR_ALPHA_MODES = ("RGBA", "RGBa", "PA")


def raster_of(pil_image: PILImage.Image) -> Raster:
    """Decode an opened image of at most 8 bits per sample.

    Raises:
        UnsupportedError: Its mode needs more bits.
    """
    pil_image.load()
    mode = pil_image.mode
    if mode == "P":
        mode = "PA" if "transparency" in pil_image.info else "RGB"
    if mode in _GREY_MODES:
        return Raster.of(_samples(pil_image, "L"))
    if mode in _GREY_ALPHA_MODES:
        return Raster.of(_samples(pil_image, "LA"))
    if mode in _COLOUR_MODES:
        return Raster.of(_samples(pil_image, "RGB"))
    if mode in _COLOUR_ALPHA_MODES:
        return Raster.of(_samples(pil_image, "RGBA"))
    if mode == "CMYK":
        return _cmyk_to_rgb(pil_image, pil_image.info.get("icc_profile"))
    raise UnsupportedError(f"stores its colours as {mode}, which is not supported")


def _samples(pil_image: PILImage.Image, mode: str) -> Pixels:
    """Return samples in a mode, in row chunks: Pillow would copy the whole image twice."""
    if pil_image.mode != mode:
        pil_image = pil_image.convert(mode)
    width, height = pil_image.size
    samples = np.empty((height, width, len(mode)), np.uint8)
    for rows in row_chunks(samples.shape):
        chunk = pil_image.crop((0, rows.start, width, min(rows.stop, height)))
        samples[rows] = np.asarray(chunk).reshape(-1, width, len(mode))
    return samples


def raster_of_cmyk(cmyk: Pixels, profile: bytes | None) -> Raster:
    """Convert CMYK samples to sRGB of the same depth.

    Args:
        cmyk: Array of shape (H, W, 4), uint8 or uint16.
        profile: ICC profile; without a CMYK profile, a simple formula is used.
    """
    cmyk = np.ascontiguousarray(cmyk)
    if cmyk.dtype == np.uint8:
        return _cmyk_to_rgb(PILImage.fromarray(cmyk, "CMYK"), profile)
    converted = _deep_rgb(cmyk, profile, "cmyk") if profile else None
    return Raster(_without_profile(cmyk) if converted is None else converted, keeps_profile=False)


def raster_of_lab(lightness: Pixels, opponents: Pixels) -> Raster:
    """Convert CIELAB (D50) to sRGB of 16 bits; colours outside sRGB are clipped.

    Args:
        lightness: L* of shape (H, W), 0..100.
        opponents: Array of a* and b* of shape (H, W, 2).

    Raises:
        UnsupportedError: The conversion fails.
    """
    lab = np.dstack((lightness, opponents)).astype(np.float32)
    converted = _deep_rgb(lab, built_in_profile("LAB"), "lab")
    if converted is None:
        raise UnsupportedError("stores its colours in a way that is not supported")
    return Raster(converted, keeps_profile=False)


def image_of(image: Image) -> PILImage.Image:
    """Return 8-bit pixels as a Pillow image of mode L, LA, RGB or RGBA."""
    samples = image.samples()
    return PILImage.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def _cmyk_to_rgb(pil_image: PILImage.Image, profile: bytes | None) -> Raster:
    """Convert CMYK to sRGB through a profile; by a simple formula without one."""
    converted = _through_profile(pil_image, profile) if profile else None
    return Raster(np.array(converted or pil_image.convert("RGB")), keeps_profile=False)


def _through_profile(pil_image: PILImage.Image, profile: bytes) -> PILImage.Image | None:
    """Convert CMYK to sRGB through a profile; None where it is no CMYK profile."""
    try:
        return ImageCms.profileToProfile(
            pil_image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _deep_rgb(samples: Pixels, profile: bytes, colours: str) -> Pixels | None:
    """Convert samples to sRGB of 16 bits; None where the profile is for other colours."""
    try:
        return to_srgb(samples, profile, colours, np.uint16)
    except (RuntimeError, ValueError):
        return None


def _without_profile(cmyk: Pixels) -> Pixels:
    """Convert CMYK of 16 bits to RGB by the formula that Pillow uses for 8 bits."""
    paper = 65535 - cmyk[..., 3:].astype(np.uint32)
    product = cmyk[..., :3] * paper
    return (paper - (product + 32767) // 65535).astype(np.uint16)
