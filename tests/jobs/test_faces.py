"""Faces in images, folders of them, animations and videos."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from upscale.errors import CheckpointError, UsageError
from upscale.faces.enhancer import FaceEnhancer
from upscale.faces.face import Face
from upscale.images import Frame, Image, ImageSequence, read_image
from upscale.jobs import face_models
from upscale.jobs.face_models import (
    FaceModels,
    find_face_model,
    find_face_models,
    with_absolute_paths,
)
from upscale.jobs.faces import FaceStep
from upscale.jobs.image import upscale_image
from upscale.jobs.image_steps import upscale
from upscale.jobs.plain_resize import PlainResize
from upscale.options import FaceOptions, Options, TextureOptions


@pytest.fixture(scope="module")
def girl(data) -> Image:
    return read_image(data / "photos/faces/girl.webp")


@pytest.fixture(scope="module")
def enhancer() -> FaceEnhancer:
    from upscale.faces.mtcnn import Mtcnn

    class Painter:
        def restore(self, face):
            return np.zeros_like(face) + np.array([0, 0, 1], np.float32)

    return FaceEnhancer(Mtcnn(), Painter())


def run(image, enhancer, size=None):
    step = FaceStep(enhancer)
    size = size or (image.width, image.height)
    large, _ = upscale_image(image, size, PlainResize(), faces=step)
    return large, step.count


def test_plain_resize_copies_at_the_same_size_and_resizes_otherwise(girl):
    same, _ = upscale_image(girl, (288, 288), PlainResize())
    assert (same.pixels == girl.pixels).all()
    assert same.pixels is not girl.pixels
    large, report = upscale_image(girl, (400, 500), PlainResize())
    assert large.pixels.shape == (500, 400, 3)
    assert report.resize == "x1 to 400x500, Lanczos"


def test_a_face_is_restored_in_an_image_of_8_and_16_bits(girl, enhancer):
    deep = replace(girl, pixels=girl.pixels.astype(np.uint16) * 257)
    for image, blue in ((girl, 255), (deep, 65535)):
        large, count = run(image, enhancer, (576, 576))
        assert count == 1
        assert large.pixels[320, 280].tolist() == [0, 0, blue]


def test_transparency_stays_and_hidden_colours_have_no_faces(girl, enhancer):
    hidden = replace(girl, alpha=np.zeros((288, 288), np.uint8))
    hidden.alpha[0, 0] = 255
    assert run(hidden, enhancer)[1] == 0
    shown = replace(girl, alpha=np.full((288, 288), 255, np.uint8))
    shown.alpha[:, :40] = 0
    large, count = run(shown, enhancer)
    assert count == 1
    assert abs(large.alpha.astype(int) - shown.alpha).max() <= 1


def test_grey_images_stay_grey(girl, enhancer):
    grey = cv2.cvtColor(girl.pixels, cv2.COLOR_RGB2GRAY)[..., None]
    large, count = run(replace(girl, pixels=grey), enhancer)
    assert count == 1
    assert large.pixels.shape == (288, 288, 1)
    assert large.pixels[160, 140, 0] == 29


def test_linear_light_keeps_its_curve(girl, enhancer):
    light = (girl.pixels / np.float32(255)) ** np.float32(2.2) * 3
    large, count = run(replace(girl, pixels=light.astype(np.float32)), enhancer)
    assert count == 1
    assert large.pixels[160, 140, 2] > 2 * large.pixels[160, 140, 0]
    assert large.pixels[:, -30:].max() > 1.5


def test_normal_maps_have_no_faces(girl, enhancer):
    step = FaceStep(enhancer)
    upscale_image(girl, (288, 288), PlainResize(), texture=TextureOptions("", True), faces=step)
    assert step.count == 0


def moving(girl, count, hide=()):
    """An animation of the photo that moves; the face is covered in some frames."""

    def frames():
        for number in range(count):
            pixels = np.roll(girl.pixels, 2 * number, 1)
            if number in hide:
                pixels[110:230, 60:240] = 128
            yield Frame(replace(girl, pixels=pixels), None)

    return ImageSequence(frames, count, 0, animated=True, format="gif")


def test_a_face_that_is_missed_in_one_frame_of_an_animation_does_not_flicker(girl, enhancer):
    sequence = moving(girl, 5, hide={2})
    assert enhancer.find(list(sequence.frames())[2].image.pixels) == []
    job = type("Job", (), {"size_out": (288, 288), "label": "a.gif", "source": b""})()
    step = FaceStep(enhancer)
    result, _ = upscale(sequence, job, PlainResize(), faces=step)
    blue = [frame.image.pixels[160, 146].tolist() == [0, 0, 255] for frame in result.frames()]
    assert blue == [True] * 5
    assert step.count == 5


def test_pages_of_a_document_are_not_tracked(girl, enhancer):
    sequence = replace(moving(girl, 3, hide={1}), animated=False)
    job = type("Job", (), {"size_out": (288, 288), "label": "a.tif", "source": b""})()
    step = FaceStep(enhancer)
    upscale(sequence, job, PlainResize(), faces=step)
    assert step.count == 2


def test_networks_for_faces_are_found_by_name_and_file(tmp_path):
    assert find_face_model("none") is None
    assert find_face_model("GFPGANv1.4.pth").name == "gfpgan"
    own = tmp_path / "own.pth"
    own.write_bytes(b"x")
    assert find_face_model(str(own)).path() == own
    with pytest.raises(CheckpointError, match=r"choose from gfpgan, .*, none, or name"):
        find_face_model("gfpgun")
    with pytest.raises(CheckpointError, match=r"--face-detector gfpgan: .* retinaface, mtcnn, or"):
        find_face_model("gfpgan", "face-detector")


@pytest.mark.parametrize("is_cached", [False, True])
def test_the_outline_is_used_if_its_network_is_in_the_cache(is_cached, monkeypatch):
    presence = "cached" if is_cached else "absent"
    monkeypatch.setattr(face_models, "availability", lambda entry: presence)
    models = find_face_models(FaceOptions())
    assert (models.parser is not None) == is_cached
    assert models.detector is None
    assert find_face_models(FaceOptions(face_parser="none")).parser is None
    assert find_face_models(FaceOptions(face_parser="parsenet")).parser.name == "parsenet"
    assert find_face_models(FaceOptions(face_model="none")).parser is None


def test_other_machines_get_full_paths_and_one_choice_of_the_outline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.pth").write_bytes(b"x")
    monkeypatch.setattr(face_models, "availability", lambda entry: "cached")
    named = with_absolute_paths(FaceOptions(face_detector="own.pth"))
    assert (named.face_model, named.face_parser) == ("gfpgan", "parsenet")
    assert named.face_detector == str(tmp_path / "own.pth")


def test_a_non_commercial_licence_is_named():
    assert "commercial use is not allowed" in find_face_model("codeformer").notes[0]
    assert "commercial use is not allowed" in find_face_model("parsenet", "face-parser").notes[0]
    assert find_face_model("gfpgan").notes == ()


def test_the_identity_of_a_video_covers_the_network_and_the_options(tmp_path):
    first, second = tmp_path / "a.pth", tmp_path / "b.pth"
    first.write_bytes(b"1")
    second.write_bytes(b"2")
    options = FaceOptions(face=True)
    seen = {
        FaceModels().identity(options),
        FaceModels(find_face_model("gfpgan")).identity(options),
        FaceModels(find_face_model(str(first))).identity(options),
        FaceModels(find_face_model(str(second))).identity(options),
        FaceModels(detector=find_face_model(str(first))).identity(options),
        FaceModels(parser=find_face_model(str(first))).identity(options),
        FaceModels().identity(replace(options, face_strength=0.5)),
        FaceModels().identity(replace(options, face_min_size=99)),
    }
    assert len(seen) == 8


def test_options_that_exclude_each_other_are_refused():
    with pytest.raises(UsageError, match="--normal-map"):
        Options(faces=FaceOptions(face=True), texture=TextureOptions(normal_map=True))


def test_faces_of_videos_are_restored_from_their_records():
    from upscale.jobs.video_faces import _row, recorded_faces

    face = Face((1.0, 2.0, 30.5, 40.25), np.arange(10.0).reshape(5, 2), 0.987)
    back = recorded_faces({"512": [_row(face)], "1024": []})
    assert back[1024] == []
    assert back[512][0].box == face.box
    assert (back[512][0].landmarks == face.landmarks).all()
    for broken in ({"a": []}, {"1": [[1.0]]}, [], {"1": [[float("nan")] * 15]}, {"1": 3}):
        assert recorded_faces(broken) is None
