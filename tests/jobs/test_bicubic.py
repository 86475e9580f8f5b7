from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from upscale.errors import OutputError
from upscale.jobs.bicubic import enlarge_bicubic
from upscale.pictures import Picture, read_picture, write_file


@pytest.mark.parametrize("shape", [(7, 9, 3), (7, 9, 1), (5, 1, 3), (1, 1, 1)])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_each_channel_is_enlarged(tmp_path, shape, scale):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    write_file(Picture(pixels), tmp_path / "small.png", format="png")
    enlarge_bicubic(tmp_path / "small.png", tmp_path / "in" / "large.png", scale)
    found = read_picture(tmp_path / "in" / "large.png").pixels
    assert found.shape == (shape[0] * scale, shape[1] * scale, shape[2])
    mode = Image.fromarray(pixels if shape[2] == 3 else pixels[..., 0])
    wanted = mode.resize((shape[1] * scale, shape[0] * scale), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(found.squeeze(), np.asarray(wanted).squeeze())


def test_nothing_is_replaced(tmp_path):
    write_file(Picture(np.zeros((2, 2, 3), np.uint8)), tmp_path / "a.png", format="png")
    with pytest.raises(OutputError, match="exists already"):
        enlarge_bicubic(tmp_path / "a.png", tmp_path / "a.png", 2)
