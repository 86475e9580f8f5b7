from __future__ import annotations

import cv2
import numpy as np
import pytest

from upscale.selection.compression import compression_of
from upscale.selection.patches import patches_of


def traces(pixels):
    return compression_of(patches_of(pixels))


@pytest.mark.parametrize("quality", [40, 62, 75, 88, 95])
def test_quality_of_a_decoded_jpeg(photo, jpeg, quality):
    found = traces(jpeg(photo, quality))
    assert found.grid > 0.1
    assert found.quality == pytest.approx(quality, abs=1)


@pytest.mark.parametrize("top, left", [(0, 0), (3, 5), (7, 1)])
def test_grid_of_any_phase(scene, jpeg, top, left):
    found = traces(jpeg(scene("city"), 75)[top:, left:])
    assert found.quality == 75


def test_grey_and_16_bit_images_from_a_jpeg(scene, jpeg):
    grey = jpeg(scene("city")[..., 1], 70)[..., None]
    assert traces(grey).quality == 70
    assert traces(grey.astype(np.uint16) * 257).quality == 70
    assert traces((grey / 255).astype(np.float32)).quality == 70


def test_photo_without_compression_has_no_grid(photo):
    found = traces(photo)
    assert found.grid < 0.06 and found.quality is None


def test_noise_and_texture_have_no_grid(scene, noisy):
    for pixels in (noisy(scene("city"), 10), scene("sand"), scene("flowers"), scene("waves")):
        assert traces(pixels).quality is None and traces(pixels).grid < 0.1


def test_resized_jpeg_has_no_quality(scene, jpeg):
    larger = cv2.resize(jpeg(scene("city"), 60), None, fx=1.4, fy=1.4)
    assert traces(larger).quality is None


def wall():
    rows, columns = np.mgrid[:192, :192]
    mortar = (rows % 8 == 0) | ((columns + rows // 8 % 2 * 4) % 8 == 0)
    bricks = np.where(mortar[..., None], (200, 195, 190), (150, 80, 60)).astype(float)
    bricks += np.random.default_rng(2).normal(0, 4, bricks.shape)
    return np.clip(bricks, 0, 255).astype(np.uint8)


def checkerboard():
    rows, columns = np.mgrid[:192, :192]
    squares = (rows // 8 + columns // 8) % 2 * 200 + 20
    return np.repeat(squares[..., None], 3, axis=2).astype(np.uint8)


def gradient_tiles():
    rows, columns = np.mgrid[:192, :192]
    return np.stack([rows % 8 * 20, columns % 8 * 20, (rows + columns) % 16 * 10], 2).astype(
        np.uint8
    )


@pytest.mark.parametrize("pattern", [wall, checkerboard, gradient_tiles])
def test_pattern_that_repeats_every_8_pixels_is_no_jpeg(pattern):
    assert traces(pattern()).quality is None
    assert traces(pattern()).grid < 0.25
