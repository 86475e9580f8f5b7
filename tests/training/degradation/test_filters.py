"""Filtering and sharpening against basicsr's, and on images smaller than a kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from upscale_training.degradation.filters import blur, filter_each, filter_together, mirror, sharpen
from upscale_training.degradation.operations import Blur

BLURS = [Blur("aniso", 21, 3, 0.5, 0.7), Blur("iso", 7, 2), Blur("sinc", 13, cutoff=1.2)]


@pytest.mark.parametrize("size", [1, 7, 21])
def test_each_image_is_filtered_by_its_own_kernel(basicsr, smooth, size):
    images, kernels = smooth(3, 40, 57), torch.rand(3, size, size)
    kernels /= kernels.sum((1, 2), keepdim=True)
    theirs = basicsr.filter2D(images, kernels)
    assert (filter_each(images, kernels) - theirs).abs().max() < 2e-6
    assert (filter_together(images, kernels) - theirs).abs().max() < 2e-6


def test_channels_last_images_are_filtered_as_others(smooth):
    images = smooth(3, 33, 40)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(blur(last, BLURS), blur(images, BLURS), atol=1e-6)


def test_an_image_does_not_depend_on_its_neighbours(smooth):
    images = smooth(3, 33, 40)
    together = blur(images, BLURS)
    for place in range(3):
        alone = blur(images[place : place + 1], BLURS[place : place + 1])
        assert torch.allclose(alone[0], together[place], atol=1e-6)


@pytest.mark.parametrize("height, width", [(1, 1), (1, 9), (5, 3), (10, 11), (30, 40)])
def test_edges_are_mirrored_at_any_size(height, width):
    images = torch.rand(1, 2, height, width)
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (10, 10), (10, 10)), mode="reflect")
    assert np.array_equal(mirror(images, 10).numpy(), expected)


def test_sharpening_is_the_official_one(basicsr, photographs):
    difference = (sharpen(photographs) - basicsr.USMSharp(50, 0)(photographs)).abs()
    assert difference.max() < 1e-5
    assert (sharpen(photographs) - photographs).abs().max() > 0.05


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_sharpening_computes_in_single_precision_for_any_float(photographs, kind):
    given = photographs.to(kind)
    found = sharpen(given)
    assert found.dtype == torch.float32
    assert torch.equal(found, sharpen(given.float()))
    assert torch.equal(given, photographs.to(kind))


def test_sharpening_takes_channels_last_and_odd_sizes(smooth):
    images = smooth(2, 37, 61)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(sharpen(last), sharpen(images), atol=1e-6)
    assert torch.allclose(sharpen(images[..., ::2]), sharpen(images[..., ::2].clone()), atol=1e-6)


def test_sharpening_takes_images_smaller_than_its_filter():
    flat = torch.full((2, 3, 9, 5), 0.3)
    assert torch.allclose(sharpen(flat), flat, atol=1e-6)
