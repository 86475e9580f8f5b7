from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest

from upscale.metrics import MetricError
from upscale.metrics.niqe import _features, _halved, _pristine_model, niqe
from upscale.metrics.scene_statistics import mscn, split_into_blocks

TEXTURED = ["baby", "city", "flowers", "nyc", "sand", "waves"]
"""Photographs without exactly flat parts, where rounding errors would count."""

PARAMETERS_SHA256 = "f6284a2b53fd40bbc960472b76ec55b67a299a0270294b804c847e99b8cc1e30"


def official_niqe(official, pixels):
    red, green, blue = np.moveaxis(pixels.astype(np.float64) / 255, -1, 0)
    luma = np.round(16 + 65.481 * red + 128.553 * green + 24.966 * blue)
    stored = np.load(official.folder / "metrics" / "niqe_pris_params.npz")
    numbers = stored["mu_pris_param"], stored["cov_pris_param"], stored["gaussian_window"]
    return official.niqe(luma, *numbers)


@pytest.mark.parametrize("name", TEXTURED)
def test_score_agrees_with_basicsr(official, eval_photo, damages, name):
    pixels = eval_photo(name)
    for version in (pixels, damages["noise"](pixels, 1), damages["blur"](pixels, 1)):
        assert niqe(version) == pytest.approx(official_niqe(official, version), abs=2e-3)


def test_incomplete_blocks_are_cut_off(official, eval_photo):
    pixels = eval_photo("city")[:250, :311]
    assert niqe(pixels) == pytest.approx(official_niqe(official, pixels), abs=2e-3)
    assert niqe(pixels) == niqe(pixels[:192, :288])


def test_parameters_equal_those_of_the_release(official):
    stored = np.load(official.folder / "metrics" / "niqe_pris_params.npz")
    np.testing.assert_array_equal(_pristine_model().mean, stored["mu_pris_param"][0])
    np.testing.assert_array_equal(_pristine_model().covariance, stored["cov_pris_param"])


def test_parameters_have_the_expected_checksum():
    content = _pristine_model().mean.tobytes() + _pristine_model().covariance.tobytes()
    assert hashlib.sha256(content).hexdigest() == PARAMETERS_SHA256


def test_block_features_agree_with_basicsr(official):
    plane = np.random.default_rng(0).normal(128, 30, (192, 96))
    expected = [official.compute_feature(block) for block in split_into_blocks(mscn(plane), 96)]
    np.testing.assert_allclose(_features(plane, 96), expected, atol=1e-9)


def test_halving_agrees_with_matlab_imresize(official, photo):
    plane = photo[..., 1].astype(np.float64)
    expected = official.imresize(plane / 255, scale=0.5) * 255
    np.testing.assert_allclose(_halved(plane), expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["noise", "blur", "jpeg"])
def test_score_rises_with_distortion(photos, damages, kind):
    for pixels in photos.values():
        # NIQE does not react to weak compression
        steps = (2, 3, 4) if kind == "jpeg" else (1, 2, 3, 4)
        scores = [niqe(damages[kind](pixels, step)) for step in steps]
        assert scores == sorted(scores)


def test_noise_scores_far_worse_than_photos(photos):
    noise = np.random.default_rng(0).integers(0, 256, (576, 576, 3), dtype=np.uint8)
    assert niqe(noise) > 3 * max(niqe(pixels) for pixels in photos.values())


def test_score_is_independent_of_depth_and_grey_layout(photo):
    expected = niqe(photo)
    assert niqe(photo.astype(np.uint16) * 257) == expected
    assert niqe((photo / 255).astype(np.float32)) == pytest.approx(expected, abs=0.01)
    grey = photo[..., 1]
    assert niqe(grey) == niqe(grey[..., None]) == pytest.approx(niqe(np.dstack([grey] * 3)))


def test_border_is_ignored(photo):
    framed = photo.copy()
    framed[:5], framed[-5:] = 0, 0
    assert niqe(framed, border=5) == niqe(photo[5:-5, 5:-5])


def test_small_and_flat_images_are_rejected():
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (96, 191, 3), dtype=np.uint8)
    with pytest.raises(MetricError, match="191x96 does not hold two blocks of 96x96"):
        niqe(small)
    assert niqe(cv2.copyMakeBorder(small, 0, 0, 0, 1, cv2.BORDER_REFLECT)) > 0
    with pytest.raises(MetricError, match="texture"):
        niqe(np.zeros((192, 192), np.uint8))
