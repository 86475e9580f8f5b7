"""Parity with facexlib's FaceRestoreHelper, where it is installed (it needs torchvision)."""

from __future__ import annotations

import numpy as np
import pytest

from upscale.faces.alignment import SIDE, TEMPLATE, aligned_face, alignment
from upscale.faces.pasting import paste
from upscale.faces.sampling import sample


@pytest.fixture(scope="module")
def helper():
    try:
        from facexlib.utils import face_restoration_helper as module
    except Exception as error:  # torchvision raises RuntimeError if it does not match torch
        pytest.skip(f"facexlib does not work here: {error}")
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
    face = aligned_face(pixels, alignment(landmarks)) * 255
    theirs = helper.cropped_faces[0][..., ::-1].astype(float)
    inside = sample(np.ones_like(pixels), alignment(landmarks), (SIDE, SIDE)) > 0.999
    assert inside.mean() > 0.5
    assert abs(face - theirs)[inside].max() < 2
    assert abs(face - theirs)[inside].mean() < 0.3
    helper.get_inverse_affine(None)
    helper.restored_faces = [np.full((SIDE, SIDE, 3), 255, np.uint8)]
    black = np.zeros_like(pixels)
    theirs = helper.paste_faces_to_input_image(upsample_img=black)
    ours = black.copy()
    paste(ours, np.ones((SIDE, SIDE, 3), np.float32), alignment(landmarks))
    error = abs(ours.astype(int) - theirs)
    assert error[theirs > 20].max() <= 2
    assert error.max() <= 20  # the last pixel of the right and lower edges, which is cut off
