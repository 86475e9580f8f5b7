from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from upscale.metrics import MetricError, colour_shift

# CIELAB (D65) of sRGB colours as printed in tables of colours.
RED, BLUE, WHITE = (53.24, 80.09, 67.20), (32.30, 79.19, -107.86), (100.0, 0.0, 0.0)


def flat(*rgb: int, side: int = 40) -> np.ndarray:
    return np.full((side, side, 3), rgb, np.uint8)


@pytest.mark.parametrize(
    ("rgb", "lab"), [((255, 0, 0), RED), ((0, 0, 255), BLUE), ((255, 255, 255), WHITE)]
)
def test_difference_from_black_is_the_distance_of_published_colours(rgb, lab):
    assert colour_shift(flat(*rgb), flat(0, 0, 0)) == pytest.approx(np.linalg.norm(lab), abs=0.03)


def test_difference_of_two_colours():
    expected = np.linalg.norm(np.subtract(RED, BLUE))
    assert colour_shift(flat(255, 0, 0), flat(0, 0, 255)) == pytest.approx(expected, abs=0.02)


def test_equal_images_have_no_shift(photo):
    assert colour_shift(photo, photo.copy()) == 0


def test_detail_counts_less_than_a_cast(photo, damages):
    bright = np.clip(photo.astype(np.int64) + 6, 0, 255).astype(np.uint8)
    cast = colour_shift(bright, photo)
    assert 1.5 < cast < 4
    for kind in ("blur", "jpeg", "noise"):
        assert colour_shift(damages[kind](photo, 1), photo) < cast / 5, kind


def test_low_pass_is_a_gaussian_of_sixteen_pixels_in_srgb(photo):
    warm = np.clip(photo * np.float64([1.1, 1.0, 0.9]), 0, 255).astype(np.uint8)
    warm[100:140, 100:200] = (200, 30, 30)
    blurred = [
        scipy.ndimage.gaussian_filter(image.astype(np.float64), (16, 16, 0), mode="reflect")
        for image in (warm, photo)
    ]
    # A low-pass leaves flat images alone; every 24th pixel is enough for the mean.
    distances = [
        colour_shift(np.full((8, 8, 3), one / 255), np.full((8, 8, 3), other / 255))
        for one, other in zip(*(image[::24, ::24].reshape(-1, 3) for image in blurred), strict=True)
    ]
    assert colour_shift(warm, photo) == pytest.approx(np.mean(distances), rel=0.05)


def test_score_is_independent_of_depth_and_of_grey_layout(photo):
    other = flat(90, 120, 60, side=264)[:, :264]
    photo = photo[:, :264]
    expected = colour_shift(other, photo)
    assert colour_shift(other.astype(np.uint16) * 257, photo) == pytest.approx(expected, abs=1e-9)
    assert colour_shift(other.astype(np.float32) / 255, photo) == pytest.approx(expected, abs=1e-4)
    grey = photo[..., 1]
    assert colour_shift(grey, other) == pytest.approx(colour_shift(np.dstack([grey] * 3), other))


def test_border_is_ignored(photo):
    framed = photo.copy()
    framed[:5], framed[-5:], framed[:, :5], framed[:, -5:] = 0, 0, 0, 0
    assert colour_shift(framed, photo, border=5) == 0
    assert colour_shift(framed, photo, border=4) > 0.1
    with pytest.raises(MetricError, match="cannot be compared"):
        colour_shift(photo, photo[1:])
