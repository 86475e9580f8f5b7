from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.errors import OutputError
from upscale.images import Image, read_image, write_file
from upscale.jobs.bicubic import upscale_bicubic


@pytest.mark.parametrize("shape", [(7, 9, 3), (7, 9, 1), (5, 1, 3), (1, 1, 1)])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_result_equals_pillow_resize(tmp_path, shape, scale):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    write_file(Image(pixels), tmp_path / "small.png", format="png")
    upscale_bicubic(tmp_path / "small.png", tmp_path / "in" / "large.png", scale)
    large = read_image(tmp_path / "in" / "large.png").pixels
    assert large.shape == (shape[0] * scale, shape[1] * scale, shape[2])
    mode = PILImage.fromarray(pixels if shape[2] == 3 else pixels[..., 0])
    expected = mode.resize((shape[1] * scale, shape[0] * scale), PILImage.Resampling.BICUBIC)
    np.testing.assert_array_equal(large.squeeze(), np.asarray(expected).squeeze())


def test_existing_file_is_not_replaced(tmp_path):
    write_file(Image(np.zeros((2, 2, 3), np.uint8)), tmp_path / "a.png", format="png")
    with pytest.raises(OutputError, match="exists already"):
        upscale_bicubic(tmp_path / "a.png", tmp_path / "a.png", 2)
