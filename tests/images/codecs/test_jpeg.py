from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.images import read_image, read_size


@pytest.mark.parametrize("bogus", [(0xE0, b"JFIF\0"), (0xE0, b"JFIF"), (0xEE, b"Adobe\0")])
def test_segments_without_their_content_are_ignored(photo_like, bogus):
    jpeg = cv2.imencode(".jpg", photo_like)[1].tobytes()
    marker, body = bogus
    data = jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + jpeg[2:]
    assert read_size(data) == (40, 24)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    result = read_image(data)
    assert np.array_equal(result.pixels, expected) and result.origin.notes == ()


@pytest.fixture
def photo_like():
    small = np.random.default_rng(1).integers(0, 256, (3, 5, 3)).astype(np.uint8)
    return cv2.resize(small, (40, 24), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}])
@pytest.mark.parametrize("quality", [10, 49, 62, 75, 91, 100])
def test_quality_of_a_file(photo_like, pillow_bytes, quality, options):
    data = pillow_bytes(PILImage.fromarray(photo_like), "JPEG", quality=quality, **options)
    assert read_image(data).origin.quality == quality


def test_quality_is_that_of_luma_whichever_table_it_has(photo_like, pillow_bytes):
    fine, coarse = [2] * 64, [99] * 64
    tables = {"qtables": [coarse, fine], "subsampling": 0}
    data = bytearray(pillow_bytes(PILImage.fromarray(photo_like), "JPEG", **tables))
    low = read_image(bytes(data)).origin.quality
    at = data.index(b"\xff\xc0") + 10
    data[at + 2], data[at + 5], data[at + 8] = 1, 0, 0
    assert low <= 30 and read_image(bytes(data)).origin.quality == 99
