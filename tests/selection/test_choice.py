from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.selection import Sample, choose, looks_clean
from upscale.selection.choice import CLEAN, DAMAGED, DRAWING
from upscale.selection.traits import median_of, traits_of


class CountingProbe:
    """Stands for a network: repeats the pixels of a crop after a change of it."""

    def __init__(self, change=lambda crop: crop):
        self.networks, self.sizes, self.change = [], [], change

    def __call__(self, network, crop):
        self.networks.append(network)
        self.sizes.append(crop.shape[:2])
        changed = self.change(crop).reshape(crop.shape).astype(crop.dtype)
        return changed.repeat(4, axis=0).repeat(4, axis=1)


def sharpened(crop):
    soft = cv2.GaussianBlur(crop, (0, 0), 1.2).astype(float)
    return np.clip(np.rint(crop + 8 * (crop - soft)), 0, 255)


def no_probe(network, crop):
    raise AssertionError("the samples leave no doubt")


@pytest.mark.parametrize("quality", [20, 62, 75, 79, 85, 88])
def test_jpeg_below_89_never_reaches_the_network_for_clean_images(photo, quality):
    choice = choose([Sample(photo, quality)], no_probe)
    assert choice.weights == {DAMAGED: 1.0}
    assert choice.reason == f"JPEG quality {quality}" and not choice.is_clean


@pytest.mark.parametrize("quality", [40, 62, 75])
def test_jpeg_saved_as_png_is_recognised(photo, jpeg, quality):
    choice = choose([Sample(jpeg(photo, quality))], no_probe)
    assert choice.weights == {DAMAGED: 1.0}
    assert choice.reason.startswith("JPEG quality ")
    assert not looks_clean([Sample(jpeg(photo, quality))])


@pytest.mark.parametrize("quality", [90, 94])
def test_jpeg_between_is_mixed(scene, quality):
    photo = scene("city", 3)
    choice = choose([Sample(photo, quality)], CountingProbe())
    assert choice.weights == {CLEAN: 0.5, DAMAGED: 0.5}
    assert choice.reason == f"JPEG quality {quality}" and not choice.is_clean


@pytest.mark.parametrize("sigma", [10, 20])
def test_heavy_noise_needs_no_probe(photo, noisy, sigma):
    choice = choose([Sample(noisy(photo, sigma))], no_probe)
    assert choice.weights == {DAMAGED: 1.0} and not choice.is_clean
    assert choice.reason.startswith("noise of about ")
    assert abs(int(choice.reason.split()[3]) - sigma) <= 0.25 * sigma


def test_monochrome_noise_is_found_by_a_probe_that_removes_it(scene, noisy):
    probe = CountingProbe(lambda crop: cv2.medianBlur(crop, 5))
    choice = choose([Sample(noisy(scene("house"), 12, grey=True))], probe)
    assert choice.weights.get(CLEAN, 0) < 1 and not choice.is_clean
    assert set(probe.networks) == {DAMAGED}


def test_blurred_image_is_named_so(photo):
    blurred = cv2.GaussianBlur(photo, (0, 0), 1.5)
    choice = choose([Sample(blurred)], CountingProbe(sharpened))
    assert choice.weights == {DAMAGED: 1.0}
    assert choice.reason == "looks upscaled or out of focus"


@pytest.mark.parametrize("name", ["baby", "city", "dog", "girl", "house", "nyc", "night"])
@pytest.mark.parametrize("quality", [None, 97])
def test_clean_photo(scene, name, quality):
    probe = CountingProbe()
    sample = Sample(scene(name, 3), quality)
    choice = choose([sample], probe)
    assert choice.weights == {CLEAN: 1.0}
    assert choice.reason == "no noise or compression artefacts found"
    assert choice.is_clean and looks_clean([sample])
    assert 1 <= len(probe.networks) <= 3 and max(probe.sizes) <= (96, 96)


def test_crisp_drawing_is_mixed(cartoon, jpeg):
    for sample in (Sample(cartoon), Sample(jpeg(cartoon, 97)), Sample(cartoon, 97)):
        expect_mixed_drawing(sample)


