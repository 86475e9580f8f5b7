from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import cases
from upscale.engine.resize import resize, resize_tensor


@pytest.mark.parametrize("dtype, level", [(np.uint8, 77), (np.uint16, 40001), (np.float32, 0.3)])
def test_a_flat_image_stays_flat_in_its_own_depth(dtype, level):
    image = np.full((21, 30, 3), level, dtype)
    for size in ((7, 5), (61, 83)):
        result = resize(image, *size)
        assert result.dtype == dtype
        assert result.shape == (size[1], size[0], 3)
        assert np.allclose(result, image[0, 0, 0], atol=1e-6)


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 254
    result = resize(stripes, 23, 23)[:, 2:-2]
    assert np.abs(result.astype(int) - 127).max() < 12


def test_sharp_edges_do_not_overflow():
    edge = np.zeros((40, 40, 3), np.uint8)
    edge[:, 20:] = 255
    result = resize(edge, 93, 93)
    assert result[:, :40].max() < 40
    assert result[:, 53:].min() > 215


def test_16_bit_images_keep_their_precision():
    ramp = np.linspace(30000, 30200, 64).astype(np.uint16)
    image = np.broadcast_to(ramp[None, :, None], (16, 64, 3))
    assert len(np.unique(resize(image, 256, 16))) > 150


@settings(max_examples=cases(60))
@given(
    sides=st.tuples(*[st.integers(1, 700)] * 2),
    target=st.tuples(*[st.integers(1, 700)] * 2),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_tensors_are_resized_like_arrays(sides, target, channels, seed):
    image = np.random.default_rng(seed).random((*sides, channels), np.float32)
    expected = resize(image, *target)
    result = resize_tensor(torch.from_numpy(image).permute(2, 0, 1)[None], *target)
    assert result.shape == (1, channels, target[1], target[0])
    assert np.abs(result[0].permute(1, 2, 0).numpy() - expected).max() < 4e-6


def test_a_tensor_of_the_target_size_is_returned():
    image = torch.rand(1, 3, 4, 5)
    assert resize_tensor(image, 5, 4) is image
