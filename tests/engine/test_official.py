"""Tiled output on a photograph with the official 23-block weights."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from upscale import Upscaler, load_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return load_model("realesrgan-x4plus")


@pytest.fixture(scope="module")
def photograph(data):
    """A texture-rich crop, as float32 so that differences below one level show."""
    image = cv2.imread(str(data / "photos/scenes/flowers.webp"))[100:164, 60:140, ::-1]
    return image.astype(np.float32) / 255


@pytest.fixture(scope="module")
def whole(model, photograph):
    return Upscaler(model, device="cpu", tile=0).upscale(photograph)


@pytest.mark.parametrize("tile", [16, 33, 64])
def test_tiled_output_of_a_photograph_equals_untiled_output(model, photograph, whole, tile):
    tiled = Upscaler(model, device="cpu", tile=tile).run(photograph)
    assert tiled.report.tile == tile
    assert np.abs(tiled.pixels - whole).max() < 1e-4
    levels = [np.rint(image * 255) for image in (tiled.pixels, whole)]
    assert np.abs(levels[0] - levels[1]).max() <= 1


def test_padded_tiles_differ_visibly(model, photograph, whole):
    """Show with the tiles of other programs that the test above can fail."""
    upscaler = Upscaler(model, device="cpu", tile=0)
    left = upscaler.upscale(photograph[:, : 40 + 10])[:, : 40 * 4]
    right = upscaler.upscale(photograph[:, 40 - 10 :])[:, 10 * 4 :]
    padded = np.concatenate([left, right], axis=1)
    assert np.abs(padded - whole).max() > 10 / 255
