from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.selection.drawing import is_drawing
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
