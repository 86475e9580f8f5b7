"""RetinaFace: what its predictions mean, with a network that finds what a test plants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from upscale.faces.retinaface import RetinaFaceDetector
from upscale.models.faces.retinaface import anchors, build_retinaface


class Planted(nn.Module):
    """Predicts, for chosen sizes of the image, faces at anchors: (index, score, shifts)."""

    def __init__(self, faces):
        super().__init__()
        self.faces, self.inputs = faces, []

    def forward(self, images):
        height, width = images.shape[2:]
        self.inputs.append(images)
        count = len(anchors(height, width))
        boxes, scores = torch.zeros(1, count, 4), torch.zeros(1, count)
        landmarks = torch.zeros(1, count, 10)
        for index, score, box, points in self.faces.get((width, height), ()):
            scores[0, index] = score
            boxes[0, index] = torch.tensor(box)
            landmarks[0, index] = torch.tensor(points)
        return boxes, scores, landmarks


STILL = (0.0, 0.0, 0.0, 0.0)
POINTS = (-1.0, -2.0, 1.0, -2.0, 0.0, 0.0, -1.0, 2.0, 1.0, 2.0)


def found(faces, size=(96, 64), **options):
    network = Planted(faces)
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[...] = (30, 20, 10)
    return RetinaFaceDetector(network, "cpu", **options).detect(pixels), network


def test_boxes_and_landmarks_are_parts_of_their_anchor():
    # Anchor 1 has 32 pixels around (4, 4), anchor 0 has 16: too few for a face.
    move = (10.0, 5.0, 5 * float(np.log(2)), 0.0)
    faces, network = found({(96, 64): [(1, 0.99, move, POINTS), (0, 0.99, STILL, POINTS)]})
    (face,) = faces
    assert face.box == pytest.approx((36 - 32, 20 - 16, 36 + 32, 20 + 16))
    expected = np.array(POINTS).reshape(5, 2) * 3.2 + 4
    assert np.allclose(face.landmarks, expected, atol=1e-4)
    assert face.score == pytest.approx(0.99)
    # Blue comes first, less the mean colour.
    assert network.inputs[0][0, :, 0, 0].tolist() == [10 - 104, 20 - 117, 30 - 123]


def test_overlapping_and_unsure_faces_are_left_out():
    near = (0.1, 0.0, 0.0, 0.0)
    planted = [(1, 0.98, STILL, POINTS), (3, 0.99, near, POINTS), (21, 0.9, STILL, POINTS)]
    faces, _ = found({(96, 64): planted})
    assert [round(face.score, 2) for face in faces] == [0.99]
    faces, _ = found({(96, 64): planted}, threshold=0.8)
    assert [round(face.score, 2) for face in faces] == [0.99, 0.9]


def test_large_images_are_also_searched_at_half_their_size():
    planted = {(2048, 40): [], (1024, 20): [(1, 0.99, STILL, POINTS)]}
    faces, network = found(planted, (2048, 40))
    assert [tuple(each.shape[:1:-1]) for each in network.inputs] == [(2048, 40), (1024, 20)]
    (face,) = faces
    assert face.box == pytest.approx((-24, -24, 40, 40))
    assert np.allclose(face.landmarks[2], (4 * 2 + 0.5, 4 * 2 + 0.5))


def test_small_faces_are_neither_looked_for_nor_returned():
    planted = {(96, 64): [(1, 0.99, STILL, POINTS)], (48, 32): [(1, 0.99, STILL, POINTS)]}
    assert len(found(planted, minimum=32)[0]) == 1
    assert found(planted, minimum=33)[0] == []
    faces, network = found(planted, minimum=40)
    assert network.inputs[0].shape[2:] == (32, 48)
    assert [face.side for face in faces] == [64]


def test_anchors_cover_sizes_that_do_not_divide_by_their_distance():
    grid = anchors(33, 65)
    assert len(grid) == 2 * (5 * 9 + 3 * 5 + 2 * 3)
    assert grid[-1].tolist() == [80, 48, 512]
    assert sorted({side for *_, side in grid.tolist()}) == [16, 32, 64, 128, 256, 512]


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 300, 3), (20, 13, 3)])
def test_tiny_images_have_no_faces(shape, retinaface):
    assert RetinaFaceDetector(retinaface, "cpu").detect(np.full(shape, 128, np.uint8)) == []


@pytest.fixture(scope="module")
def retinaface():
    torch.manual_seed(0)
    return build_retinaface({"body.stage1.0.0.weight": torch.zeros(1)}).eval()


def test_a_network_predicts_for_every_anchor(retinaface):
    with torch.inference_mode():
        boxes, scores, landmarks = retinaface(torch.randn(1, 3, 33, 65))
    count = len(anchors(33, 65))
    assert (boxes.shape, scores.shape) == ((1, count, 4), (1, count))
    assert landmarks.shape == (1, count, 10)
    assert 0 < scores.min() < scores.max() < 1
