"""8-bit pictures through Pillow: an open image to arrays, arrays to an image."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from upscale.pictures.decoded import Raster, UnsupportedError
from upscale.pictures.picture import Picture, Pixels

_GREY_MODES = ("1", "L")
_GREY_ALPHA_MODES = ("LA", "La")
_COLOUR_MODES = ("RGB", "RGBX", "YCbCr", "HSV")
_COLOUR_ALPHA_MODES = ("RGBA", "RGBa", "PA")


def raster_of(image: Image.Image) -> Raster:
    """Decode an opened picture of 8 bits a sample or fewer.

    Raises:
        UnsupportedError: It stores something that these 8 bits cannot express.
        Exception: Whatever Pillow's decoders raise on damaged content.
    """
    image.load()
    mode = image.mode
    if mode == "P":
        mode = "PA" if "transparency" in image.info else "RGB"
    if mode in _GREY_MODES:
        return Raster.of(np.array(image.convert("L")))
    if mode in _GREY_ALPHA_MODES:
        return Raster.of(np.asarray(image.convert("LA")))
    if mode in _COLOUR_MODES:
        return Raster.of(np.array(image.convert("RGB")))
    if mode in _COLOUR_ALPHA_MODES:
        return Raster.of(np.asarray(image.convert("RGBA")))
    if mode == "CMYK":
        return _inks_to_rgb(image, image.info.get("icc_profile"))
    raise UnsupportedError(f"stores its colours as {mode}, which is not supported")


def raster_of_inks(inks: Pixels, profile: bytes | None) -> Raster:
    """Convert CMYK samples (H, W, 4), uint8 or uint16, to sRGB at 8 bits."""
    if inks.dtype == np.uint16:
        inks = ((inks.astype(np.uint32) + 128) // 257).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(inks), "CMYK")
    return _inks_to_rgb(image, profile)


def image_of(picture: Picture) -> Image.Image:
    """A Pillow image of 8-bit pixels: L, LA, RGB or RGBA."""
    samples = picture.samples()
    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def _inks_to_rgb(image: Image.Image, profile: bytes | None) -> Raster:
    """Inks to sRGB through the embedded profile; by plain arithmetic where there is none."""
    converted = _through_profile(image, profile) if profile else None
    return Raster(np.array(converted or image.convert("RGB")), keeps_profile=False)


def _through_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Inks to sRGB through a profile; None when it is no profile of inks."""
    try:
        return ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
