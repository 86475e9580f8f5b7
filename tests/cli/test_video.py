from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import av
import cv2
import pytest

from tests.video.clips import Clip, even, make
from upscale.checkpoints import catalog
from upscale.video.probe import probe
from upscale.video.reader import read_frames
from upscale.video.segments import folder_for

QUICK = "realesr-animevideov3"


def decoded(path):
    video = probe(path)
    return [(f.pts, *(plane.tobytes() for plane in f.planes)) for f in read_frames(video)]


def test_a_video_is_upscaled_by_the_real_program(program, tmp_path):
    source = make(Clip(even(6), sound=True), tmp_path / "in.mp4")
    ended = program("video", "in.mp4", "out.mp4", "-n", QUICK, "--scale", "2", "--json")
    assert ended.code == 0, ended.err
    line = json.loads(ended.out)
    assert (line["frames"], line["computed"], line["lost"]) == (6, 6, [])
    video = probe(tmp_path / "out.mp4")
    assert (video.width, video.height, len(video.frame_times)) == (128, 96, 6)
    assert ".out.mp4.upscale" in ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
    again = program("video", "in.mp4", "out.mp4", "-n", QUICK)
    assert again.code == 1 and "--overwrite" in again.err
    assert source.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("gone.mp4", "out.mp4"), 1, "gone.mp4"),
        (("in.mp4", "in.mp4"), 1, "input itself"),
        (("in.mp4", "out.mp4", "--codec", "divx"), 2, "divx"),
        (("in.mp4", "out.webm", "--codec", "x264"), 1, "does not support"),
        (("in.mp4", "out.mp4", "--encoder-option", "nonsense=1"), 2, "nonsense"),
        (("in.mp4", "out.mp4", "--encoder-option", "nonsense"), 2, "KEY=VALUE"),
        (("in.mp4", "out.mp4", "--crf", "99"), 2, "crf"),
        (("in.mp4", "out.mp4", "--start", "9"), 1, "--start"),
        (("in.mp4", "out.mp4", "--start", "1:xx"), 2, "--start 1:xx: is not a time"),
        (("in.mp4", "out.mp4", "--end", "-1"), 2, "--end"),
        (("in.mp4", "out.mp4", "--at", "0"), 2, "--preview"),
        (("in.mp4", "--preview", "--at", "0,,1"), 2, "--at : is not a time"),
        (("in.mp4", "--preview", "--at", "1:00"), 2, "ends at 0:00.080"),
        (("in.mp4", "out.txt", "--preview"), 1, "out.txt"),
        (("gone.mp4", "--preview"), 1, "gone.mp4"),
        (("in.mp4",), 2, "OUT"),
        (("in.mp4", "out.mp4", "--join"), 2, "--join needs --shard"),
        (("in.mp4", "out.mp4", "--shard", "1/2", "--restart"), 2, "exclude each other"),
        (("in.mp4", "out.mp4", "--shard", "3/2"), 2, "--shard: 3/2 does not exist"),
    ],
)
def test_invalid_requests_are_one_line_before_any_work(arguments, code, message, call, tmp_path):
    make(Clip(even(2)), tmp_path / "in.mp4")
    ended = call("video", *arguments)
    assert ended.code == code, ended.err
    assert message in ended.err and len(ended.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_preview_writes_only_an_image(real_call, tmp_path):
    make(Clip(even(6), sound=True), tmp_path / "in.mp4")
    ended = real_call("video", "in.mp4", "--preview", "-n", QUICK, "-s", "2", "--at", "0,0:00.2")
    assert (ended.code, ended.out) == (0, "in_preview.png\n"), ended.err
    sheet = cv2.imread(str(tmp_path / "in_preview.png"))
    assert sheet.shape[1] == 2 * 128 + 3 * 8
    ended = real_call(
        "video", "in.mp4", "out.mkv", "--preview", "-n", QUICK, "--at", "0.1", "--json"
    )
    line = json.loads(ended.out)
    assert (line["output"], line["times"], line["size"]) == ("out_preview.png", [0.08], [256, 192])
    assert cv2.imread(str(tmp_path / "out_preview.png")).shape == (192, 256, 3)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"in.mp4", "in_preview.png", "out_preview.png"}


def test_tta_gives_the_same_pixels_as_for_an_image(real_call, photo, tmp_path):
    """A lossless video of one RGB frame is upscaled like the image."""
    path = photo("in.png", 24, 16)
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 24, 16, "bgr0"
        frame = av.VideoFrame.from_ndarray(cv2.imread(str(path)), "bgr24")
        container.mux([*stream.encode(frame.reformat(format="bgr0")), *stream.encode(None)])
    results = {}
    for name, more in (("plain", ()), ("tta", ("--tta",))):
        for words in (
            ("in.png", "-o", f"{name}.png"),
            ("video", "in.mkv", f"{name}.mkv", "--codec", "ffv1"),
        ):
            ended = real_call(*words, "-n", QUICK, *more)
            assert ended.code == 0, ended.err
        with av.open(str(tmp_path / f"{name}.mkv")) as container:
            large = next(container.decode(video=0)).to_ndarray(format="bgr24").astype(int)
        assert abs(large - cv2.imread(str(tmp_path / f"{name}.png"))).max() <= 1
        results[name] = large
    assert abs(results["tta"] - results["plain"]).max() > 8


