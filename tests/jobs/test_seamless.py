"""Images that repeat, with real networks, transparency, and every step of a job."""

from __future__ import annotations

import numpy as np
import pytest

from upscale import Upscaler
from upscale.images import Image
from upscale.images.pixels.alpha import extend_colour, hold_to_source
from upscale.jobs import upscale_image
from upscale.options import TextureOptions


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler("realesr-animevideov3", device="cpu")


def steps(pixels):
    """Return the mean step across the border, and between the other rows and columns."""
    pixels = pixels.astype(float)
    ring = [np.abs(pixels - np.roll(pixels, 1, axis)).mean((1 - axis, 2)) for axis in (0, 1)]
    return [(each[0], each[1:].max()) for each in ring]


def periodic_noise(side):
    """Smooth noise without a seam, 0..255."""
    spectrum = np.fft.rfft2(np.random.default_rng(4).standard_normal((side, side, 3)), axes=(0, 1))
    distance = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))[..., None]
    smooth = np.fft.irfft2(spectrum * np.exp(-((distance / 0.12) ** 2)), (side, side), axes=(0, 1))
    return (127 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("scale", [4, 2.5])
def test_the_step_across_the_border_is_no_larger_than_elsewhere(upscaler, scale):
    image = Image(periodic_noise(72))
    size = (round(image.width * scale), round(image.height * scale))
    result, _ = upscale_image(image, size, upscaler, texture=TextureOptions(seamless="xy"))
    for border, elsewhere in steps(result.pixels):
        assert border <= elsewhere
    plain, _ = upscale_image(image, size, upscaler)
    for border, elsewhere in steps(plain.pixels):
        assert border > elsewhere


def shape(height, width):
    """A soft disc that crosses all borders, with unrelated colour under transparent pixels."""
    rows, columns = np.mgrid[:height, :width]
    down, across = (np.minimum(n, size - n) for n, size in ((rows, height), (columns, width)))
    alpha = (255 * (1 - np.hypot(down, across) / 14).clip(0, 1) ** 0.5).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    colour = np.where(alpha[..., None] > 0, 90 + noise // 4, noise)
    return Image(colour.astype(np.uint8), alpha)


def test_transparency_repeats_too(upscaler):
    image = shape(40, 36)
    large = Image(np.tile(image.pixels, (3, 3, 1)), np.tile(image.alpha, (3, 3)))
    expected, _ = upscale_image(large, (108 * 4, 120 * 4), upscaler)
    result, _ = upscale_image(
        image, (36 * 4, 40 * 4), upscaler, texture=TextureOptions(seamless="xy")
    )
    middle = slice(160, 320), slice(144, 288)
    assert np.abs(result.alpha.astype(int) - expected.alpha[middle]).max() <= 1
    visible = result.alpha > 8
    assert np.abs(result.pixels.astype(int) - expected.pixels[middle])[visible].max() <= 3


@pytest.mark.parametrize("size", [(80, 72), (50, 61)])
@pytest.mark.parametrize("seamless", ["x", "y", "xy"])
def test_alpha_is_held_to_a_source_that_repeats(size, seamless):
    source = np.random.default_rng(1).random((20, 18), np.float32)
    copies = [3 if axis in seamless else 1 for axis in "yx"]
    alpha = np.random.default_rng(2).random(size, np.float32)
    large = np.tile(alpha, copies)
    hold_to_source(large, np.tile(source, copies))
    hold_to_source(alpha, source, seamless)
    top, left = (length * (n // 2) for length, n in zip(size, copies, strict=True))
    assert np.abs(alpha - large[top : top + size[0], left : left + size[1]]).max() < 2e-5


def test_colour_spreads_across_the_border():
    pixels = np.zeros((8, 16, 3), np.uint8)
    alpha = np.zeros((8, 16), np.uint8)
    pixels[:, 14:], alpha[:, 14:] = 200, 255
    pixels[:, 8:10], alpha[:, 8:10] = 50, 255
    assert extend_colour(pixels, alpha)[4, 0, 0] < 130
    assert extend_colour(pixels, alpha, "x")[4, 0, 0] > 150
