"""Tracking: faces must not flicker in and out."""

from __future__ import annotations

import numpy as np
import pytest

from upscale.faces.face import Face
from upscale.faces.tracking import track

SHAPE = np.array([(30.0, 40), (70, 40), (50, 60), (35, 80), (65, 80)])


def face(x, y=0.0, score=0.99, size=1.0):
    box = np.array([x, y, x + 100 * size, y + 120 * size])
    return Face(tuple(box.tolist()), SHAPE * size + (x, y), score)


def lefts(faces):
    return [round(each.box[0], 3) for each in faces]


def test_a_face_that_is_missed_for_some_frames_is_added_there():
    frames = [[face(10 * n)] if n not in {3, 4, 5} else [] for n in range(10)]
    result = track(frames)
    assert [len(faces) for faces in result] == [1] * 10
    assert lefts(result[4]) == [40]
    assert np.allclose(result[4][0].landmarks, SHAPE + np.array([40, 0]))


def test_a_face_that_appears_for_an_instant_is_left_out():
    frames = [[face(0)] + ([face(400)] if n == 4 else []) for n in range(9)]
    assert [len(faces) for faces in track(frames)] == [1] * 9


def test_a_face_that_is_gone_for_long_does_not_stay():
    frames = [[face(0)] if n < 5 or n > 20 else [] for n in range(26)]
    counts = [len(faces) for faces in track(frames)]
    assert counts == [1] * 5 + [0] * 16 + [1] * 5


def test_positions_that_tremble_become_steady():
    wobble = np.random.default_rng(0).normal(0, 2, 40)
    frames = [[face(5.0 * n + wobble[n])] for n in range(40)]
    smooth = np.array([faces[0].box[0] for faces in track(frames)]) - 5.0 * np.arange(40)
    assert smooth[2:-2].std() < 0.6 * wobble.std()
    assert abs(smooth.mean() - wobble.mean()) < 0.3


def test_steady_movement_is_not_delayed():
    result = track([[face(7 * n, 3 * n)] for n in range(12)])
    assert [lefts(faces) for faces in result] == [[7 * n] for n in range(12)]


def test_two_faces_that_pass_each_other_by_are_kept_apart():
    frames = [[face(0, 0), face(300 - 10 * n, 200)][:: 1 if n % 2 else -1] for n in range(20)]
    for number, faces in enumerate(track(frames)):
        assert sorted(lefts(faces)) == sorted([0, 300 - 10 * number])


def test_a_cut_begins_new_tracks():
    frames = [[face(0)]] * 5 + [[face(500, size=2)]] * 5
    result = track(frames)
    assert [lefts(faces) for faces in result] == [[0]] * 5 + [[500]] * 5


def test_the_best_face_of_a_frame_is_first():
    result = track([[face(0, score=0.98), face(300, score=0.99)]] * 4)
    assert [lefts(faces) for faces in result] == [[300, 0]] * 4


@pytest.mark.parametrize("count", [0, 1, 2])
def test_short_videos_keep_their_faces(count):
    result = track([[face(3)]] * count)
    assert [lefts(faces) for faces in result] == [[3]] * count