def expect_mixed_drawing(sample):
    choice = choose([sample], no_probe)
    assert choice.weights == {CLEAN: 0.5, DRAWING: 0.5}
    assert choice.reason == "a crisp drawing without JPEG artefacts"
    assert choice.is_clean and looks_clean([sample])


def test_blurred_drawing(cartoon):
    choice = choose([Sample(cv2.GaussianBlur(cartoon, (0, 0), 1))], no_probe)
    assert choice.weights == {DRAWING: 1.0}


def test_damaged_drawing(cartoon, jpeg):
    for sample in (Sample(jpeg(cartoon, 80)), Sample(cartoon, 75)):
        choice = choose([sample], no_probe)
        assert choice.weights == {DRAWING: 1.0}
        assert choice.reason == "a drawing: flat colours and hard edges"
        assert not choice.is_clean


def test_dithered_palette_is_mixed(scene):
    palette = PILImage.fromarray(scene("girl")).quantize(64).convert("RGB")
    sample = Sample(np.asarray(palette))
    choice = choose([sample], CountingProbe())
    assert choice.weights == {CLEAN: 0.5, DAMAGED: 0.5} or choice.weights == {DAMAGED: 1.0}
    assert not choice.is_clean and not looks_clean([sample])


def test_grey_image_is_no_palette(scene):
    grey = scene("city", 3)[..., [1]]
    for pixels in (grey, np.repeat(grey, 3, axis=2)):
        assert not traits_of(pixels, None).palette
        assert choose([Sample(pixels)], CountingProbe()).weights == {CLEAN: 1.0}


def test_frames_are_chosen_for_together(scene, noisy):
    clean, noise = Sample(scene("city", 2)), Sample(noisy(scene("city", 2), 15))
    assert choose([clean, noise, clean], CountingProbe()).weights == {CLEAN: 1.0}
    assert choose([noise, clean, noise], no_probe).weights == {DAMAGED: 1.0}
    assert looks_clean([clean, noise, clean]) and not looks_clean([noise, clean, noise])
    middle = median_of([traits_of(each.pixels, 90) for each in (clean, noise, clean)])
    assert middle.quality == 90


SIZES = [(1, 1), (2, 7), (5, 300), (15, 15), (24, 24), (33, 40)]


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("type", [np.uint8, np.uint16, np.float32])
def test_small_and_constant_images_are_survived(height, width, channels, type):
    own = np.random.default_rng(height)
    top = 1 if type is np.float32 else np.iinfo(type).max
    random = (own.random((height, width, channels)) * top).astype(type)
    for pixels in (random, np.zeros_like(random), np.full_like(random, top)):
        choice = choose([Sample(pixels)], CountingProbe())
        assert sum(choice.weights.values()) == 1 and choice.reason
        traits = traits_of(pixels, None)
        assert all(np.isfinite(getattr(traits, name)) for name in traits.__slots__)


@pytest.mark.parametrize("size", [(20, 60), (60, 20), (9, 9)])
def test_image_smaller_than_a_crop_is_probed_with_mirrored_edges(scene, size):
    strip = scene("city", 3)[: size[0], : size[1]]
    probe = CountingProbe()
    assert choose([Sample(strip)], probe).weights == {CLEAN: 1.0}
    assert probe.sizes == [tuple(max(side, 32) for side in size)]
    sharpening = CountingProbe(lambda crop: np.where(crop > 128, 255, 0).astype(np.uint8))
    assert choose([Sample(strip)], sharpening).weights != {CLEAN: 1.0}


def test_invalid_floats_are_survived():
    pixels = np.full((64, 64, 3), np.nan, np.float32)
    pixels[::2] = np.inf
    assert sum(choose([Sample(pixels)], CountingProbe()).weights.values()) == 1


def test_large_image_takes_no_longer_than_its_parts(scene):
    large = np.tile(scene("city", 1), (12, 12, 1))
    assert large.shape[0] * large.shape[1] > 12_000_000
    traits_of(large[:640, :640], None)
    start = time.process_time()
    traits_of(large, None)
    assert time.process_time() - start < 2
