from __future__ import annotations

import numpy as np
import pytest

from upscale.engine.resize import resize


@pytest.mark.parametrize("dtype, level", [(np.uint8, 77), (np.uint16, 40001), (np.float32, 0.3)])
def test_a_flat_picture_stays_flat_in_its_own_depth(dtype, level):
    picture = np.full((21, 30, 3), level, dtype)
    for size in ((7, 5), (61, 83)):
        result = resize(picture, *size)
        assert result.dtype == dtype
        assert result.shape == (size[1], size[0], 3)
        assert np.allclose(result, picture[0, 0, 0], atol=1e-6)


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 254
    result = resize(stripes, 23, 23)[:, 2:-2]
    assert np.abs(result.astype(int) - 127).max() < 12


def test_sharp_edges_do_not_wrap_around():
    edge = np.zeros((40, 40, 3), np.uint8)
    edge[:, 20:] = 255
    result = resize(edge, 93, 93)
    assert result[:, :40].max() < 40
    assert result[:, 53:].min() > 215


def test_sixteen_bits_are_not_squeezed_through_eight():
    ramp = np.linspace(30000, 30200, 64).astype(np.uint16)
    picture = np.broadcast_to(ramp[None, :, None], (16, 64, 3))
    assert len(np.unique(resize(picture, 256, 16))) > 150
