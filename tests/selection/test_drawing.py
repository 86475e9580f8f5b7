from __future__ import annotations

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


def test_flat_colours_are_untouched_until_they_are_compressed_or_noisy(cartoon, jpeg):
    assert shares_of(patches_of(cartoon)).is_untouched
    for quality in (97, 80):
        assert not shares_of(patches_of(jpeg(cartoon, quality))).is_untouched
    noise = np.random.default_rng(0).integers(-2, 3, cartoon.shape)
    assert not shares_of(patches_of((cartoon + noise).clip(0, 255).astype(np.uint8))).is_untouched


@pytest.mark.parametrize("name", ["codec_wiki", "terminal"])
def test_screenshots_are_untouched_drawings(data, name):
    shown = PILImage.open(data / f"photos/graphics/{name}.webp").convert("RGB")
    assert shares_of(patches_of(np.asarray(shown))).is_drawing
    assert shares_of(patches_of(np.asarray(shown))).is_untouched
