"""`--face` on the command line."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from upscale.images import read_image

QUICK = "realesr-animevideov3"
FIND = ("--face", "--face-model", "none")


@pytest.fixture
def faces(data, tmp_path, monkeypatch):
    """A folder with two photos with faces and one without."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("girl", "baby"):
        shutil.copy(data / f"photos/faces/{name}.webp", folder)
    shutil.copy(data / "photos/scenes/sand.webp", folder)
    return folder


def records(ended):
    return [json.loads(line) for line in ended.out.splitlines()]


def test_faces_of_a_folder_are_counted_and_drawn(call, faces):
    ended = call("in", "-o", "out/", "--faces-only", "--face-model", "none", "--json")
    assert ended.code == 0, ended.err
    found = {each["input"][3:7]: each["faces"] for each in records(ended)}
    assert found == {"baby": 2, "girl": 1, "sand": 0}
    changed = {
        name: (read_image(faces / f"{name}.webp").pixels != read_image(out).pixels).any(-1).mean()
        for name in ("baby", "girl", "sand")
        for out in [faces.parent / "out" / f"{name}.webp"]
    }
    assert changed["sand"] == 0
    assert 0 < changed["girl"] < 0.1


def test_cmyk_and_16_bit_and_transparent_inputs_are_searched(call, faces):
    girl = read_image(faces / "girl.webp").pixels
    from PIL import Image

    Image.fromarray(girl).convert("CMYK").save("cmyk.jpg", quality=95)
    cv2.imwrite("deep.png", girl[..., ::-1].astype(np.uint16) * 257)
    alpha = np.full((*girl.shape[:2], 1), 255, np.uint8)
    alpha[:, :30] = 0
    cv2.imwrite("alpha.png", np.dstack([girl[..., ::-1], alpha]))
    names = ["cmyk.jpg", "deep.png", "alpha.png"]
    ended = call(*names, "-o", "out/", "--faces-only", "--face-model", "none", "--json")
    assert ended.code == 0, ended.err
    assert [each["faces"] for each in records(ended)] == [1, 1, 1]
    assert read_image(faces.parent / "out/deep.png").depth == 16
    assert read_image(faces.parent / "out/alpha.png").alpha[5, 5] == 0


def test_the_network_upscales_what_is_not_a_face(call, faces):
    small = read_image(faces / "girl.webp").pixels[::2, ::2]
    cv2.imwrite("small.png", small[..., ::-1])
    assert call("small.png", "-o", "plain.png", "-n", QUICK, "--scale", "2").code == 0
    ended = call("small.png", "-o", "found.png", "-n", QUICK, "--scale", "2", *FIND)
    assert ended.code == 0
    assert "1 face)" in ended.err
    plain, found = (read_image(faces.parent / f"{n}.png").pixels for n in ("plain", "found"))
    changed = (plain != found).any(-1)
    assert 0 < changed.mean() < 0.1
    assert not changed[:40, :20].any()


def test_pages_of_networks_show_faces(call, faces):
    ended = call("in/girl.webp", "--models", f"{QUICK},upscale-x1", "--crop", "70,60,130,130",
                 "--scale", "1", *FIND, "-o", "page.html")  # fmt: skip
    assert ended.code == 0, ended.err
    assert (faces.parent / "page.html").stat().st_size > 10000


def test_a_face_that_is_missed_in_one_frame_of_a_video_does_not_flicker(call_unchanged, faces):
    import av

    girl = cv2.resize(read_image(faces / "girl.webp").pixels, (96, 96))
    with av.open("face.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 112, 96, "yuv420p"
        for number in range(6):
            frame = np.full((96, 112, 3), 255, np.uint8)
            frame[:, 2 * number : 2 * number + 96] = girl
            if number == 3:
                frame[36:80, 20:100] = 128
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    ended = call_unchanged("video", "face.mp4", "found.mp4", "-n", QUICK, "--scale", "1", *FIND)
    assert ended.code == 0, ended.err
    assert "faces found in 6 of 6 frames" in ended.err
    with av.open("found.mp4") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 6
    covered = frames[3][36:80, 24:96].astype(int)
    assert (abs(covered - 128).max(-1) > 60).any()  # the landmarks are drawn onto the cover


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--face-model", "gfpgan"), "--face-model needs --face"),
        (("--face-strength", "0.5"), "--face-strength needs --face"),
        (("--face-min-size", "50"), "--face-min-size needs --face"),
        (("--face", "--face-strength", "2"), "--face-strength: 2 is not between 0 and 1"),
        (("--face", "--face-min-size", "5"), "--face-min-size: 5 is less than 12"),
        (("--face", "--normal-map"), "--face and --normal-map exclude each other"),
        (("--faces-only", "-n", QUICK), "--faces-only and -n exclude each other"),
    ],
)
def test_flags_that_do_not_fit_are_usage_errors(flags, text, call, faces):
    ended = call("in/girl.webp", "-o", "x.png", *flags)
    assert ended.code == 2
    assert text in ended.err
    assert not (faces.parent / "x.png").exists()


def test_an_unknown_network_for_faces_names_the_known_ones(call, faces):
    ended = call("in/girl.webp", "-o", "x.png", "--face", "--face-model", "gfpgun")
    assert ended.code == 1
    assert "--face-model gfpgun: no such network for faces or file" in ended.err
    assert "gfpgan, gfpgan-1.3, restoreformer, codeformer, none" in ended.err


def test_a_network_for_faces_is_not_one_for_upscaling(call, faces):
    ended = call("in/girl.webp", "-o", "x.png", "-n", "gfpgan")
    assert ended.code == 1
    assert "gfpgan: is for faces; pass --face --face-model gfpgan" in ended.err


def test_models_lists_and_describes_networks_for_faces(call):
    assert "codeformer" in call("models").out
    facts = json.loads(call("models", "info", "codeformer", "--json").out)
    assert facts["kind"] == "faces"
    assert facts["commercial use"] == "not allowed by the licence"
