from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from upscale.images import Image, read_image
from upscale.jobs import upscale_image


def make(pixels, alpha=None) -> Image:
    return Image(pixels, alpha)


def noise(*shape: int, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_depth_and_channels_are_preserved(dtype, channels, nearest):
    upscaler = nearest()
    image, report = upscale_image(make(noise(5, 7, channels, dtype=dtype)), (21, 15), upscaler)
    assert image.pixels.shape == (15, 21, channels)
    assert image.pixels.dtype == dtype
    assert upscaler.channels == [channels]
    assert report.model == "nearest"


def test_constant_alpha_stays_constant_without_a_second_run(nearest):
    upscaler = nearest()
    alpha = np.full((5, 7), 200, np.uint8)
    image, _ = upscale_image(make(noise(5, 7, 3), alpha), (14, 10), upscaler)
    assert upscaler.channels == [3]
    assert image.alpha.shape == (10, 14)
    assert (image.alpha == 200).all()


def test_varying_alpha_is_upscaled_as_a_grey_image(nearest):
    upscaler = nearest()
    alpha = noise(5, 7)
    image, _ = upscale_image(make(noise(5, 7, 3), alpha), (14, 10), upscaler)
    assert upscaler.channels == [3, 1]
    mean = image.alpha.reshape(5, 2, 7, 2).mean((1, 3))
    np.testing.assert_allclose(mean, alpha, atol=25)


def test_colour_under_transparent_pixels_does_not_reach_the_network(nearest):
    pixels = np.full((8, 8, 3), 100, np.uint8)
    alpha = np.full((8, 8), 255, np.uint8)
    pixels[:, 4:] = 255
    alpha[:, 4:] = 0
    image, _ = upscale_image(make(pixels, alpha), (16, 16), nearest())
    assert (image.pixels == 100).all()


def test_progress_covers_colour_and_alpha(nearest):
    steps = []
    upscale_image(
        make(noise(4, 4, 3), noise(4, 4)), (8, 8), nearest(), lambda *step: steps.append(step)
    )
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_flat_areas_of_alpha_are_exact_even_if_the_network_is_not():
    class Faulty:
        def run(self, array, *, scale=None, size=None, progress=None):
            grown = array.repeat(4, 0).repeat(4, 1).astype(int)
            noise = np.random.default_rng(1).integers(-3, 4, grown.shape)
            pixels = (grown + noise).clip(0, 255).astype(np.uint8)
            return SimpleNamespace(pixels=pixels, report=None)

    source = np.zeros((9, 24), np.uint8)
    source[:, 8:16], source[:, 16:] = 120, 255
    image, _ = upscale_image(make(noise(9, 24, 3), source), (96, 36), Faulty())
    assert (image.alpha[:, :28] == 0).all()
    assert (image.alpha[:, 36:60] == 120).all()
    assert (image.alpha[:, 68:] == 255).all()


@pytest.mark.parametrize(
    ("name", "channels", "dtype"),
    [("grey.jpg", 1, np.uint8), ("deep_alpha.png", 3, np.uint16)],
)
def test_real_images_keep_depth_and_channels(name, channels, dtype, nearest, data):
    image = read_image(data / "images" / "generated" / name)
    size = (image.width * 2, image.height * 2)
    larger, _ = upscale_image(image, size, nearest())
    assert larger.pixels.shape == (size[1], size[0], channels)
    assert larger.pixels.dtype == dtype
    assert (larger.alpha is None) == (image.alpha is None)


class Recorder:
    """Upscaler that repeats pixels four times and records its inputs."""

    def __init__(self):
        self.arrays = []

    def run(self, array, *, scale=None, size=None, progress=None):
        self.arrays.append(array)
        return SimpleNamespace(pixels=array.repeat(4, 0).repeat(4, 1), report=None)


def test_grey_rgb_image_stays_grey():
    grey = noise(5, 6, 1).repeat(3, axis=2)
    recorder = Recorder()
    larger, _ = upscale_image(make(grey), (24, 20), recorder)
    assert [array.shape for array in recorder.arrays] == [(5, 6, 1)]
    assert np.array_equal(larger.pixels, grey.repeat(4, 0).repeat(4, 1))
    grey[4, 5, 2] ^= 1
    upscale_image(make(grey), (24, 20), recorder)
    assert recorder.arrays[-1].shape == (5, 6, 3)


def test_hdr_floats_are_mapped_into_range_and_restored():
    light = (np.linspace(-0.5, 40, 90, dtype=np.float32) ** 1).reshape(5, 6, 3)
    light[0, 0] = np.nan
    light[1, 1] = np.inf
    recorder = Recorder()
    larger, _ = upscale_image(make(light), (24, 20), recorder)
    assert recorder.arrays[0].min() >= 0 and recorder.arrays[0].max() <= 1
    expected = np.where(np.isnan(light), 0, np.minimum(light, 40)).repeat(4, 0).repeat(4, 1)
    assert np.allclose(larger.pixels, expected, rtol=1e-4, atol=1e-5)
