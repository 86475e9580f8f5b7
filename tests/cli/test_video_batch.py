"""Folders of videos and several videos."""

from __future__ import annotations

import json

import pytest

from tests.video.clips import Clip, even, make
from upscale.video.probe import probe
from upscale.video.reader import read_frames

QUICK = ("-n", "realesr-animevideov3", "-s", "2")


@pytest.fixture
def clips(tmp_path):
    """A folder with two videos, one of them in a subfolder, a broken one and a text."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    make(Clip(even(2), size=(16, 16)), folder / "a.mp4")
    make(Clip(even(2), size=(16, 16), codec="mpeg4"), folder / "sub" / "b.avi")
    (folder / "broken.mkv").write_bytes(b"no video")
    (folder / "readme.txt").write_text("no video either")
    return folder


def decoded(path):
    frames = read_frames(probe(path))
    return [(frame.pts, *(plane.tobytes() for plane in frame.planes)) for frame in frames]


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_is_upscaled_with_a_line_for_each_video(clips, real_call, tmp_path):
    ended = real_call("video", "in", "-o", "out/", "-r", "--json", *QUICK)
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 3, ended.err
    assert [(line["input"], line["output"], line["status"]) for line in lines] == [
        ("in/a.mp4", "out/a.mp4", "done"),
        ("in/broken.mkv", "out/broken.mkv", "failed"),
        ("in/sub/b.avi", "out/sub/b.mkv", "done"),
    ]
    assert names(tmp_path / "out") == ["a.mp4", "sub/b.mkv"]
    assert probe(tmp_path / "out" / "sub" / "b.mkv").width == 32
    assert "2 done, 1 failed, 1 other file ignored" in ended.err
    assert ended.err.splitlines()[-1].startswith("error: in/broken.mkv")
    again = real_call("video", "in", "-o", "out/", "-r", "--skip-existing", "--json", *QUICK)
    states = [json.loads(line)["status"] for line in again.out.splitlines()]
    assert (again.code, states) == (3, ["skipped", "failed", "skipped"])


def test_subfolders_are_searched_only_on_request(clips, real_call, tmp_path):
    (clips / "broken.mkv").unlink()
    ended = real_call("video", "in", "out/", "--name", "{stem}_x{scale}", "-f", "mkv", *QUICK)
    assert (ended.code, ended.out) == (0, "out/a_x2.mkv\n"), ended.err
    assert "subfolder" not in ended.err
    (clips / "a.mp4").unlink()
    ended = real_call("video", "in", "out/", *QUICK)
    assert ended.code == 1 and "no videos found; use -r" in ended.err


def test_each_output_of_a_batch_equals_that_of_a_single_command(clips, real_call, tmp_path):
    command = ("--codec", "ffv1", *QUICK)
    assert real_call("video", "in/a.mp4", "single.mkv", *command).code == 0
    ended = real_call("video", "in/sub/b.avi", "in/a.mp4", "-o", "out/", "-f", "mkv", *command)
    assert ended.code == 0, ended.err
    assert decoded(tmp_path / "out/a.mkv") == decoded(tmp_path / "single.mkv")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("in/a.mp4", "in/a.mp4", "-o", "in"), 1, "would replace an input"),
        (("in/a.mp4", "-o", "in", "--skip-existing"), 1, "would replace an input"),
        (("in/a.mp4", "in/sub/b.avi", "new"), 2, "several videos need a folder"),
        (("in",), 2, "a folder as input needs -o FOLDER"),
        (("in", "-o", "in/readme.txt"), 2, "is a file"),
        (("in", "-o", "out/", "--name", "{width}"), 2, "{width} is not known"),
        (("in", "-o", "out/", "--name", "../{stem}"), 2, "inside the output folder"),
        (("in", "-o", "out/", "--name", "x.webm"), 2, "names another format"),
        (("in", "-o", "out/", "-f", "avi"), 2, "choose one of mp4"),
        (("in", "-o", "out/", "--preview"), 2, "--preview takes one video"),
        (("in", "-o", "out/", "--overwrite", "--skip-existing"), 2, "exclude each other"),
        (("in", "-", "-o", "out/"), 2, "a pipe takes one video"),
        (("-", "-o", "out/"), 2, "needs an output file"),
        (("in/a.mp4", "out.mp4", "--name", "x"), 2, "--name needs a folder"),
        ((), 2, "no input"),
    ],
)  # fmt: skip
def test_invalid_batches_are_refused_before_any_work(arguments, code, message, clips, call):
    before = names(clips)
    ended = call("video", *arguments)
    assert ended.code == code, ended.err
    assert message in ended.err
    assert names(clips) == before


def test_equal_names_are_an_error_for_the_second(clips, real_call, tmp_path):
    make(Clip(even(2), size=(16, 16), codec="mpeg4"), clips / "sub" / "a.avi")
    ended = real_call(
        "video", "in/a.mp4", "in/sub/a.avi", "-o", "out", "-f", "mkv", "--json", *QUICK
    )
    assert ended.code == 3
    assert "has the same output as in/a.mp4; pass --name" in ended.err
    assert names(tmp_path / "out") == ["a.mkv"]


def test_the_default_network_is_a_fast_one(real_call, tmp_path):
    make(Clip(even(1), size=(16, 16)), tmp_path / "in.mp4")
    ended = real_call("video", "in.mp4", "out.mkv", "--json")
    assert json.loads(ended.out)["model"] == "upscale-x4-fast"
    assert "note: upscaling with upscale-x4-fast, which is fast; -n auto is sharper" in ended.err
    ended = real_call("video", "in.mp4", "again.mkv", "-n", "upscale-x4-fast")
    assert "which is fast" not in ended.err


def test_the_default_network_up_to_x2_is_that_for_x2(real_call, tmp_path):
    make(Clip(even(1), size=(16, 16)), tmp_path / "in.mp4")
    ended = real_call("video", "in.mp4", "out.mkv", "-s", "2", "--json")
    assert json.loads(ended.out)["model"] == "upscale-x2-fast"
    assert "note: upscaling with upscale-x2-fast, which is fast; -n auto is sharper" in ended.err
    named = real_call("video", "in.mp4", "two.mkv", "-s", "2", "--json", "-n", "upscale-x4-fast")
    assert json.loads(named.out)["model"] == "upscale-x4-fast", named.err
    environ = {"UPSCALE_MODEL": "realesr-animevideov3"}
    named = real_call("video", "in.mp4", "three.mkv", "-s", "2", "--json", env=environ)
    assert json.loads(named.out)["model"] == "realesr-animevideov3", named.err
    assert "which is fast" not in named.err


def test_a_single_output_that_exists_is_skipped_on_request(call, tmp_path):
    make(Clip(even(1), size=(16, 16)), tmp_path / "in.mp4")
    (tmp_path / "out.mkv").write_bytes(b"finished")
    ended = call("video", "in.mp4", "out.mkv", "--skip-existing", "--json")
    assert (ended.code, json.loads(ended.out)["status"]) == (0, "skipped"), ended.err
    assert ended.err == "in.mp4: skipped, out.mkv exists\n"
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "1.png").touch()
    ended = call("video", "in.mp4", "frames/%d.png", "--skip-existing", "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_outputs_among_the_inputs_are_not_upscaled_again(clips, real_call):
    (clips / "broken.mkv").unlink()
    command = ("video", "in", "-o", "in", "--name", "{stem}_x2", "--skip-existing", "-v", *QUICK)
    assert real_call(*command).code == 0
    ended = real_call(*command)
    assert (ended.code, ended.out) == (0, ""), ended.err
    assert "in/a_x2.mp4: skipped, is the output of in/a.mp4" in ended.err
    assert names(clips) == ["a.mp4", "a_x2.mp4", "readme.txt", "sub/b.avi"]
