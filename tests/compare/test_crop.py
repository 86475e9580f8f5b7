from __future__ import annotations

import numpy as np
import pytest

from upscale.compare import Box, choose_crop, choose_difference
from upscale.compare.crop import CROP_HEIGHT, CROP_WIDTH
from upscale.images import read_image

WIDTH, HEIGHT = 1200, 900


def leaves(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return structure in [0, 1] that is more than one pixel wide."""
    coarse = np.random.default_rng(seed).random((height // 4 + 1, width // 4 + 1))
    return coarse.repeat(4, 0).repeat(4, 1)[:height, :width]


def flat_with(patch: np.ndarray, x: int, y: int, dtype: str = "uint8", channels: int = 3):
    """Return a grey image that contains a patch."""
    plane = np.full((HEIGHT, WIDTH), 0.5)
    plane[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
    full = 1 if dtype == "float32" else np.iinfo(dtype).max
    return np.repeat((plane * full).astype(dtype)[..., None], channels, axis=2)


def overlap(box: Box, x: int, y: int, width: int, height: int) -> float:
    """Return the share of an area that a box covers."""
    across = min(box.x + box.width, x + width) - max(box.x, x)
    down = min(box.y + box.height, y + height) - max(box.y, y)
    return max(0, across) * max(0, down) / (width * height)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("x", "y"), [(0, 0), (800, 100), (960, 720), (333, 555)])
def test_crop_shows_the_only_detail(dtype, channels, x, y):
    box = choose_crop(flat_with(leaves(160, 200), x, y, dtype, channels))
    assert (box.width, box.height) == (CROP_WIDTH, CROP_HEIGHT)
    assert overlap(box, x, y, 200, 160) > 0.9


def test_crop_of_a_flat_image_is_its_centre():
    box = choose_crop(np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    assert abs(box.x + box.width / 2 - WIDTH / 2) <= 8
    assert abs(box.y + box.height / 2 - HEIGHT / 2) <= 8


def test_fine_noise_does_not_outweigh_structure():
    noise = np.random.default_rng(1).normal(0.5, 0.05, (192, 288)).clip(0, 1)
    pixels = flat_with(noise, 64, 64)
    pixels[600:792, 800:1088] = (leaves(192, 288) * 90 + 80).astype(np.uint8)[..., None]
    assert overlap(choose_crop(pixels), 800, 600, 288, 192) > 0.9


def test_hard_frame_does_not_outweigh_soft_detail():
    pixels = flat_with(leaves(192, 288) * 0.3 + 0.35, 400, 400)
    pixels[:40] = 0
    pixels[-40:] = 255
    pixels[:, :40] = 0
    pixels[:, -40:] = 255
    assert overlap(choose_crop(pixels), 400, 400, 288, 192) > 0.9


def test_transparent_pixels_do_not_count():
    pixels = flat_with(leaves(192, 288), 100, 100)
    pixels[600:792, 800:1088] = (leaves(192, 288) * 60 + 80).astype(np.uint8)[..., None]
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    assert overlap(choose_crop(pixels, alpha), 100, 100, 288, 192) > 0.9
    alpha[:400] = 0
    assert overlap(choose_crop(pixels, alpha), 800, 600, 288, 192) > 0.9


@pytest.mark.parametrize("size", [(1, 1), (288, 192), (384, 288), (179, 179), (2000, 20)])
def test_small_image_is_not_cropped(size):
    width, height = size
    assert choose_crop(np.zeros((height, width, 1), np.uint8)) == Box(0, 0, width, height)


@pytest.mark.parametrize("size", [(5000, 30), (31, 5001), (577, 397), (389, 1003), (90001, 3)])
def test_crop_fits_in_the_image(size):
    width, height = size
    pixels = (leaves(height, width) * 255).astype(np.uint8)[..., None]
    box = choose_crop(pixels)
    assert (box.width, box.height) == (min(width, CROP_WIDTH), min(height, CROP_HEIGHT))
    assert min(box.x, box.y) >= 0
    assert box.fits_in(size)


def test_no_other_window_has_more_detail():
    """Compare with a direct implementation, without row chunks and integral images."""
    pixels = np.random.default_rng(3).integers(0, 256, (608, 720, 3)).astype(np.uint8)
    pixels = (pixels * np.linspace(0, 1, 720)[None, :, None] ** 2).astype(np.uint8)
    luma = (pixels / 255) @ np.array([0.299, 0.587, 0.114])
    halved = luma.reshape(304, 2, 360, 2).mean((1, 3))
    right = np.zeros_like(halved)
    right[:, :-1] = halved[:, 1:] - halved[:, :-1]
    down = np.zeros_like(halved)
    down[:-1] = halved[1:] - halved[:-1]
    detail = (right**2 + down**2) ** 0.25

    def score(x: int, y: int) -> float:
        return detail[y // 2 : (y + CROP_HEIGHT) // 2, x // 2 : (x + CROP_WIDTH) // 2].sum()

    box = choose_crop(pixels)
    best = max(
        score(x, y)
        for x in range(0, 720 - CROP_WIDTH + 1, 8)
        for y in range(0, 608 - CROP_HEIGHT + 1, 8)
    )
    # row chunks end in a gradient of 0, which costs a little detail there
    assert score(box.x, box.y) >= best * 0.995


def test_nan_is_ignored():
    pixels = flat_with(leaves(160, 200), 800, 100, "float32")
    pixels[500:600, 100:200] = np.nan
    assert overlap(choose_crop(pixels), 800, 100, 200, 160) > 0.9


def test_crop_of_a_photo_shows_the_face(data):
    image = read_image(data / "photos/kitten.webp")
    box = choose_crop(image.pixels)
    # the head lies within 487..795 x 277..645, in a meadow that is out of focus
    assert box.x >= 480
    assert box.x + box.width <= 800
    assert box.y >= 275
    assert box.y + box.height <= 650


def test_margin_is_clipped_at_the_edges():
    assert Box(10, 80, 50, 40).expanded(30, (100, 140)) == Box(0, 50, 90, 90)
    assert Box(0, 0, 100, 140).expanded(64, (100, 140)) == Box(0, 0, 100, 140)


# --- differences -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(("x", "y"), [(0, 0), (800, 100), (960, 720), (333, 555)])
def test_crop_shows_the_largest_difference_instead_of_most_detail(dtype, x, y):
    original = flat_with(leaves(200, 280), 460, 350, dtype)
    changed = original.copy()
    changed[y : y + 40, x : x + 60] = 0
    box = choose_difference(original, [changed])
    assert (box.width, box.height) == (CROP_WIDTH, CROP_HEIGHT) and box.fits_in((WIDTH, HEIGHT))
    assert overlap(box, x, y, 60, 40) > 0.9


def test_crop_of_equal_images_is_their_centre():
    original = flat_with(leaves(200, 280), 0, 0)
    box = choose_difference(original, [original])
    assert abs(box.x + box.width / 2 - WIDTH / 2) <= 8
    assert abs(box.y + box.height / 2 - HEIGHT / 2) <= 8


def test_differences_of_all_versions_are_summed():
    original = flat_with(leaves(1, 1), 0, 0)
    left, right = original.copy(), original.copy()
    left[400:500, 100:200] += 30
    right[400:500, 900:1000] += 20
    assert choose_difference(original, [left, right]).x < 200
    assert choose_difference(original, [left, right, right, right]).x > 600


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 300), (900, 5), (192, 288), (400, 288)])
def test_difference_crop_fits_in_small_images(height, width):
    original = np.zeros((height, width, 1), np.uint8)
    changed = original.copy()
    changed[-1, -1] = 255
    box = choose_difference(original, [changed])
    assert box.fits_in((width, height))
    assert (box.width, box.height) == (min(width, CROP_WIDTH), min(height, CROP_HEIGHT))
