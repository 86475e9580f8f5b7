from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal

from upscale.metrics import MetricError, psnr, ssim

BOTH = [psnr, ssim]


def luma(pixels):
    """Y of rgb2ycbcr as its documentation prints it, for samples in [0, 1]."""
    red, green, blue = np.moveaxis(pixels.astype(np.float64) / 255, -1, 0)
    return 16 + 65.481 * red + 128.553 * green + 24.966 * blue


def reference_ssim(x, y):
    """The paper's definition: weighted moments of every window of 11x11, written out."""
    steps = np.arange(11) - 5
    weights = np.exp(-(steps[:, None] ** 2 + steps**2) / (2 * 1.5**2))
    weights /= weights.sum()

    def mean(plane):
        return scipy.signal.correlate2d(plane, weights, mode="valid")

    centre_x, centre_y = mean(x), mean(y)
    spread_x, spread_y = mean(x * x) - centre_x**2, mean(y * y) - centre_y**2
    shared = mean(x * y) - centre_x * centre_y
    light = (2 * centre_x * centre_y + 6.5025) / (centre_x**2 + centre_y**2 + 6.5025)
    return float((light * (2 * shared + 58.5225) / (spread_x + spread_y + 58.5225)).mean())


def test_psnr_of_known_errors():
    dark = np.zeros((20, 30, 3), np.uint8)
    assert psnr(dark, dark + 1) == pytest.approx(20 * math.log10(255))
    assert psnr(dark, np.full_like(dark, 255)) == pytest.approx(0)
    one = dark.copy()
    one[0, 0, 0] = 255
    assert psnr(dark, one) == pytest.approx(10 * math.log10(dark.size))


def test_psnr_follows_from_the_mean_squared_error_of_all_channels(photo, damages):
    bad = damages["jpeg"](photo, 3)
    error = np.mean((photo.astype(np.int64) - bad.astype(np.int64)) ** 2)
    assert psnr(photo, bad) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-9)
    error = np.mean((luma(photo) - luma(bad)) ** 2)
    assert psnr(photo, bad, luma=True) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-9)


def test_ssim_agrees_with_the_definition(photo, damages):
    small, bad = (each[100:190, 200:270] for each in (photo, damages["jpeg"](photo, 3)))
    expected = np.mean(
        [reference_ssim(*np.float64([small[..., c], bad[..., c]])) for c in range(3)]
    )
    assert ssim(small, bad) == pytest.approx(expected, abs=1e-10)
    assert ssim(small, bad, luma=True) == pytest.approx(
        reference_ssim(luma(small), luma(bad)), abs=1e-10
    )


@pytest.mark.parametrize("size", [(11, 11), (40, 33), (300, 21)])
def test_scores_agree_with_the_definition_on_synthetic_images(size):
    generator = np.random.default_rng(size)
    image = generator.integers(0, 256, (*size, 3)).astype(np.uint8)
    noisy = np.clip(image + generator.normal(4, 20, image.shape), 0, 255).astype(np.uint8)
    error = np.mean((np.float64(image) - np.float64(noisy)) ** 2)
    assert psnr(image, noisy) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-9)
    channels = [reference_ssim(*np.float64([image[..., c], noisy[..., c]])) for c in range(3)]
    assert ssim(image, noisy) == pytest.approx(np.mean(channels), abs=1e-10)
    error = np.mean((luma(image) - luma(noisy)) ** 2)
    assert psnr(image, noisy, luma=True) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-9)
    expected = reference_ssim(luma(image), luma(noisy))
    assert ssim(image, noisy, luma=True) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("border", [0, 4])
@pytest.mark.parametrize("y", [False, True])
def test_scores_agree_with_basicsr(official, photos, damages, border, y):
    for pixels in photos.values():
        bad = damages["jpeg"](damages["blur"](pixels, 1), 3)
        one, other = pixels[..., ::-1], bad[..., ::-1]
        expected = official.calculate_psnr(one, other, border, test_y_channel=y)
        assert psnr(pixels, bad, border=border, luma=y) == pytest.approx(expected, abs=1e-4)
        expected = official.calculate_ssim(one, other, border, test_y_channel=y)
        assert ssim(pixels, bad, border=border, luma=y) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric", BOTH)
