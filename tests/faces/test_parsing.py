"""The mask along the outline of a face."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from upscale.faces.alignment import SIDE, alignment
from upscale.faces.enhancer import FaceEnhancer
from upscale.faces.parsing import NetworkParser, soft_mask
from upscale.faces.pasting import upscaled_alignment
from upscale.faces.sampling import inverse, transformed

SKIN, HAIR, CLOTHES = 1, 13, 18


def labels_of_a_disc():
    """Skin in a disc, and clothes around it."""
    rows, columns = np.indices((SIDE, SIDE)) - 256
    return np.where(rows**2 + columns**2 < 150**2, SKIN, CLOTHES)


def test_the_mask_covers_the_face_and_fades_at_its_outline():
    mask = soft_mask(labels_of_a_disc())
    assert mask.shape == (SIDE, SIDE)
    assert mask[256, 256] == pytest.approx(1)
    assert mask[256, 256 + 150] == pytest.approx(0.5, abs=0.05)
    assert mask[256, 256 + 210] < 0.001
    slope = np.diff(mask[256, 256:466])
    assert slope.max() <= 0  # it falls steadily


def test_the_background_hats_necks_and_clothes_are_left_out():
    masks = [soft_mask(np.full((64, 64), label))[32, 32] for label in range(19)]
    assert [label for label in range(19) if masks[label] < 0.5] == [0, 14, 16, 17, 18]


def test_nothing_is_pasted_along_the_border_of_the_square():
    mask = soft_mask(np.full((SIDE, SIDE), HAIR))
    inner = mask[10:-10, 10:-10]
    assert inner.min() > 0.9
    assert mask.sum() == pytest.approx(inner.sum())


def test_the_network_sees_the_face_around_zero():
    class Network(torch.nn.Module):
        def forward(self, faces):
            self.range = float(faces.min()), float(faces.max())
            scores = torch.zeros(1, 19, *faces.shape[2:])
            scores[:, CLOTHES] = 0.5
            scores[:, SKIN] = (faces[:, 0] > 0).float()
            return scores

    network = Network()
    face = np.zeros((SIDE, SIDE, 3), np.float32)
    face[:, 256:, 0] = 1
    mask = NetworkParser(network, "cpu").mask(face)
    assert network.range == (-1, 1)
    assert mask[256, 400] == pytest.approx(1)
    assert mask[256, 100] == pytest.approx(0)


@pytest.mark.parametrize("scale", [1, 2.5])
def test_outside_the_outline_not_one_value_changes(scale, photos, detector):
    class Blue:
        def restore(self, face):
            return np.zeros_like(face) + np.array([0, 0, 1], np.float32)

    class Disc:
        def mask(self, face):
            assert face[0, 0].tolist() == [0, 0, 1]  # the restored one
            return soft_mask(labels_of_a_disc())

    small = photos["girl"].pixels
    size = round(288 * scale), round(288 * scale)
    large = cv2.resize(small, size)
    before = large.copy()
    faces = detector.detect(small)
    FaceEnhancer(detector, Blue(), parser=Disc()).apply(large, small, faces)
    back = inverse(upscaled_alignment(alignment(faces[0].landmarks), (288, 288), size))
    middle = transformed(np.array([[255.5, 255.5]]), back)[0]
    radius = 150 * float(np.hypot(*back[:, 0]))
    rows, columns = np.indices(size[::-1])
    distance = np.hypot(columns - middle[0], rows - middle[1]) / radius
    changed = (large != before).any(-1)
    assert large[int(middle[1]), int(middle[0])].tolist() == [0, 0, 255]
    assert changed[distance < 0.9].mean() > 0.99
    assert not changed[distance > 1.5].any()
    assert changed.any()
