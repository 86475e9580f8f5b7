from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from upscale.tiling.grid import Rect, even_spans


@given(st.integers(0, 500), st.integers(1, 500), st.integers(1, 200))
def test_even_spans_cover_a_range_once_with_the_fewest_nearly_equal_pieces(start, length, side):
    spans = even_spans(start, start + length, side)
    assert [index for a, b in spans for index in range(a, b)] == list(range(start, start + length))
    sizes = [b - a for a, b in spans]
    assert max(sizes) <= side
    assert max(sizes) - min(sizes) <= 1
    assert len(spans) == -(-length // side)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40))
def test_tiles_cover_a_rectangle_exactly_once(height, width, rows, columns):
    rect = Rect(3, 3 + height, 5, 5 + width)
    seen = [
        (y, x)
        for tile in rect.tiles(rows, columns)
        for y in range(tile.top, tile.bottom)
        for x in range(tile.left, tile.right)
    ]
    assert len(seen) == len(set(seen)) == height * width


def test_growing_goes_beyond_the_image_and_clipping_comes_back():
    grown = Rect(2, 8, 90, 100).grow(5)
    assert grown == Rect(-3, 13, 85, 105)
    assert grown.clip(10, 100) == Rect(0, 10, 85, 100)


def test_coordinates_relative_to_another_rectangle_are_upscaled():
    assert Rect(12, 14, 30, 33).relative_to(Rect(10, 20, 25, 40), 4) == Rect(8, 16, 20, 32)
