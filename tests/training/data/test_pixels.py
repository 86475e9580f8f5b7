"""Images of all kinds become 8-bit RGB, as a network should see them."""

from __future__ import annotations

import io

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from upscale_training.data.pixels import read_rgb

from upscale.errors import ImageError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def test_rgb_is_unchanged(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (read_rgb(tmp_path / "a.png") == pixels).all()


def test_grey_becomes_three_equal_channels(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "grey.png")
    found = read_rgb(tmp_path / "grey.png")
    assert found.shape == (16, 16, 3)
    assert (found == RAMP[..., None]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_rounded(tmp_path, channels):
    exact = RAMP.astype(np.uint16) * 257
    deep = np.dstack([exact + 128] * channels)
    deep[-1, -1] = 65535
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    expected = np.rint(deep[..., :1] / 257)
    assert (read_rgb(tmp_path / "deep.png") == expected).all()


def test_colours_of_transparent_pixels_are_replaced(tmp_path):
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:, :16] = (200, 100, 50, 255)
    pixels[:, 16:] = (0, 255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "alpha.png")
    found = read_rgb(tmp_path / "alpha.png").astype(int)
    assert (found[:, :16] == (200, 100, 50)).all()
    assert abs(found - (200, 100, 50)).max() < 3


def test_a_palette_is_expanded(tmp_path):
    Image.fromarray(RAMP).convert("P").save(tmp_path / "palette.gif")
    assert (read_rgb(tmp_path / "palette.gif") == RAMP[..., None]).all()


def test_light_gets_the_curve_of_srgb(tmp_path):
    light = np.full((8, 8, 3), 0.2, np.float32)
    light[0, 0] = 1.0
    light[0, 1] = 4.0  # brighter than white, so the file holds light
    tifffile.imwrite(tmp_path / "light.tif", light, photometric="rgb")
    found = read_rgb(tmp_path / "light.tif")[..., 0].astype(float)
    # 0.2 and 1 are 0.4845 and 1 on that curve; 4 lies beyond its end, and becomes white.
    assert found[0, 1] == 255
    assert found[4, 4] / found[0, 0] == pytest.approx(0.4845, abs=0.005)


def test_wide_colours_are_converted(tmp_path):
    wide = imagecodecs.cms_profile(
        "rgb",
        whitepoint=(0.3127, 0.3290, 1),
        primaries=(0.680, 0.320, 1, 0.265, 0.690, 1, 0.150, 0.060, 1),
        gamma=2.2,
    )
    image = Image.new("RGB", (4, 4), (180, 90, 60))
    image.save(tmp_path / "wide.png", icc_profile=wide)
    expected = ImageCms.profileToProfile(
        image, ImageCms.ImageCmsProfile(io.BytesIO(wide)), ImageCms.createProfile("sRGB")
    )
    found = read_rgb(tmp_path / "wide.png").astype(int)
    assert expected is not None
    assert abs(found - np.asarray(expected)).max() <= 1
    assert abs(found[0, 0] - (180, 90, 60)).max() > 8


def test_an_image_is_upright(data):
    path = data / "images" / "exif-orientation" / "Landscape_6.jpg"
    with Image.open(path) as stored:
        assert stored.width < stored.height
    assert read_rgb(path).shape == (*stored.size, 3)


def test_a_damaged_file_raises_an_image_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageError, match=r"a\.png"):
        read_rgb(tmp_path / "a.png")
