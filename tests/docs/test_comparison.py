"""The before/after image is what the default network makes of the small photo."""

from __future__ import annotations

import runpy

import numpy as np
import pytest
from PIL import Image

from tests.docs.pages import ROOT

IMAGE = ROOT / "docs/images/before-after.webp"


def test_it_is_small():
    assert IMAGE.stat().st_size < 150_000


@pytest.mark.slow
def test_it_shows_the_output_of_the_network():
    expected = np.asarray(runpy.run_path(str(ROOT / "examples/before_after.py"))["comparison"]())
    with Image.open(IMAGE) as image:
        pixels = np.asarray(image.convert("RGB"))
    difference = np.abs(pixels.astype(int) - expected)
    half = expected.shape[1] // 2
    assert pixels.shape == expected.shape
    assert difference.mean() < 3, "only the loss of WebP"
    assert np.abs(expected[:, : half - 2].astype(int) - expected[:, half + 2 :]).mean() > 5
