from __future__ import annotations

import cv2
import numpy as np
import pytest

from upscale.images import extend_colour, read_image
from upscale.images.pixels.alpha import hold_to_source, unmultiply

FULL = {"uint8": 255, "uint16": 65535, "float32": 1}


@pytest.mark.parametrize("dtype", FULL)
@pytest.mark.parametrize("channels", [1, 3])
def test_only_transparent_pixels_change(dtype, channels):
    rng = np.random.default_rng(1)
    pixels = (rng.random((61, 83, channels)) * FULL[dtype]).astype(dtype)
    alpha = (rng.random((61, 83)) * (rng.random((61, 83)) > 0.4) * FULL[dtype]).astype(dtype)
    before = pixels.copy()
    spread = extend_colour(pixels, alpha)
    assert spread.dtype == pixels.dtype and spread.shape == pixels.shape
    seen = alpha >= FULL[dtype] * 4 / 255
    assert np.array_equal(spread[seen], pixels[seen])
    assert not np.array_equal(spread[alpha == 0], pixels[alpha == 0])
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("dtype", FULL)
def test_single_visible_colour_fills_the_canvas(dtype):
    value = np.array(FULL[dtype] * 0.8).astype(dtype)
    pixels = np.full((70, 41, 3), FULL[dtype] * 0, dtype)
    alpha = np.zeros((70, 41), dtype)
    pixels[30:33, 11:14], alpha[30:33, 11:14] = value, FULL[dtype]
    spread = extend_colour(pixels, alpha)
    assert np.abs(spread.astype(float) - float(value)).max() <= FULL[dtype] * 1e-6


def test_transparent_pixels_take_the_nearest_colour():
    pixels = np.zeros((32, 64, 3), np.uint8)
    alpha = np.zeros((32, 64), np.uint8)
    pixels[:, :16], pixels[:, 48:] = (250, 10, 10), (10, 10, 250)
    alpha[:, :16] = alpha[:, 48:] = 255
    spread = extend_colour(pixels, alpha).astype(int)
    assert (spread[:, 16:18, 0] > 200).all() and (spread[:, 46:48, 2] > 200).all()
    assert (np.diff(spread[16, 16:48, 0]) <= 2).all(), "the colours should fade into each other"


@pytest.mark.parametrize("value", [0, 1, 255])
def test_extend_colour_returns_the_array_if_all_pixels_are_reliable(value):
    pixels = np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8)
    assert extend_colour(pixels, np.full((9, 9), value, np.uint8)) is pixels


@pytest.mark.parametrize("dtype", FULL)
def test_colours_of_nearly_invisible_pixels_are_replaced(dtype):
    full = FULL[dtype]
    pixels = (np.random.default_rng(2).random((40, 40, 3)) * full).astype(dtype)
    alpha = np.full((40, 40), full / 255, dtype)
    pixels[8:32, 8:32], alpha[8:32, 8:32] = full * 0.5, full
    spread = extend_colour(pixels, alpha) / np.float64(full)
    assert np.abs(spread - 0.5).max() < 0.2
    assert np.abs(spread - 0.5).mean() < 0.06


def test_faint_shadows_keep_their_colour():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[..., 2] = np.linspace(20, 200, 32)
    alpha = np.full((32, 32), 3, np.uint8)
    assert extend_colour(pixels, alpha) is pixels
    alpha[:2, :2] = 255
    changed = np.abs(extend_colour(pixels, alpha).astype(int) - pixels)
    assert (changed * (alpha / 255)[..., None]).max() < 1, "what a viewer sees, in levels"


def test_single_visible_pixel_fills_images_of_any_shape():
    for shape in ((1, 1), (1, 9), (7, 1), (5, 6)):
        pixels, alpha = np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32)
        pixels[0, 0], alpha[0, 0] = 0.25, 1e-30
        assert np.allclose(extend_colour(pixels, alpha), 0.25)


