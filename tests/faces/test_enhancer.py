"""Finding, restoring and pasting together, with networks that mark what they restore."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from upscale.faces.enhancer import FaceEnhancer
from upscale.images.pixels.depth import full_scale


class Painter:
    """A network that makes every face blue."""

    def __init__(self):
        self.faces = []

    def restore(self, face):
        self.faces.append(face)
        return np.zeros_like(face) + np.array([0, 0, 1], np.float32)


@pytest.fixture
def painter():
    return Painter()


def upscaled(pixels, scale):
    height, width = pixels.shape[:2]
    large = cv2.resize(pixels, (round(width * scale), round(height * scale)))
    return large.reshape(*large.shape[:2], pixels.shape[2])


@pytest.mark.parametrize("scale", [1, 2.5])
def test_each_face_is_restored_and_the_rest_stays(scale, photos, detector, painter):
    small = photos["baby"].pixels
    large = upscaled(small, scale)
    before = large.copy()
    assert FaceEnhancer(detector, painter).apply(large, small) == 2
    assert len(painter.faces) == 2
    assert all(face.shape == (512, 512, 3) for face in painter.faces)
    for landmarks in photos["baby"].landmarks:
        for x, y in np.rint((landmarks + 0.5) * scale - 0.5).astype(int):
            assert large[y, x].tolist() == [0, 0, 255]
    assert (large[-20:, -20:] == before[-20:, -20:]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_faces_are_found_in_every_depth_and_in_grey(dtype, channels, photos, detector, painter):
    pixels = photos["girl"].pixels
    if channels == 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
    small = (pixels / 255 * full_scale(np.dtype(dtype))).astype(dtype)
    large = small.copy()
    assert FaceEnhancer(detector, painter).apply(large, small) == 1
    assert large.dtype == dtype
    expected = [0, 0, 1] if channels == 3 else [0.114]
    value = large[160, 140] / full_scale(large.dtype)
    assert abs(value - expected).max() < 0.002


def test_the_network_gets_upright_faces(photos, detector, painter):
    small = np.ascontiguousarray(np.rot90(photos["girl"].pixels))
    FaceEnhancer(detector, painter).apply(small.copy(), small)
    (face,) = painter.faces
    eyes = [face[200:280, 160:230].min(), face[200:280, 285:355].min()]
    assert max(eyes) < 0.15 < face[300:330, 230:280].min()


def test_the_better_one_of_overlapping_faces_is_on_top(photos, detector):
    class Numbered:
        count = 0

        def restore(self, face):
            self.count += 1
            return np.full_like(face, self.count / 10)

    small = photos["baby"].pixels
    large = small.copy()
    enhancer = FaceEnhancer(detector, Numbered())
    faces = enhancer.find(small)
    twice = [faces[0], faces[0]]
    enhancer.apply(large, small, twice)
    x, y = np.rint(faces[0].landmarks[2]).astype(int)
    assert large[y, x, 0] == round(255 * 0.2)


def test_without_a_network_faces_are_only_drawn(photos, detector):
    small = photos["girl"].pixels
    plain = small.copy()
    assert FaceEnhancer(detector, None).apply(plain, small) == 1
    assert (plain == small).all()
    for pixels in (small, small[..., :1], small.astype(np.uint16) * 257):
        large = np.ascontiguousarray(upscaled(pixels, 2))
        before = large.copy()
        assert FaceEnhancer(detector, None, draws=True).apply(large, pixels) == 1
        changed = (large != before).any(-1)
        assert 0.001 < changed.mean() < 0.1
    x, y = np.rint(photos["girl"].landmarks[0][0]).astype(int) * 2
    assert changed[y - 12 : y + 12, x - 12 : x + 12].any()


def test_known_faces_are_not_looked_for(photos, painter):
    class Blind:
        def detect(self, pixels):
            raise AssertionError

    small = photos["girl"].pixels
    assert FaceEnhancer(Blind(), painter).apply(small.copy(), small, []) == 0
