"""Alignment and pasting with a network that changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from upscale.engine.resize import resize
from upscale.faces.alignment import SIDE, TEMPLATE, aligned_face, alignment
from upscale.faces.pasting import _square_mask, paste, upscaled_alignment
from upscale.faces.sampling import inverse, sample, transformed
from upscale.images.pixels.depth import full_scale


def resized(pixels, scale):
    """Return an image as `--faces-only` resizes it."""
    height, width = (round(side * scale) for side in pixels.shape[:2])
    return pixels if scale == 1 else resize(pixels, width, height)


def size_of(pixels):
    return pixels.shape[1], pixels.shape[0]


def round_trip(pixels, landmarks, scale):
    """Return the upscaled image before and after its own aligned face is pasted."""
    plain = resized(pixels, scale)
    matrix = alignment(landmarks)
    moved = upscaled_alignment(matrix, size_of(pixels), size_of(plain))
    pasted = plain.copy()
    paste(pasted, aligned_face(pixels, matrix), moved, scale=scale)
    whole = _square_mask(inverse(moved), size_of(plain), scale)
    return plain, pasted, whole


FACES = [("baby", 0), ("baby", 1), ("girl", 0)]


SCALES = [1, 2, 2.5, 4]
BAR = 0.5
"""Largest average error in levels of 8 bits inside the mask."""


def assert_no_trace(pixels, landmarks, scale):
    plain, pasted, mask = round_trip(pixels, landmarks, scale)
    error = abs(pasted.astype(float) - plain)
    assert mask.max() > 0.99
    assert 0.02 < (mask > 0).mean() < 0.98
    assert error[mask == 0].max() == 0
    assert error[mask > 0].mean() < BAR


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("name", "number"), FACES)
def test_a_face_that_was_not_changed_leaves_no_trace(name, number, scale, photos):
    photo = photos[name]
    assert_no_trace(photo.pixels, photo.landmarks[number], scale)


@pytest.mark.parametrize("scale", SCALES)
def test_a_small_and_sharp_face_that_was_not_changed_leaves_no_trace(scale, photos):
    """It is enlarged five times on the way to the network: aliasing and blur would show."""
    small = resize(photos["girl"].pixels, 96, 96)
    landmarks = (photos["girl"].landmarks[0] + 0.5) / 3 - 0.5
    assert_no_trace(small, landmarks, scale)


def test_a_face_larger_than_the_network_that_was_not_changed_leaves_no_trace(photos):
    """The network cannot see detail beyond its 512 pixels; this face has none."""
    large = resize(photos["girl"].pixels, 576, 576)
    landmarks = (photos["girl"].landmarks[0] + 0.5) * 2 - 0.5
    assert np.hypot(*alignment(landmarks)[:, 0]) < 1
    assert_no_trace(large, landmarks, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_depth_and_grey_images_are_pasted_into(dtype, channels, photos):
    photo = photos["girl"]
    full = full_scale(np.dtype(dtype))
    pixels = (photo.pixels[..., :channels] / 255 * full).astype(dtype)
    plain, pasted, mask = round_trip(pixels, photo.landmarks[0], 2)
    error = abs(pasted.astype(float) - plain) / full * 255
    assert pasted.dtype == dtype
    assert error[mask == 0].max() == 0
    assert 0 < error[mask > 0].mean() < BAR


def test_integers_are_rounded_and_not_cut_off():
    image = np.full((64, 64, 3), 100, np.uint8)
    face = np.full((SIDE, SIDE, 3), 101.9 / 255, np.float32)
    matrix = np.array([[8.0, 0, 3.5], [0, 8, 3.5]])
    paste(image, face, matrix)
    assert image[32, 32].tolist() == [102] * 3


def test_strength_blends_with_the_plain_result():
    matrix = np.array([[8.0, 0, 3.5], [0, 8, 3.5]])
    for strength, value in [(0, 100), (0.25, 125), (1, 200)]:
        image = np.full((64, 64, 1), 100, np.uint8)
        paste(image, np.full((SIDE, SIDE, 3), 200 / 255, np.float32), matrix, strength=strength)
        assert image[32, 32, 0] == value


@pytest.mark.parametrize("shift", [(-70, 0), (130, 10), (20, -60), (10, 150)])
def test_a_face_that_the_border_cuts_is_pasted_up_to_the_border(shift, photos):
    """No frame appears there: the mask is soft only inside the image."""
    photo = photos["girl"]
    shifted = np.roll(photo.pixels, shift, (1, 0))
    landmarks = photo.landmarks[0] + shift
    x, y = shift
    part = shifted[max(y, 0) : 288 + min(y, 0), max(x, 0) : 288 + min(x, 0)]
    part = np.ascontiguousarray(part)
    landmarks = landmarks - (max(x, 0), max(y, 0))
    face = np.zeros((SIDE, SIDE, 3), np.float32)
    pasted = part.copy()
    paste(pasted, face, alignment(landmarks))
    edges = [pasted[0], pasted[-1], pasted[:, 0], pasted[:, -1]]
    assert min(edge.sum(-1).min() for edge in edges) == 0


def test_a_face_outside_the_image_changes_nothing():
    image = np.full((40, 50, 3), 7, np.uint8)
    paste(image, np.ones((SIDE, SIDE, 3), np.float32), np.array([[8.0, 0, 9000], [0, 8, 0]]))
    assert (image == 7).all()


def test_a_tiny_face_keeps_inside_its_square():
    image = np.zeros((100, 100, 3), np.uint8)
    matrix = inverse(np.array([[0.02, 0, 40], [0, 0.02, 40]]))
    paste(image, np.ones((SIDE, SIDE, 3), np.float32), matrix)
    assert image[45, 45, 0] == 255
    assert image[:39].max() == image[52:].max() == 0


@pytest.mark.parametrize("scale", [1, 4])
def test_no_line_shows_where_the_border_cuts_a_face(scale):
    pixels = np.full((100, 120, 3), 250, np.uint8)
    landmarks = (TEMPLATE - 256) / 5 + (60, 12)
    plain, pasted, mask = round_trip(pixels, landmarks, scale)
    assert mask[0].max() > 0.9
    assert (pasted == plain).all()


def test_outside_the_image_an_aligned_face_has_facexlibs_grey():
    face = aligned_face(np.zeros((9, 9, 3), np.uint8), np.array([[1.0, 0, 250], [0, 1, 250]]))
    assert (face[10, 10] * 255).round().tolist() == [132, 133, 135]
    assert face[254, 254].tolist() == [0, 0, 0]


def test_the_landmarks_of_an_aligned_face_are_those_of_the_template(photos):
    landmarks = photos["girl"].landmarks[0]
    moved = transformed(landmarks, alignment(landmarks))
    assert abs(moved - TEMPLATE).mean() < 12


def test_landmarks_that_coincide_have_no_alignment():
    assert alignment(np.full((5, 2), 10.0)) is None


@pytest.mark.parametrize("sharp", [False, True])
def test_shrinking_averages_instead_of_skipping_pixels(sharp):
    board = np.indices((512, 512)).sum(0) // 2 % 2 * 255.0
    matrix = np.array([[0.125, 0, -0.4375], [0, 0.125, -0.4375]])
    shrunk = sample(board[..., None], matrix, (64, 64), sharp=sharp)
    assert abs(shrunk[4:-4, 4:-4] - 127.5).max() < 1


def test_sharp_sampling_removes_detail_that_a_little_smaller_image_cannot_hold():
    stripes = np.zeros((200, 200, 1)) + np.arange(200)[:, None] % 2 * 255.0
    matrix = np.array([[0.7, 0, -0.15], [0, 0.7, -0.15]])
    shrunk = sample(stripes, matrix, (140, 140), sharp=True)
    assert abs(shrunk[8:-8, 8:-8] - 127.5).max() < 40  # 127 would be a false pattern


def test_sampling_where_nothing_changes_returns_the_source(photos):
    pixels = photos["baby"].pixels
    assert (sample(pixels, np.eye(2, 3), (288, 288)) == pixels).all()
    assert (sample(pixels, np.eye(2, 3), (288, 288), sharp=True) == pixels).all()
    assert (
        sample(pixels, np.array([[1.0, 0, -50], [0, 1, -60]]), (8, 9)) == pixels[60:69, 50:58]
    ).all()
