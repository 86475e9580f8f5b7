from __future__ import annotations

import numpy as np
import pytest

from upscale.selection.noise import colour_noise_of, luma_noise_of
from upscale.selection.patches import patches_of


@pytest.mark.parametrize("sigma", [4, 8, 16])
def test_noise_of_each_channel(photo, noisy, sigma):
    measured = colour_noise_of(patches_of(noisy(photo, sigma)))
    assert measured == pytest.approx(sigma, rel=0.25)


@pytest.mark.parametrize("sigma", [4, 8, 16])
def test_noise_of_luma(scene, noisy, sigma):
    for name in ("city", "house", "nyc"):
        measured = luma_noise_of(patches_of(noisy(scene(name), sigma, grey=True)))
        assert measured == pytest.approx(sigma, rel=0.25)


def test_photo_without_noise(photo):
    assert colour_noise_of(patches_of(photo)) < 1.5


@pytest.mark.parametrize("name", ["sand", "flowers", "waves", "dog"])
def test_fine_texture_is_no_colour_noise(scene, name):
    patches = patches_of(scene(name, 3))
    assert colour_noise_of(patches) < 0.9 + luma_noise_of(patches) / 4


def test_grey_images_have_no_colour_noise(scene):
    grey = scene("dog")[..., [1]]
    assert colour_noise_of(patches_of(grey)) is None
    assert colour_noise_of(patches_of(np.repeat(grey, 3, axis=2))) is None


def test_depth_does_not_matter(scene, noisy):
    pixels = noisy(scene("city"), 6)
    expected = luma_noise_of(patches_of(pixels))
    for other in (pixels.astype(np.uint16) * 257, (pixels / 255).astype(np.float32)):
        assert luma_noise_of(patches_of(other)) == pytest.approx(expected, rel=1e-3)


def test_black_and_white_hide_no_noise(scene, noisy):
    pixels = noisy(scene("city"), 6, grey=True)
    framed = np.pad(pixels, ((64, 64), (64, 64), (0, 0)))
    measured = luma_noise_of(patches_of(framed))
    assert measured == pytest.approx(luma_noise_of(patches_of(pixels)), rel=0.3)