def test_dark_colours_around_a_real_cutout_are_replaced(data):
    image = read_image(data / "images/generated/cutout.png")
    assert image.alpha is not None
    hidden, visible = image.alpha == 0, image.alpha >= 4
    assert hidden.any()
    spread = extend_colour(image.pixels, image.alpha)
    assert np.array_equal(spread[visible], image.pixels[visible])
    edge = hidden[:, 1:] & visible[:, :-1]
    steps = np.abs(spread[:, 1:].astype(int) - spread[:, :-1])[edge].mean()
    black = np.where(hidden[..., None], 0, image.pixels).astype(int)
    assert steps < np.abs(black[:, 1:] - black[:, :-1])[edge].mean() / 3


@pytest.mark.parametrize("dtype", FULL)
def test_unmultiply_inverts_premultiplication(dtype):
    rng = np.random.default_rng(3)
    full = FULL[dtype]
    colour = (rng.random((20, 20, 3)) * full).astype(dtype)
    alpha = (full * (0.5 + rng.random((20, 20)) / 2)).astype(dtype)
    product = colour * (alpha / full)[..., None]
    product = (np.rint(product) if full > 1 else product).astype(dtype)
    plain = unmultiply(product, alpha).astype(float)
    assert np.abs(plain - colour).max() <= (1.01 if full > 1 else 1e-6)
    assert (unmultiply(np.zeros_like(colour), np.zeros_like(alpha)) == 0).all()


def stretched(plane, height, width):
    """Nearest-neighbour upscaling in place of a network."""
    rows = np.arange(height) * plane.shape[0] // height
    columns = np.arange(width) * plane.shape[1] // width
    return plane[rows][:, columns]


@pytest.mark.parametrize("dtype", FULL)
@pytest.mark.parametrize("size", [(80, 96), (53, 91), (20, 24), (13, 7)])
def test_flat_alpha_is_exact_at_any_size(dtype, size):
    full = FULL[dtype]
    source = np.zeros((20, 24), dtype)
    source[:, 8:16], source[:, 16:] = full * 0.3, full
    large = stretched(source, *size).astype(np.float64)
    faulty = large + np.random.default_rng(0).uniform(-0.02, 0.02, size) * full
    alpha = faulty.clip(0, full).astype(dtype)
    hold_to_source(alpha, source)
    middle = (np.arange(size[1]) + 0.5) * 24 / size[1]
    for low, high, value in ((0, 7, 0), (9, 15, source[0, 8]), (17, 24, full)):
        assert (alpha[:, (middle > low) & (middle < high)] == value).all()


@pytest.mark.parametrize("dtype", FULL)
def test_shifted_edge_is_moved_back(dtype):
    full = FULL[dtype]
    fine = np.zeros((64, 64), np.float32)
    cv2.circle(fine, (30, 33), 20, 1, -1, cv2.LINE_AA)
    source = (cv2.resize(fine, (16, 16), interpolation=cv2.INTER_AREA) * full).astype(dtype)
    eroded = (cv2.erode(fine, np.ones((3, 3))) * full).astype(dtype)
    held = eroded.copy()
    hold_to_source(held, source)

    def lack(alpha):
        mean = cv2.resize(alpha / np.float64(full), (16, 16), interpolation=cv2.INTER_AREA)
        return np.abs(mean - source / np.float64(full))

    assert lack(held).max() < lack(eroded).max() / 2
    assert lack(held).sum() < lack(eroded).sum() / 2


def test_sharpened_slope_becomes_a_slope_again():
    fine = np.linspace(0, 255, 128)[None].repeat(64, 0)
    source = cv2.resize(fine, (32, 16), interpolation=cv2.INTER_AREA).astype(np.uint8)
    stepped = (np.rint(fine / 64) * 64).clip(0, 255).astype(np.uint8)
    hold_to_source(stepped, source)
    assert np.abs(stepped - fine).max() <= 4


def test_row_chunks_give_the_result_of_the_whole_array(monkeypatch):
    source = np.random.default_rng(0).integers(0, 256, (70, 30), np.uint8)
    whole = np.random.default_rng(1).integers(0, 256, (233, 101), np.uint8)
    chunked = whole.copy()
    hold_to_source(whole, source)
    monkeypatch.setattr("upscale.images.pixels.row_chunks.CHUNK_SAMPLES", 17 * 101)
    hold_to_source(chunked, source)
    assert np.array_equal(whole, chunked)
