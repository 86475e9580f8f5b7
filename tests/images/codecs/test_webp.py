from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.images import read_image
from upscale.images.codecs.vp8_header import quality_of
from upscale.images.encoding import Encoding
from upscale.images.write import encode_file


@pytest.fixture
def photo(data):
    with PILImage.open(data / "photos/scenes/city.webp") as opened:
        return opened.convert("RGB")


@pytest.mark.parametrize("quality", [10, 40, 60, 75, 85, 95, 100])
def test_quality_of_a_file_is_that_of_a_jpeg_as_damaged(photo, pillow_bytes, quality):
    expected = 63 + 0.32 * quality
    measured = read_image(pillow_bytes(photo, "WEBP", quality=quality)).origin.quality
    assert measured == pytest.approx(expected, abs=1)


def test_transparency_does_not_hide_the_quality(photo, pillow_bytes):
    photo.putalpha(PILImage.linear_gradient("L").resize(photo.size))
    image = read_image(pillow_bytes(photo, "WEBP", quality=60))
    assert image.alpha is not None and image.origin.quality == pytest.approx(82, abs=1)


def test_lossless_file_has_no_quality(photo, pillow_bytes):
    origin = read_image(pillow_bytes(photo, "WEBP", lossless=True)).origin
    assert origin.lossless and origin.quality is None


def test_quality_of_the_source_does_not_change_that_of_the_output(photo, pillow_bytes):
    image = read_image(pillow_bytes(photo, "WEBP", quality=100))
    assert encode_file(image, "webp") == encode_file(image, "webp", Encoding(95))


@pytest.mark.parametrize("length", [0, 5, 10, 11, 14, 30])
def test_cut_or_damaged_frames_are_survived(photo, pillow_bytes, length):
    data = pillow_bytes(photo, "WEBP", quality=60)
    frame = data[data.index(b"VP8 ") + 8 :]
    assert quality_of(frame[:length]) is None if length <= 10 else quality_of(frame[:length])
    noise = np.random.default_rng(length).integers(0, 256, 64).astype(np.uint8).tobytes()
    assert 1 <= (quality_of(frame[:10] + noise) or 0) <= 100
