"""Parity with facexlib's FaceRestoreHelper, where it is installed (it needs torchvision)."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

from upscale.faces.alignment import SIDE, TEMPLATE, aligned_face, alignment
from upscale.faces.parsing import soft_mask
from upscale.faces.pasting import paste
from upscale.faces.retinaface import RetinaFaceDetector
from upscale.faces.sampling import sample
from upscale.models.faces.parsenet import build_parsenet
from upscale.models.faces.retinaface import build_retinaface


def facexlib(name):
    """Return a module of facexlib."""
    try:
        return importlib.import_module(f"facexlib.{name}")
    except Exception as error:  # torchvision raises RuntimeError if it does not match torch
        pytest.skip(f"facexlib does not work here: {error}")


@pytest.fixture(scope="module")
def helper():
    module = facexlib("utils.face_restoration_helper")
    patch = pytest.MonkeyPatch()
    # Neither network is needed for what is compared, and both would be downloaded.
    patch.setattr(module, "init_detection_model", lambda *_, **__: None)
    patch.setattr(module, "init_parsing_model", lambda *_, **__: None)
    yield module.FaceRestoreHelper(1, face_size=SIDE, crop_ratio=(1, 1), device="cpu")
    patch.undo()


FACES = [("baby", 0), ("baby", 1), ("girl", 0)]


@pytest.mark.parametrize(("name", "number"), FACES)
def test_alignment_and_mask_equal_facexlibs(name, number, photos, helper):
    pixels, landmarks = photos[name].pixels, photos[name].landmarks[number]
    helper.clean_all()
    helper.read_image(np.ascontiguousarray(pixels[..., ::-1]))
    helper.all_landmarks_5 = [landmarks]
    helper.align_warp_face()
    assert np.allclose(helper.face_template, TEMPLATE)
    assert np.allclose(helper.affine_matrices[0], alignment(landmarks), atol=1e-6)
    theirs = helper.cropped_faces[0][..., ::-1].astype(float)
    inside = sample(np.ones_like(pixels), alignment(landmarks), (SIDE, SIDE)) > 0.999
    assert inside.mean() > 0.5
    bilinear = sample(pixels, alignment(landmarks), (SIDE, SIDE))
    assert abs(bilinear - theirs)[inside].max() < 2
    assert abs(bilinear - theirs)[inside].mean() < 0.3
    # Ours is sharper, and at the same place.
    face = aligned_face(pixels, alignment(landmarks)) * 255
    assert abs(face - theirs)[inside].mean() < 2
    helper.get_inverse_affine(None)
    helper.restored_faces = [np.full((SIDE, SIDE, 3), 255, np.uint8)]
    black = np.zeros_like(pixels)
    theirs = helper.paste_faces_to_input_image(upsample_img=black)
    ours = black.copy()
    paste(ours, np.ones((SIDE, SIDE, 3), np.float32), alignment(landmarks))
    error = abs(ours.astype(int) - theirs)
    assert error[theirs > 20].max() <= 2
    assert error.max() <= 20  # the last pixel of the right and lower edges, which is cut off


def randomised(network, images):
    """Give a network random values, and normalisations that keep its features near 1."""
    torch.manual_seed(5)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            torch.nn.init.kaiming_normal_(parameter)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.inference_mode():
        network.train()(images)
    return network.eval()


@pytest.mark.parametrize("backbone", ["mobile0.25", "resnet50"])
def test_retinaface_finds_what_facexlib_finds(backbone, photos):
    pixels = np.ascontiguousarray(photos["baby"].pixels[:150, :201])
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    images = torch.from_numpy(bgr).permute(2, 0, 1)[None] - 117.0
    theirs = facexlib("detection.retinaface").RetinaFace(backbone, device="cpu")
    state = randomised(theirs, images).state_dict()
    ours = build_retinaface(state)
    ours.load_state_dict(state)
    with torch.inference_mode():
        scores = ours.eval()(images)[1].flatten()
        threshold = float(scores.sort().values[-400])
        expected = theirs.detect_faces(bgr, conf_threshold=threshold)
    found = RetinaFaceDetector(ours, "cpu", 0, threshold).detect(pixels)
    assert len(found) == len(expected) > 10
    for face, row in zip(found, expected, strict=True):
        assert np.allclose(face.box, row[:4], atol=0.01)
        assert face.score == pytest.approx(row[4], abs=1e-6)
        assert np.allclose(face.landmarks.ravel(), row[5:], atol=0.01)


def test_parsenet_computes_what_facexlibs_does():
    faces = torch.rand(1, 3, 48, 64) * 2 - 1
    theirs = randomised(facexlib("parsing.parsenet").ParseNet(SIDE, SIDE, parsing_ch=19), faces)
    state = theirs.state_dict()
    ours = build_parsenet(state)
    ours.load_state_dict(state)
    with torch.inference_mode():
        assert (ours.eval()(faces) == theirs(faces)[0]).all()


def test_the_mask_along_an_outline_equals_facexlibs(photos, helper):
    labels = np.random.default_rng(0).integers(0, 19, (8, 8)).repeat(64, 0).repeat(64, 1)
    scores = torch.nn.functional.one_hot(torch.from_numpy(labels), 19).permute(2, 0, 1)[None]
    pixels, landmarks = photos["girl"].pixels, photos["girl"].landmarks[0]
    white = np.full((SIDE, SIDE, 3), 255, np.uint8)
    helper.clean_all()
    helper.use_parse, helper.face_parse = True, lambda face: (scores, face)
    helper.read_image(np.ascontiguousarray(pixels[..., ::-1]))
    helper.all_landmarks_5 = [landmarks]
    helper.align_warp_face()
    helper.get_inverse_affine(None)
    helper.restored_faces = [white]
    theirs = helper.paste_faces_to_input_image(upsample_img=np.zeros_like(pixels))
    helper.use_parse = False
    ours = np.zeros_like(pixels)
    paste(ours, white / np.float32(255), alignment(landmarks), mask=soft_mask(labels))
    assert 20 < ours.mean() < 200
    error = abs(ours.astype(int) - theirs)
    assert error.max() <= 8  # OpenCV rounds positions to a 32nd of a pixel
    assert error.mean() < 0.6
