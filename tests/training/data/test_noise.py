"""Patches of noise: which ones are cut, and why others are not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from upscale_training.data.derive import DeriveResult, derive
from upscale_training.data.index import images_below
from upscale_training.data.noise import NoiseCollector
from upscale_training.data.pixels import read_rgb, write_png


def collect(source, target, **settings):
    return dict(derive(NoiseCollector(**settings), source, images_below(source), target, 1))


@pytest.fixture
def photo(tmp_path):
    """2x3 areas of 32 pixels with noise of 4 levels: plain, dark, and with content."""
    values = np.full((64, 96, 3), 120.0)
    values[:32, 32:64] = 10
    values[:32, 64:] += np.linspace(-30, 30, 32)[:, None]
    values += 4 * np.random.default_rng(0).standard_normal((64, 96, 1))
    write_png(values.round().clip(0, 255).astype(np.uint8), tmp_path / "in/sub/photo.png")
    return tmp_path / "in"


def test_plain_areas_are_cut_and_the_others_are_counted(photo, tmp_path):
    found = collect(photo, tmp_path / "out", size=32, mean=50)
    omitted = {"too dark": 1, "too much content": 1}
    assert found == {"sub/photo.png": DeriveResult(4, 0, omitted)}
    pixels = read_rgb(photo / "sub/photo.png")
    names = [f"sub/photo_n00{number}.png" for number in (1, 4, 5, 6)]
    assert images_below(tmp_path / "out") == names
    assert (read_rgb(tmp_path / "out" / names[2]) == pixels[32:, 32:64]).all()


def test_a_second_run_keeps_the_patches(photo, tmp_path):
    collect(photo, tmp_path / "out", size=32)
    (tmp_path / "out/sub/photo_n004.png").unlink()
    found = collect(photo, tmp_path / "out", size=32)
    assert found["sub/photo.png"] == DeriveResult(1, 4, {"too much content": 1})


def test_only_whole_patches_are_cut(photo, tmp_path):
    assert collect(photo, tmp_path / "out", size=65) == {"sub/photo.png": DeriveResult()}


def test_the_same_patches_pass_as_in_realsrs_code(data, tmp_path):
    """Its rule, written anew: strides of the size, population variance of Pillow's grey levels."""
    source, size = data / "photos/scenes", 32
    collect(source, tmp_path / "out", size=size, variance=20, mean=50)
    expected = []
    for name in images_below(source):
        image = Image.open(source / name).convert("RGB")
        number = 0
        for top in range(0, image.height - size + 1, size):
            for left in range(0, image.width - size + 1, size):
                number += 1
                box = (left, top, left + size, top + size)
                grey = np.array(image.convert("L").crop(box))
                if np.var(grey) < 20 and np.mean(grey) > 50:
                    expected.append(f"{name.removesuffix('.webp')}_n{number:03}.png")
    assert len(expected) > 20
    assert images_below(tmp_path / "out") == sorted(expected)
