from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

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
