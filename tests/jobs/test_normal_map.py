"""Normal maps of a surface whose height is known."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from upscale import Upscaler
from upscale.errors import ImageError
from upscale.images import Image, Metadata
from upscale.images.pixels.normals import with_third_channel
from upscale.jobs import upscale_image
from upscale.options import TextureOptions

NORMAL_MAP = TextureOptions(normal_map=True)


def directions(side, period=32.0):
    """Directions (side, side, 3) of a surface of waves, sampled at the centres of pixels."""
    centres = (np.arange(side) + 0.5) * 64 / side
    down, across = np.meshgrid(centres, centres, indexing="ij")
    turn = 2 * np.pi / period
    slope_x = 1.6 * np.cos(turn * across) * np.sin(turn * down)
    slope_y = 1.6 * np.sin(turn * across) * np.cos(turn * down)
    vectors = np.dstack((-slope_x, -slope_y, np.ones_like(slope_x)))
    return vectors / np.linalg.norm(vectors, axis=2, keepdims=True)


def stored(vectors, dtype=np.uint8):
    full = np.iinfo(dtype).max
    return np.rint((vectors + 1) / 2 * full).astype(dtype)


def decoded(pixels):
    full = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    return pixels.astype(float) / full * 2 - 1


def angles(pixels, expected):
    """Return the angles between directions in degrees, after making them unit vectors."""
    vectors = decoded(pixels)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    return np.rad2deg(np.arccos((vectors * expected).sum(2).clip(-1, 1)))


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler("realesr-animevideov3", device="cpu")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_directions_have_length_one_and_are_nearer_to_the_surface(upscaler, dtype):
    image, expected = Image(stored(directions(64), dtype)), directions(256)
    result, _ = upscale_image(image, (256, 256), upscaler, texture=NORMAL_MAP)
    length = np.linalg.norm(decoded(result.pixels), axis=2)
    assert np.abs(length - 1).max() < 2.0 / np.iinfo(dtype).max
    plain, _ = upscale_image(image, (256, 256), upscaler)
    assert np.abs(np.linalg.norm(decoded(plain.pixels), axis=2) - 1).max() > 0.02
    inside = slice(16, -16), slice(16, -16)
    error = angles(result.pixels, expected)[inside].mean()
    assert error < 2
    assert error < angles(plain.pixels, expected)[inside].mean() / 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_empty_third_channel_is_rebuilt(dtype):
    """BC5 holds two channels; its decoders leave the third at 0."""
    whole = stored(directions(32), dtype)
    flat = whole.copy()
    flat[..., 2] = 0
    rebuilt = with_third_channel(flat)
    assert np.array_equal(rebuilt[..., :2], whole[..., :2])
    levels = np.abs(rebuilt[..., 2].astype(int) - whole[..., 2])
    assert levels.max() <= np.iinfo(dtype).max // 100
    assert with_third_channel(whole) is whole


class Nearest:
    """Upscaler by a factor of 2 that records its inputs."""

    def __init__(self):
        self.inputs = []

    def run(self, array, *, size=None, progress=None):
        self.inputs.append(array)
        return SimpleNamespace(pixels=array.repeat(2, 0).repeat(2, 1), report=None)


def test_alpha_is_data_of_its_own():
    """Colour under transparent pixels stays, and alpha is what the network makes of it."""
    pixels = stored(directions(16))
    alpha = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    alpha[:8] = 0
    network = Nearest()
    result, _ = upscale_image(Image(pixels, alpha), (32, 32), network, texture=NORMAL_MAP)
    assert np.array_equal(network.inputs[0], pixels)
    assert np.array_equal(result.alpha, alpha.repeat(2, 0).repeat(2, 1))
    assert np.abs(result.pixels.astype(int) - pixels.repeat(2, 0).repeat(2, 1)).max() <= 1


def test_floats_may_be_signed():
    vectors = directions(16).astype(np.float32)
    for values in (vectors, (vectors + 1) / 2):
        network = Nearest()
        result, _ = upscale_image(Image(values), (32, 32), network, texture=NORMAL_MAP)
        assert network.inputs[0].min() >= 0 and network.inputs[0].max() <= 1
        assert np.allclose(result.pixels, values.repeat(2, 0).repeat(2, 1), atol=1e-6)


def test_no_profile_is_applied():
    image = Image(stored(directions(8)), metadata=Metadata(icc=b"profile", dpi=(72, 72)))
    result, _ = upscale_image(image, (16, 16), Nearest(), texture=NORMAL_MAP)
    assert result.metadata == Metadata(dpi=(72, 72))
    assert "profile was left out" in result.origin.notes[0]


def test_grey_images_are_rejected():
    grey = Image(np.zeros((4, 4, 1), np.uint8))
    with pytest.raises(ImageError, match="no directions"):
        upscale_image(replace(grey), (8, 8), Nearest(), texture=NORMAL_MAP)
