from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.selection.drawing import shares_of
from upscale.selection.patches import patches_of


def test_cartoon_is_a_drawing_compressed_or_not(cartoon, jpeg):
    assert shares_of(patches_of(cartoon)).is_drawing
    assert shares_of(patches_of(jpeg(cartoon, 75))).is_drawing


def test_photo_is_none(photo, jpeg):
    assert not shares_of(patches_of(photo)).is_drawing
    assert not shares_of(patches_of(jpeg(photo, 30))).is_drawing


@pytest.mark.parametrize("name", ["flowers", "sand", "waves", "night"])
def test_other_photos_are_none(scene, name):
    assert not shares_of(patches_of(scene(name))).is_drawing


def test_crops_of_photos_are_none(data):
    for path in sorted((data / "photos/crops").glob("*.jpg")):
        assert not shares_of(
            patches_of(np.asarray(PILImage.open(path).convert("RGB")))
        ).is_drawing, path


def test_plain_images_are_none():
    assert not shares_of(patches_of(np.full((64, 64, 3), 200, np.uint8))).is_drawing
    assert not shares_of(patches_of(np.zeros((1, 1, 1), np.uint8))).is_drawing


def enlarged(pixels, factor):
    height, width = pixels.shape[:2]
    small = cv2.resize(pixels, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def test_drawings_are_crisp_also_after_compression(cartoon, jpeg):
    for pixels in (cartoon, jpeg(cartoon, 97), jpeg(cartoon, 80)):
        assert shares_of(patches_of(pixels)).is_crisp


@pytest.mark.parametrize("method", [cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4])
def test_drawings_that_were_made_smaller_are_crisp(cartoon, method):
    small = cv2.resize(cartoon, None, fx=0.5, fy=0.5, interpolation=method)
    assert shares_of(patches_of(small)).is_crisp


def test_enlarged_and_blurred_drawings_are_not_crisp(cartoon):
    for pixels in (enlarged(cartoon, 2), cv2.GaussianBlur(cartoon, (0, 0), 1)):
        shares = shares_of(patches_of(pixels))
        assert shares.is_drawing
        assert not shares.is_crisp


@pytest.mark.parametrize("name", ["codec_wiki", "terminal"])
def test_screenshots_are_crisp_drawings(data, name):
    shown = PILImage.open(data / f"photos/graphics/{name}.webp").convert("RGB")
    assert shares_of(patches_of(np.asarray(shown))).is_drawing
    assert shares_of(patches_of(np.asarray(shown))).is_crisp
