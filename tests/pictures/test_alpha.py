from __future__ import annotations

import numpy as np
import pytest

from upscale.pictures import extend_colour, read_picture
from upscale.pictures.alpha import unmultiply

FULL = {"uint8": 255, "uint16": 65535, "float32": 1}


@pytest.mark.parametrize("dtype", FULL)
@pytest.mark.parametrize("channels", [1, 3])
def test_visible_pixels_do_not_change_and_hidden_ones_do(dtype, channels):
    rng = np.random.default_rng(1)
    pixels = (rng.random((61, 83, channels)) * FULL[dtype]).astype(dtype)
    alpha = (rng.random((61, 83)) * (rng.random((61, 83)) > 0.4) * FULL[dtype]).astype(dtype)
    before = pixels.copy()
    spread = extend_colour(pixels, alpha)
    assert spread.dtype == pixels.dtype and spread.shape == pixels.shape
    assert np.array_equal(spread[alpha > 0], pixels[alpha > 0])
    assert not np.array_equal(spread[alpha == 0], pixels[alpha == 0])
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("dtype", FULL)
def test_one_colour_fills_the_whole_canvas(dtype):
    value = np.array(FULL[dtype] * 0.8).astype(dtype)
    pixels = np.full((70, 41, 3), FULL[dtype] * 0, dtype)
    alpha = np.zeros((70, 41), dtype)
    pixels[30:33, 11:14], alpha[30:33, 11:14] = value, FULL[dtype]
    spread = extend_colour(pixels, alpha)
    assert np.abs(spread.astype(float) - float(value)).max() <= FULL[dtype] * 1e-6


def test_hidden_pixels_take_the_colour_of_the_nearer_side():
    pixels = np.zeros((32, 64, 3), np.uint8)
    alpha = np.zeros((32, 64), np.uint8)
    pixels[:, :16], pixels[:, 48:] = (250, 10, 10), (10, 10, 250)
    alpha[:, :16] = alpha[:, 48:] = 255
    spread = extend_colour(pixels, alpha).astype(int)
    assert (spread[:, 16:18, 0] > 200).all() and (spread[:, 46:48, 2] > 200).all()
    assert (np.diff(spread[16, 16:48, 0]) <= 2).all(), "the colours should fade into each other"


@pytest.mark.parametrize("value", [0, 1, 255])
def test_nothing_to_spread_gives_the_array_back(value):
    pixels = np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8)
    assert extend_colour(pixels, np.full((9, 9), value, np.uint8)) is pixels


def test_a_real_cut_out_loses_its_dark_surroundings(shared):
    picture = read_picture(shared("lowres/children-alpha.png"))
    assert picture.alpha is not None
    hidden, visible = picture.alpha == 0, picture.alpha > 0
    assert hidden.any()
    spread = extend_colour(picture.pixels, picture.alpha)
    assert np.array_equal(spread[visible], picture.pixels[visible])
    edge = hidden[:, 1:] & visible[:, :-1]
    steps = np.abs(spread[:, 1:].astype(int) - spread[:, :-1])[edge].mean()
    black = np.where(hidden[..., None], 0, picture.pixels).astype(int)
    assert steps < np.abs(black[:, 1:] - black[:, :-1])[edge].mean() / 3


@pytest.mark.parametrize("dtype", FULL)
def test_unmultiply_undoes_multiplication(dtype):
    rng = np.random.default_rng(3)
    full = FULL[dtype]
    colour = (rng.random((20, 20, 3)) * full).astype(dtype)
    alpha = (full * (0.5 + rng.random((20, 20)) / 2)).astype(dtype)
    product = colour * (alpha / full)[..., None]
    product = (np.rint(product) if full > 1 else product).astype(dtype)
    plain = unmultiply(product, alpha).astype(float)
    assert np.abs(plain - colour).max() <= (1.01 if full > 1 else 1e-6)
    assert (unmultiply(np.zeros_like(colour), np.zeros_like(alpha)) == 0).all()
