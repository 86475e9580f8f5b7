from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from upscale.errors import OutputError
from upscale.jobs import ImageJob, enlarge_picture
from upscale.jobs.image import check_format, clamp_to_source
from upscale.pictures import Picture, read_picture

LOWRES = Path(__file__).parents[2].parent / "shared" / "data" / "lowres"


def make(pixels, alpha=None) -> Picture:
    return Picture(pixels, alpha)


def noise(*shape: int, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_depth_and_channels_are_kept(dtype, channels, nearest):
    upscaler = nearest()
    picture, report = enlarge_picture(make(noise(5, 7, channels, dtype=dtype)), (21, 15), upscaler)
    assert picture.pixels.shape == (15, 21, channels)
    assert picture.pixels.dtype == dtype
    assert upscaler.channels == [channels]
    assert report.model == "nearest"


def test_constant_alpha_stays_constant_without_a_second_run(nearest):
    upscaler = nearest()
    alpha = np.full((5, 7), 200, np.uint8)
    picture, _ = enlarge_picture(make(noise(5, 7, 3), alpha), (14, 10), upscaler)
    assert upscaler.channels == [3]
    assert picture.alpha.shape == (10, 14)
    assert (picture.alpha == 200).all()


def test_varying_alpha_goes_through_the_network_as_a_grey_picture(nearest):
    upscaler = nearest()
    alpha = noise(5, 7)
    picture, _ = enlarge_picture(make(noise(5, 7, 3), alpha), (14, 10), upscaler)
    assert upscaler.channels == [3, 1]
    np.testing.assert_array_equal(picture.alpha, alpha.repeat(2, 0).repeat(2, 1))


def test_colour_under_transparent_pixels_does_not_reach_the_network(nearest):
    pixels = np.full((8, 8, 3), 100, np.uint8)
    alpha = np.full((8, 8), 255, np.uint8)
    pixels[:, 4:] = 255
    alpha[:, 4:] = 0
    picture, _ = enlarge_picture(make(pixels, alpha), (16, 16), nearest())
    assert (picture.pixels == 100).all()


def test_progress_counts_colour_and_alpha_as_one_picture(nearest):
    steps = []
    enlarge_picture(
        make(noise(4, 4, 3), noise(4, 4)), (8, 8), nearest(), lambda *step: steps.append(step)
    )
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_flat_areas_of_alpha_stay_exact_and_edges_do_not_ring():
    source = np.zeros((6, 6), np.uint8)
    source[:, 3:] = 255
    alpha = np.full((24, 24), 3, np.uint8)
    alpha[:, 8:16] = 130
    alpha[:, 16:] = 252
    clamp_to_source(alpha, source)
    assert (alpha[:, :8] == 0).all()
    assert (alpha[:, 8:16] == 130).all()
    assert (alpha[:, 16:] == 255).all()


def test_clamping_in_bands_equals_clamping_at_once():
    source = noise(200, 30)
    alpha = noise(700, 45)
    padded = np.pad(source, 1, mode="edge")
    expected = alpha.copy()
    for y in range(700):
        for x in range(45):
            top, left = int((y + 0.5) * 200 / 700), int((x + 0.5) * 30 / 45)
            around = padded[top : top + 3, left : left + 3]
            expected[y, x] = np.clip(alpha[y, x], around.min(), around.max())
    clamp_to_source(alpha, source)
    np.testing.assert_array_equal(alpha, expected)


def test_transparency_that_the_format_cannot_hold_is_refused_before_computing():
    job = ImageJob("a.png", b"", None, "jpeg", (4, 4), (8, 8), "net")
    check_format(make(noise(4, 4, 3)), job)
    with pytest.raises(OutputError, match=r"a\.png.*transparency"):
        check_format(make(noise(4, 4, 3), noise(4, 4)), job)


@pytest.mark.parametrize(
    ("name", "channels", "dtype"),
    [("wolf_gray.jpg", 1, np.uint8), ("tree_alpha_16bit.png", 3, np.uint16)],
)
def test_real_pictures_keep_their_kind(name, channels, dtype, nearest):
    path = LOWRES / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    picture = read_picture(path)
    size = (picture.width * 2, picture.height * 2)
    larger, _ = enlarge_picture(picture, size, nearest())
    assert larger.pixels.shape == (size[1], size[0], channels)
    assert larger.pixels.dtype == dtype
    assert (larger.alpha is None) == (picture.alpha is None)