def test_denoise_reaches_the_network_and_must_fit_it(real_call, tmp_path):
    make(Clip(even(2)), tmp_path / "in.mp4")
    ended = real_call("video", "in.mp4", "out.mp4", "-n", QUICK, "--denoise", "0.5")
    assert ended.code == 2
    assert "realesr-general-x4v3" in ended.err.splitlines()[-1]
    ended = real_call("video", "in.mp4", "out.mp4", "--denoise", "2")
    assert (ended.code, ended.err.count("\n")) == (2, 1)


def test_a_run_resumes_only_with_the_same_options_of_the_network(real_call, tmp_path, monkeypatch):
    make(Clip(even(2), size=(16, 16)), tmp_path / "in.mp4")
    command = ("video", "in.mp4", "out.mp4", "-n", QUICK, "-s", "1")
    with monkeypatch.context() as patch:
        patch.setattr("upscale.jobs.video_segments.SegmentRunner.run", interrupted)
        assert real_call(*command, "--tta").code == 130
    refused = real_call(*command)
    assert refused.code == 1
    assert "options of the network" in refused.err and "--restart" in refused.err
    assert not (tmp_path / "out.mp4").exists()
    assert real_call(*command, "--tta").code == 0
    assert (tmp_path / "out.mp4").exists()


def test_a_run_resumes_only_with_the_same_default_denoise(real_call, tmp_path, monkeypatch):
    make(Clip(even(2), size=(16, 16)), tmp_path / "in.mp4")
    command = ("video", "in.mp4", "out.mp4", "-n", "upscale-x4-fast", "-s", "1")
    with monkeypatch.context() as patch:
        patch.setattr("upscale.jobs.video_segments.SegmentRunner.run", interrupted)
        assert real_call(*command).code == 130
    entry = catalog()["upscale-x4-fast"]
    with monkeypatch.context() as patch:
        patch.setitem(catalog(), entry.name, replace(entry, denoise=0.75))
        refused = real_call(*command)
    assert (refused.code, refused.err.count("another model")) == (1, 1), refused.err
    assert not (tmp_path / "out.mp4").exists()
    assert real_call(*command).code == 0


def interrupted(*arguments):
    raise KeyboardInterrupt


@pytest.mark.parametrize(("name", "codec"), [("libx264", "h264"), ("hevc", "hevc")])
def test_codecs_may_have_the_names_of_ffmpeg(name, codec, real_call, tmp_path):
    make(Clip(even(2), size=(16, 16)), tmp_path / "in.mp4")
    ended = real_call("video", "in.mp4", "out.mp4", "-n", QUICK, "-s", "4", "--codec", name)
    assert ended.code == 0, ended.err
    assert probe(tmp_path / "out.mp4").codec == codec


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals are of another kind there")
@pytest.mark.parametrize("codec", ["x264", "ffv1"])
def test_a_killed_run_is_resumed_with_an_identical_result(
    codec, program, program_environment, tmp_path
):
    """Kill the program in the second segment; finished segments are not computed again."""
    make(Clip(even(150), size=(16, 16)), tmp_path / "in.mp4")
    command = ["video", "in.mp4", "-n", QUICK, "--scale", "2", "--codec", codec]
    assert program(*command, "whole.mkv").code == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "upscale", *command, "out.mkv"],
        cwd=tmp_path, env=program_environment, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    work = folder_for(tmp_path / "out.mkv")
    while process.poll() is None and not (work / "seg-000000.mkv").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out.mkv").exists()
    ended = program(*command, "out.mkv", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["resumed"] in (0, 120)
    assert decoded(tmp_path / "out.mkv") == decoded(tmp_path / "whole.mkv")
    assert not work.exists()


def test_shards_compute_a_video_and_the_last_one_joins_it(real_call, tmp_path, monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 4)
    make(Clip(even(6)), tmp_path / "in.mp4")
    command = ("video", "in.mp4", "out.mkv", "-n", QUICK, "-s", "2", "--codec", "ffv1")
    ended = real_call(*command[:2], "whole.mkv", *command[3:])
    assert ended.code == 0, ended.err
    first = real_call(*command, "--shard", "1/2", "--join", "--json")
    record = json.loads(first.out)
    assert (first.code, record["status"], record["frames"]) == (0, "share", 4)
    assert "the share is complete; 1 of 2 segments are not" in first.err
    assert not (tmp_path / "out.mkv").exists()
    last = real_call(*command, "--shard", "2/2", "--join")
    assert (last.code, last.out) == (0, "out.mkv\n"), last.err
    assert decoded(tmp_path / "out.mkv") == decoded(tmp_path / "whole.mkv")
    again = real_call(*command, "--shard", "1/2")
    assert again.code == 1 and "--overwrite" in again.err
