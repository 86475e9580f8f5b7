"""Grids: every image is there pixel by pixel, and words stay below their own."""

from __future__ import annotations

import numpy as np
import pytest
from upscale_training.sample_grid import BACKGROUND, Cell, draw_grid

LONG = "blur generalised aniso 15 1.7/1.4 66° beta 0.6"
WORDS = (LONG, "down 0.43 area", "grey poisson 1.94", "jpeg 72", LONG, "to result bilinear", LONG)


def noise(height, width, seed):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def places_of(grid, pixels):
    """Where pixels stand in a grid: (top, left)."""
    height, width = pixels.shape[:2]
    found = []
    for top, left in np.argwhere((grid == pixels[0, 0]).all(2)):
        if np.array_equal(grid[top : top + height, left : left + width], pixels):
            found.append((int(top), int(left)))
    return found


def grid_of(count, height=48, width=72, factor=4, words=WORDS):
    original = noise(height * factor, width * factor, 99)
    small = [noise(height, width, seed) for seed in range(count)]
    cells = [Cell("original", (), original)]
    cells += [Cell(str(place), words, pixels) for place, pixels in enumerate(small, 1)]
    return draw_grid("photo.png", "seed 0", cells), original, small


def test_every_image_occurs_once_scaled_by_whole_pixels():
    grid, original, small = grid_of(5)
    assert len(places_of(grid, original)) == 1
    upscaled = [pixels.repeat(4, 0).repeat(4, 1) for pixels in small]
    places = [places_of(grid, pixels) for pixels in upscaled]
    assert all(len(found) == 1 for found in places)
    rows_first = [found[0] for found in places]
    assert rows_first == sorted(rows_first)  # in reading order, after the original
    assert places_of(grid, original)[0] < rows_first[0]


def test_sixteen_samples_and_the_original_fit_a_screen():
    grid, _, _ = grid_of(16)
    assert grid.shape[1] <= 1920
    assert grid.shape[0] <= 1200


@pytest.mark.parametrize("width", [6, 24, 72, 100])
def test_captions_do_not_overlap_the_neighbour(width):
    grid, original, _ = grid_of(5, 48, width)
    [(top, left)] = places_of(grid, upscaled_to_show(original))
    wide = upscaled_to_show(original).shape[1]
    columns = range(left + wide, grid.shape[1], wide + 20)
    assert len(columns) > 1
    for first in columns:
        between = grid[top:, first : first + 20]
        assert (between == BACKGROUND).all()
    # Words there are: what is neither background nor image, below the second cell.
    below = grid[top + len(upscaled_to_show(original)) :, left + wide + 20 : left + 2 * wide + 20]
    assert (below.max(2) > 150).sum() > 500


def upscaled_to_show(pixels):
    """As `draw_grid` shows the widest image: at least 240 pixels wide."""
    factor = -(-240 // pixels.shape[1])
    return pixels.repeat(factor, 0).repeat(factor, 1)


def test_a_single_image_is_a_grid():
    pixels = noise(30, 40, 1)
    grid = draw_grid("one.png", "", [Cell("original", ("a", "b"), pixels)])
    assert len(places_of(grid, upscaled_to_show(pixels))) == 1
