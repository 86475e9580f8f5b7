from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
import torch

from upscale.engine import colour_correction
from upscale.engine.colour_correction import keep_colour, keep_colour_tensor

FULL = {np.uint8: 255, np.uint16: 65535, np.float32: 1}


def as_type(levels: np.ndarray, dtype) -> np.ndarray:
    """Convert levels of 8 bits to a type."""
    values = levels.clip(0, 255) / 255 * FULL[dtype]
    return np.ascontiguousarray(values if dtype is np.float32 else np.rint(values), dtype)


def as_levels(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float64) / FULL[pixels.dtype.type] * 255


@pytest.fixture(scope="module")
def kitten(data) -> np.ndarray:
    return cv2.imread(str(data / "photos" / "kitten.webp"))[200:296, 400:520, ::-1].astype(float)


def network(source: np.ndarray, size: tuple[int, int], gain=(0.92, 0.97, 1.05), offset=(-3, 2, 4)):
    """Enlarge an image as a network that shifts colours does."""
    large = cv2.resize(source, size, interpolation=cv2.INTER_CUBIC)
    large = large if large.ndim == 3 else large[..., None]
    return large * np.array(gain)[: large.shape[2]] + np.array(offset)[: large.shape[2]]


def regions(levels: np.ndarray, count: int = 6) -> np.ndarray:
    """Return the mean colours of count x count regions."""
    height, width, channels = levels.shape
    cropped = levels[: height // count * count, : width // count * count]
    blocks = cropped.reshape(count, height // count, count, width // count, channels)
    return blocks.mean((1, 3))


@pytest.mark.parametrize("size", [(480, 384), (300, 240), (190, 151), (120, 96), (60, 48)])
@pytest.mark.parametrize("dtype", FULL)
def test_shifted_colours_return_to_those_of_the_source(kitten, size, dtype):
    large = as_type(network(kitten, size), dtype)
    wanted = regions(cv2.resize(kitten, size, interpolation=cv2.INTER_AREA))
    assert np.abs(regions(as_levels(large)) - wanted).max() > 5
    keep_colour(large, as_type(kitten, dtype))
    assert np.abs(regions(as_levels(large)) - wanted).max() < 1


def test_a_grey_image_keeps_its_only_channel(kitten):
    grey = kitten.mean(2, keepdims=True)
    large = as_type(network(grey, (480, 384)), np.uint8)
    keep_colour(large, as_type(grey, np.uint8))
    wanted = regions(cv2.resize(grey, (480, 384), interpolation=cv2.INTER_AREA)[..., None])
    assert np.abs(regions(as_levels(large)) - wanted).max() < 1


@pytest.mark.parametrize("level", [0, 1, 3, 40, 128, 254, 255])
@pytest.mark.parametrize("shift", [-12, -1, 2, 9])
def test_constant_images(level, shift):
    source = np.full((20, 30, 3), level, np.uint8)
    large = np.full((80, 120, 3), max(0, min(255, level + shift)), np.uint8)
    before = large.copy()
    keep_colour(large, source)
    assert np.unique(large).size == 1
    result = int(large[0, 0, 0])
    if before[0, 0, 0] == 0:
        assert result == 0  # a product of black is black
    else:
        assert abs(result - level) <= 1 or abs(result - level) < abs(int(before[0, 0, 0]) - level)
    if level > 12 and before.max() < 255:
        assert abs(result - level) <= 1


def test_black_and_white_of_text_stay():
    source = np.zeros((64, 96, 3), np.uint8)
    cv2.putText(source, "dark", (4, 40), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 2)
    source = (source > 127).astype(np.uint8) * np.uint8(255)
    large = cv2.resize(source, (384, 256), interpolation=cv2.INTER_NEAREST)
    shifted = np.where(large == 0, 0, 235).astype(np.uint8)
    keep_colour(shifted, source)
    assert (shifted[large == 0] == 0).all()
    assert shifted[large == 255].mean() > 250
    brighter = large.copy()
    brighter[brighter == 0] = 4
    keep_colour(brighter, source)
    assert (brighter[large == 255] == 255).all()
    assert brighter[large == 0].mean() < 4


def test_clipped_highlights_stay_where_their_surroundings_get_darker():
    source = np.full((64, 64, 3), 150, np.uint8)
    source[24:40, 24:40] = 255
    large = source.repeat(4, 0).repeat(4, 1)
    large[large == 150] = 170
    keep_colour(large, source)
    assert (large[100:156, 100:156] == 255).all()
    assert abs(large[:40].mean() - 150) <= 1


def test_a_star_does_not_grow_with_the_sky_around_it():
    source = np.full((64, 64, 3), 6, np.uint8)
    source[32, 32] = 120
    large = source.repeat(4, 0).repeat(4, 1)
    large[large == 6] = 2
    keep_colour(large, source)
    assert abs(int(large[0, 0, 0]) - 6) <= 1
    assert large.max() <= 140


def test_equal_colours_leave_the_result_unchanged(kitten):
    source = as_type(kitten, np.uint16)
    large = source.repeat(4, 0).repeat(4, 1)
    before = large.copy()
    keep_colour(large, source)
    assert np.array_equal(large, before)


@pytest.mark.parametrize("size", [(480, 384), (190, 151)])
def test_the_result_does_not_depend_on_the_chunks(kitten, size, monkeypatch):
    source = as_type(kitten, np.float32)
    large = as_type(network(kitten, size), np.float32)
    whole = large.copy()
    keep_colour(whole, source)
    monkeypatch.setattr(colour_correction, "CHUNK_SAMPLES", 700)
    keep_colour(large, source)
    assert np.abs(large - whole).max() < 1e-6


def test_borders_of_repeating_images_are_treated_like_the_middle(kitten):
    source, large = as_type(kitten, np.float32), as_type(network(kitten, (480, 384)), np.float32)
    moved = np.roll(large, (160, 200), (0, 1))
    keep_colour(large, source, "xy")
    keep_colour(moved, np.roll(source, (40, 50), (0, 1)), "xy")
    assert np.abs(np.roll(large, (160, 200), (0, 1)) - moved).max() < 1e-5


def test_tensors_get_the_values_of_arrays(kitten):
    source, large = as_type(kitten, np.float32), as_type(network(kitten, (480, 384)), np.float32)
    tensors = [torch.from_numpy(each.transpose(2, 0, 1)[None].copy()) for each in (large, source)]
    keep_colour(large, source)
    result = keep_colour_tensor(*tensors)
    assert result is tensors[0]
    assert np.abs(result[0].permute(1, 2, 0).numpy() - large).max() < 1e-6


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 2)])
def test_tiny_images(shape):
    source = np.full((*shape, 3), 100, np.uint8)
    large = np.full((shape[0] * 4, shape[1] * 4, 3), 90, np.uint8)
    keep_colour(large, source)
    assert (large == 100).all()


def test_floats_outside_the_range_are_clamped_as_for_the_network():
    source = np.full((16, 16, 3), 0.5, np.float32)
    source[:, :8] = 1.5
    large = source.clip(0, 1).repeat(4, 0).repeat(4, 1)
    before = large.copy()
    keep_colour(large, source)
    assert np.abs(large - before).max() < 1e-6


def test_no_float_copy_of_the_result_is_made(monkeypatch):
    monkeypatch.setattr(colour_correction, "CHUNK_SAMPLES", 2**14)
    source = np.full((128, 128, 3), 100, np.uint8)
    large = np.full((4096, 4096, 3), 90, np.uint8)
    peak = 0
    read = colour_correction._floats

    def counted(pixels):
        nonlocal peak
        peak = max(peak, pixels.size)
        return read(pixels)

    monkeypatch.setattr(colour_correction, "_floats", counted)
    tracemalloc.start()
    keep_colour(large, source)
    _, allocated = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (large == 100).all()
    assert peak <= 3 * 32 * 4096  # a row of cells is the least that can be averaged
    assert allocated < large.size
