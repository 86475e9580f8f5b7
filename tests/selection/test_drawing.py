from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.selection.drawing import is_drawing, is_untouched
from upscale.selection.patches import patches_of


def test_cartoon_is_a_drawing_compressed_or_not(cartoon, jpeg):
    assert is_drawing(patches_of(cartoon))
    assert is_drawing(patches_of(jpeg(cartoon, 75)))


def test_photo_is_none(photo, jpeg):
    assert not is_drawing(patches_of(photo))
    assert not is_drawing(patches_of(jpeg(photo, 30)))


@pytest.mark.parametrize("name", ["flowers", "sand", "waves", "night"])
def test_other_photos_are_none(scene, name):
    assert not is_drawing(patches_of(scene(name)))


def test_crops_of_photos_are_none(data):
    for path in sorted((data / "photos/crops").glob("*.jpg")):
        assert not is_drawing(patches_of(np.asarray(PILImage.open(path).convert("RGB")))), path


def test_plain_images_are_none():
    assert not is_drawing(patches_of(np.full((64, 64, 3), 200, np.uint8)))
    assert not is_drawing(patches_of(np.zeros((1, 1, 1), np.uint8)))


def test_flat_colours_are_untouched_until_they_are_compressed_or_noisy(cartoon, jpeg):
    assert is_untouched(patches_of(cartoon))
    for quality in (97, 80):
        assert not is_untouched(patches_of(jpeg(cartoon, quality)))
    noise = np.random.default_rng(0).integers(-2, 3, cartoon.shape)
    assert not is_untouched(patches_of((cartoon + noise).clip(0, 255).astype(np.uint8)))


@pytest.mark.parametrize("name", ["codec_wiki", "terminal"])
def test_screenshots_are_untouched_drawings(data, name):
    shown = PILImage.open(data / f"photos/graphics/{name}.webp").convert("RGB")
    assert is_drawing(patches_of(np.asarray(shown)))
    assert is_untouched(patches_of(np.asarray(shown)))