@pytest.mark.parametrize("y", [False, True])
def test_equal_images_get_the_best_score(photo, metric, y):
    assert metric(photo, photo.copy(), luma=y) == (math.inf if metric is psnr else 1)


@pytest.mark.parametrize("metric", BOTH)
@pytest.mark.parametrize("kind", ["noise", "blur", "jpeg"])
def test_score_falls_with_distortion(photos, damages, metric, kind):
    for pixels in photos.values():
        scores = [metric(damages[kind](pixels, step), pixels) for step in (1, 2, 3, 4)]
        assert scores == sorted(scores, reverse=True) and len(set(scores)) == 4


@pytest.mark.parametrize("metric", BOTH)
def test_scores_are_symmetric(photo, damages, metric):
    bad = damages["noise"](photo, 2)
    assert metric(photo, bad) == pytest.approx(metric(bad, photo), abs=1e-12)


@pytest.mark.parametrize("metric", BOTH)
@pytest.mark.parametrize("y", [False, True])
def test_score_is_independent_of_depth(photo, damages, metric, y):
    bad = damages["noise"](photo, 2)
    expected = metric(photo, bad, luma=y)
    assert metric(photo, bad.astype(np.uint16) * 257, luma=y) == pytest.approx(expected, abs=1e-9)
    assert metric(photo.astype(np.float32) / 255, bad, luma=y) == pytest.approx(expected, abs=1e-5)


def test_sixteen_bits_are_not_rounded_to_eight():
    dark = np.full((16, 16), 1000, np.uint16)
    assert psnr(dark, dark + 1) == pytest.approx(20 * math.log10(65535))


@pytest.mark.parametrize("metric", BOTH)
@pytest.mark.parametrize("y", [False, True])
def test_score_is_independent_of_grey_layout(photo, damages, metric, y):
    grey, bad = photo[..., 1], damages["noise"](photo[..., 1], 2)
    expected = metric(np.dstack([grey] * 3), np.dstack([bad] * 3), luma=y)
    for one, other in [
        (grey, bad),
        (grey[..., None], bad[..., None]),
        (grey, np.dstack([bad] * 3)),
    ]:
        assert metric(one, other, luma=y) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", BOTH)
def test_border_is_ignored(photo, metric):
    framed = photo.copy()
    framed[:5], framed[-5:], framed[:, :5], framed[:, -5:] = 0, 0, 0, 0
    assert metric(framed, photo, border=4) < (60 if metric is psnr else 1)
    assert metric(framed, photo, border=5) == metric(photo, photo)


@pytest.mark.parametrize("height", [255, 256, 257, 266, 267, 522])
def test_row_chunks_cover_every_height(photo, damages, height):
    one = np.vstack((photo, photo[::-1]))[:height, :40]
    other = damages["noise"](one, 2)
    by_hand = np.mean([reference_ssim(*np.float64([one[..., c], other[..., c]])) for c in range(3)])
    assert ssim(one, other) == pytest.approx(by_hand, abs=1e-10)
    error = np.mean((np.float64(one) - other) ** 2)
    assert psnr(one, other) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-9)


def test_small_images():
    tiny = np.zeros((1, 1, 3), np.uint8)
    assert psnr(tiny, tiny + 255) == pytest.approx(0)
    with pytest.raises(MetricError, match="1x1 is smaller than SSIM's window of 11x11"):
        ssim(tiny, tiny)
    eleven = np.zeros((11, 11), np.uint8)
    assert ssim(eleven, eleven) == 1
    with pytest.raises(MetricError, match="9x9"):
        ssim(eleven, eleven, border=1)
    with pytest.raises(MetricError, match="11x11 has no pixel inside a border of 6"):
        psnr(eleven, eleven, border=6)


@pytest.mark.parametrize("metric", BOTH)
def test_incompatible_images_are_rejected(photo, metric):
    with pytest.raises(MetricError, match="320x264 and 319x264 cannot be compared"):
        metric(photo, photo[:, :-1])
    with pytest.raises(ValueError, match="not \\(264, 320, 4\\)"):
        metric(np.dstack([photo, photo[..., 0]]), photo)
    with pytest.raises(ValueError, match="not int64"):
        metric(photo.astype(np.int64), photo)
    with pytest.raises(ValueError, match="border"):
        metric(photo, photo, border=-1)
