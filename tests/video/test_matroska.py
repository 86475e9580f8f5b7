"""Pixel aspect ratio in Matroska headers; complete videos are tested in test_streams.py."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.video.clips import Clip, even, make
from upscale.video.matroska import display_size, set_pixel_aspect


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((1440, 1080), Fraction(4, 3)),
        ((1440, 1152), Fraction(16, 11)),
        ((1440, 1152), Fraction(64, 45)),
        ((1280, 960), Fraction(10, 11)),
        ((64, 48), Fraction(1, 3)),
        ((7680, 4320), Fraction(3, 2)),
        ((17, 13), Fraction(171, 173)),
    ],
)
def test_display_size_is_exact_and_not_much_larger(size, shape):
    width, height = size
    across, down = display_size(size, shape)
    assert abs(Fraction(across * height, down * width) / shape - 1) < Fraction(1, 1000)
    assert height <= down < max(height * 2, 256)


def test_video_of_one_pixel_width_has_a_display_size():
    assert min(display_size((1, 5000), Fraction(1, 100))) >= 1


def test_file_without_placeholder_is_unchanged(tmp_path):
    path = make(Clip(even(2)), tmp_path / "clip.mkv")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="no room"):
        set_pixel_aspect(path, (64, 48), Fraction(4, 3))
    assert path.read_bytes() == before
