"""Resizing against MATLAB's (basicsr's port), Pillow's and exact averages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from upscale_training.degradation.resizing import resize

KINDS = ["nearest", "area", "bilinear", "bicubic", "lanczos"]
ANTIALIASED = ["area", "bilinear", "bicubic", "lanczos"]


@pytest.mark.parametrize("divisor", [2, 3, 4])
def test_bicubic_is_matlabs(basicsr, photographs, divisor):
    images = photographs[..., :84, :120]
    theirs = basicsr.imresize(images[0], 1 / divisor)
    ours = resize(images, theirs.shape[-2:], "bicubic")
    assert (ours[0] - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("size", [(37, 50), (96, 30), (130, 150)])
@pytest.mark.parametrize("kind", ["bilinear", "bicubic", "lanczos"])
def test_filters_are_pillows_away_from_the_edge(photographs, kind, size):
    plane = photographs[0, 0]
    filters = {name: Image.Resampling[name.upper()] for name in ("bilinear", "bicubic", "lanczos")}
    theirs = Image.fromarray(plane.numpy(), "F").resize(size[::-1], filters[kind])
    ours = resize(plane[None, None], size, kind)[0, 0]
    difference = np.abs(ours.numpy() - np.asarray(theirs))
    margin = [max(side // 8, 8) for side in size]
    assert difference[margin[0] : -margin[0], margin[1] : -margin[1]].max() < 1e-5


def test_area_averages_exactly_what_a_pixel_covers(photographs):
    whole = resize(photographs, (24, 32), "area")
    assert torch.allclose(whole, F.avg_pool2d(photographs, 4), atol=1e-6)
    part = resize(torch.tensor([[[[0.0, 3.0, 6.0]]]]), (1, 2), "area")
    assert torch.allclose(part, torch.tensor([[[[1.0, 5.0]]]]))


def test_area_does_not_repeat_pixels_when_it_upscales(photographs):
    size = (192, 256)
    upscaled = resize(photographs, size, "area")
    assert not torch.allclose(upscaled, F.interpolate(photographs, size=size, mode="nearest"))
    assert torch.allclose(upscaled, resize(photographs, size, "bilinear"))


def test_nearest_takes_the_pixel_at_the_centre(photographs):
    for size in ((24, 32), (41, 100), (200, 129)):
        theirs = F.interpolate(photographs, size=size, mode="nearest-exact")
        assert torch.equal(resize(photographs, size, "nearest"), theirs)


@pytest.mark.parametrize("kind", ANTIALIASED)
def test_fine_stripes_become_grey_and_not_coarse_stripes(kind):
    stripes = torch.zeros(1, 1, 8, 240)
    stripes[..., ::2] = 1
    shrunk = resize(stripes, (8, 70), kind)
    assert (shrunk[..., 6:-6] - 0.5).abs().max() < 0.2
    official = F.interpolate(stripes, size=(8, 70), mode="bicubic")
    assert (official - 0.5).abs().max() > 0.4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before, after", [((1, 1), (3, 5)), ((3, 200), (1, 1)), ((7, 5), (9, 4))])
def test_flat_images_stay_flat_at_any_size(kind, before, after):
    found = resize(torch.full((2, 3, *before), 0.25), after, kind)
    assert found.shape == (2, 3, *after)
    assert torch.allclose(found, torch.tensor(0.25), atol=1e-6)


@pytest.mark.parametrize("kind", ANTIALIASED)
def test_pixel_centres_stay_in_place(kind):
    ramp = torch.linspace(0, 1, 101).expand(1, 1, 101, 101)
    for size in (31, 64, 150):
        found = resize(ramp, (size, size), kind)
        expected = ((torch.arange(size) + 0.5) * 101 / size - 0.5) / 100
        inner = slice(size // 6, -size // 6)
        assert (found[0, 0, 5, inner] - expected[inner]).abs().max() < 2e-3
