from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageCms

from upscale.images import Image, Metadata, encode_file, losses, read_image
from upscale.images.metadata.icc import in_srgb, is_srgb

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def display_p3():
    """A profile with the primaries of Display P3 and a gamma of 2.2."""
    return imagecodecs.cms_profile(
        "rgb",
        whitepoint=[0.3127, 0.329, 1.0],
        primaries=[0.68, 0.32, 1.0, 0.265, 0.69, 1.0, 0.15, 0.06, 1.0],
        gamma=2.2,
    )


def by_pillow(pixels, profile):
    """The same pixels in sRGB, by another binding of Little CMS."""
    converted = ImageCms.profileToProfile(
        PILImage.fromarray(pixels),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return np.array(converted)


@pytest.mark.parametrize("format", ["bmp", "jxl", "gif"])
def test_format_without_profiles_gets_the_same_colours_in_srgb(format):
    pixels = np.indices((300, 20)).sum(0)[..., None] % 200 + np.array([5, 20, 50])
    image = Image(pixels.astype(np.uint8), None, Metadata(icc=display_p3()))
    assert any("sRGB" in loss for loss in losses(image, format))
    expected = by_pillow(image.pixels, image.metadata.icc)
    assert np.abs(expected.astype(int) - image.pixels).max() > 5
    back = read_image(encode_file(image, format))
    assert back.metadata.icc is None
    close = {"bmp": 1, "jxl": 12, "gif": 40}[format]
    assert np.abs(back.pixels.astype(int) - expected).max() <= close


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_depth_is_kept(dtype):
    full = 65535 if dtype == np.uint16 else 1
    pixels = (np.linspace(0.1, 0.8, 3000).reshape(50, 20, 3) * full).astype(dtype)
    result = in_srgb(Image(pixels, None, Metadata(icc=display_p3()))).pixels
    assert result.dtype == dtype
    assert len(np.unique(result)) > 1500


def test_srgb_pixels_are_unchanged():
    image = Image(np.full((2, 2, 3), 9, np.uint8), None, Metadata(icc=SRGB))
    assert is_srgb(SRGB) and not is_srgb(display_p3()) and not is_srgb(b"junk")
    assert in_srgb(image).pixels is image.pixels
    assert in_srgb(image).metadata.icc is None
    assert not losses(image, "bmp")


def test_grey_stays_grey():
    profile = imagecodecs.cms_profile("gray", whitepoint=[0.3127, 0.329, 1.0], gamma=1.0)
    image = Image(np.full((2, 3, 1), 64, np.uint8), None, Metadata(icc=profile))
    result = in_srgb(image).pixels
    assert result.shape == (2, 3, 1)
    assert np.abs(result.astype(int) - 137).max() <= 2  # a quarter of the light, by sRGB's curve


@pytest.mark.parametrize(
    "profile",
    [b"junk", display_p3()[:90], SRGB[:-200]],
    ids=["junk", "header", "shortened"],  # generated profiles contain the time
)
def test_damaged_profile_is_left_out(profile):
    image = Image(np.full((2, 2, 3), 9, np.uint8), None, Metadata(icc=profile))
    result = in_srgb(image)
    assert result.metadata.icc is None
    assert np.array_equal(result.pixels, image.pixels)
