from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageCms

from upscale.compare import version_of_file, version_of_image
from upscale.errors import ImageError
from upscale.images import Image, Metadata

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 14, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("suffix", "media_type"),
    [
        ("jpg", "image/jpeg"),
        ("png", "image/png"),
        ("webp", "image/webp"),
        ("gif", "image/gif"),
        ("avif", "image/avif"),
    ],
)
def test_formats_of_browsers_are_embedded_unchanged(suffix, media_type, tmp_path):
    path = tmp_path / f"a.{suffix}"
    PILImage.fromarray(PIXELS).save(path)
    version = version_of_file(path, "label")
    assert version.content == path.read_bytes()
    assert (version.media_type, version.size, version.label) == (media_type, (14, 9), "label")


def test_format_is_detected_from_the_content(tmp_path):
    path = tmp_path / "a.jpg"
    PILImage.fromarray(PIXELS).save(path, "PNG")
    assert version_of_file(path, "a").media_type == "image/png"
    PILImage.fromarray(PIXELS).save(path, "BMP")
    assert version_of_file(path, "a").content.startswith(b"\x89PNG")


def test_animations_are_embedded_unchanged(tmp_path):
    path = tmp_path / "a.gif"
    frames = [PILImage.fromarray(np.roll(PIXELS, step)) for step in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    version = version_of_file(path, "a")
    assert version.content == path.read_bytes()
    assert version.size == (14, 9)


@pytest.mark.parametrize("suffix", ["tif", "bmp"])
def test_other_formats_are_converted_to_png(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    PILImage.fromarray(PIXELS).save(path)
    version = version_of_file(path, "a")
    assert version.media_type == "image/png"
    np.testing.assert_array_equal(np.array(PILImage.open(io.BytesIO(version.content))), PIXELS)


def test_16_bit_images_are_rounded_to_8_bits(tmp_path):
    path = tmp_path / "a.tif"
    deep = PIXELS.astype(np.uint16) * 257 + 100
    assert cv2.imwrite(str(path), deep[..., ::-1])
    pil_image = PILImage.open(io.BytesIO(version_of_file(path, "a").content))
    assert pil_image.mode == "RGB"
    np.testing.assert_array_equal(np.array(pil_image), np.rint(deep / 257))


def test_alpha_and_profile_are_kept_but_no_other_metadata():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    alpha = PIXELS[..., 0].astype(np.uint16) * 257
    image = Image(
        PIXELS.astype(np.uint16) * 257,
        alpha,
        Metadata(icc=profile, exif=b"II*\0\x08\0\0\0\0\0\0\0\0\0", comment="of a private kind"),
    )
    version = version_of_image(image, "a", "note")
    assert (version.size, version.note) == ((14, 9), "note")
    pil_image = PILImage.open(io.BytesIO(version.content))
    assert pil_image.info["icc_profile"] == profile
    np.testing.assert_array_equal(np.array(pil_image), np.dstack((PIXELS, PIXELS[..., 0])))
    assert not pil_image.getexif()
    assert b"private" not in version.content


def test_sizes_respect_the_orientation(data):
    for name in ("Landscape_6.jpg", "Portrait_6.jpg"):
        path = data / "images/exif-orientation" / name
        width, height = version_of_file(path, "a").size
        assert (width > height) == name.startswith("Landscape")


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\ncut"])
def test_files_that_are_not_images_raise_an_error_with_their_name(content, tmp_path):
    path = tmp_path / "strange.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"strange\.png: "):
        version_of_file(path, "a")
    path.unlink()
    with pytest.raises(ImageError, match=r"strange\.png: cannot be read"):
        version_of_file(path, "a")
