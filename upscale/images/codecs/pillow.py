"""Images through Pillow, arrays to an image and back; inks and CIELAB of any depth to sRGB."""

from __future__ import annotations

import io
from functools import cache
from typing import Literal

import imagecodecs
import numpy as np
from PIL import Image as PILImage
from PIL import ImageCms

from upscale.images.codecs.base import Raster, UnsupportedError
from upscale.images.image import Image, Pixels

_BAND_ROWS = 256
_GREY_MODES = ("1", "L")
_GREY_ALPHA_MODES = ("LA", "La")
_COLOUR_MODES = ("RGB", "RGBX", "YCbCr", "HSV")
_COLOUR_ALPHA_MODES = ("RGBA", "RGBa", "PA")


def raster_of(pil_image: PILImage.Image) -> Raster:
    """Decode an opened image of 8 bits a sample or fewer.

    Raises:
        UnsupportedError: It stores something that these 8 bits cannot express.
        Exception: Whatever Pillow's decoders raise on damaged content.
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
        return _inks_to_rgb(pil_image, pil_image.info.get("icc_profile"))
    raise UnsupportedError(f"stores its colours as {mode}, which is not supported")


def _samples(pil_image: PILImage.Image, mode: str) -> Pixels:
    """Samples in a mode, a band of rows at a time: Pillow would hand out copies of the whole."""
    if pil_image.mode != mode:
        pil_image = pil_image.convert(mode)
    width, height = pil_image.size
    samples = np.empty((height, width, len(mode)), np.uint8)
    for top in range(0, height, _BAND_ROWS):
        band = pil_image.crop((0, top, width, min(top + _BAND_ROWS, height)))
        samples[top : top + _BAND_ROWS] = np.asarray(band).reshape(-1, width, len(mode))
    return samples


def raster_of_inks(inks: Pixels, profile: bytes | None) -> Raster:
    """Convert CMYK samples (H, W, 4), uint8 or uint16, to sRGB of the same depth.

    A profile that is none of inks counts as none; then plain arithmetic converts.
    """
    inks = np.ascontiguousarray(inks)
    if inks.dtype == np.uint8:
        return _inks_to_rgb(PILImage.fromarray(inks, "CMYK"), profile)
    converted = _deep_rgb(inks, profile, "cmyk") if profile else None
    return Raster(_without_profile(inks) if converted is None else converted, keeps_profile=False)


def raster_of_lab(lightness: Pixels, opponents: Pixels) -> Raster:
    """Convert CIELAB (D50) to sRGB of 16 bits; colours that sRGB lacks become the nearest edge.

    Args:
        lightness: (H, W), 0..100.
        opponents: (H, W, 2), a* and b*.
    """
    lab = np.dstack((lightness, opponents)).astype(np.float32)
    converted = _deep_rgb(lab, _profile_bytes("LAB"), "lab")
    if converted is None:
        raise UnsupportedError("stores its colours in a way that is not supported")
    return Raster(converted, keeps_profile=False)


def image_of(image: Image) -> PILImage.Image:
    """A Pillow image of 8-bit pixels: L, LA, RGB or RGBA."""
    samples = image.samples()
    return PILImage.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def _inks_to_rgb(pil_image: PILImage.Image, profile: bytes | None) -> Raster:
    """Inks to sRGB through the embedded profile; by plain arithmetic where there is none."""
    converted = _through_profile(pil_image, profile) if profile else None
    return Raster(np.array(converted or pil_image.convert("RGB")), keeps_profile=False)


def _through_profile(pil_image: PILImage.Image, profile: bytes) -> PILImage.Image | None:
    """Inks to sRGB through a profile; None when it is no profile of inks."""
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
    """Samples to sRGB at 16 bits through a profile; None when it is no profile of such colours."""
    try:
        return imagecodecs.cms_transform(
            samples,
            profile,
            _profile_bytes("sRGB"),
            colorspace=colours,
            outcolorspace="rgb",
            outdtype=np.uint16,
            intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
            flags=imagecodecs.CMS.FLAGS.BLACKPOINTCOMPENSATION,
        )
    except (RuntimeError, ValueError):
        return None


@cache
def _profile_bytes(name: Literal["sRGB", "LAB"]) -> bytes:
    """A profile that little-cms makes: sRGB, or LAB with D50."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def _without_profile(inks: Pixels) -> Pixels:
    """RGB of CMYK samples of 16 bits by Pillow's arithmetic for 8."""
    paper = 65535 - inks[..., 3:].astype(np.uint32)
    product = inks[..., :3] * paper
    return (paper - (product + 32767) // 65535).astype(np.uint16)
