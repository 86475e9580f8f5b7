"""`upscale video --estimate`."""

from __future__ import annotations

import json

import pytest

from tests.video.clips import Clip, even, make
from tests.video.videos import ffprobe
from upscale.cli.video_estimate import estimate_text
from upscale.jobs import video_estimate

QUICK = ("-n", "realesr-animevideov3", "-s", "2")


@pytest.fixture
def short_parts(monkeypatch):
    monkeypatch.setattr(video_estimate, "_FEWEST", 4)
    monkeypatch.setattr(video_estimate, "_MOST", 4)
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 12)


def test_the_size_is_about_that_of_the_output_and_nothing_is_written(
    short_parts, real_call, tmp_path
):
    make(Clip(even(36), size=(48, 32)), tmp_path / "in.mp4")
    ended = real_call("video", "in.mp4", "out.mkv", "--estimate", "--json", *QUICK)
    assert ended.code == 0, ended.err
    record = json.loads(ended.out)
    assert (record["status"], record["frames"]) == ("planned", None)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
    done = real_call("video", "in.mp4", "out.mkv", "--json", *QUICK)
    assert json.loads(done.out)["estimated_bytes"] is None
    found = ffprobe(tmp_path / "out.mkv", "-show_packets", "-select_streams", "v")["packets"]
    size = sum(int(packet["size"]) for packet in found)
    assert size / 2 < record["estimated_bytes"] < size * 2
    assert record["estimated_seconds"] > 0


def test_a_folder_has_a_line_for_each_video_and_a_sum(short_parts, real_call, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "b.mp4"):
        make(Clip(even(2), size=(16, 16)), tmp_path / "in" / name)
    ended = real_call("video", "in", "out/", "--estimate", *QUICK)
    assert ended.code == 0, ended.err
    assert [line.split("  ")[0] for line in ended.out.splitlines()] == ["out/a.mp4", "out/b.mp4"]
    assert "all videos together: about" in ended.err
    assert not (tmp_path / "out").exists()


def test_images_are_estimated_as_they_are_stored(short_parts, real_call, tmp_path):
    make(Clip(even(4), size=(32, 32)), tmp_path / "in.mp4")
    ended = real_call("video", "in.mp4", "out/%d.png", "--estimate", "--json", *QUICK)
    assert ended.code == 0, ended.err
    assert real_call("video", "in.mp4", "out/%d.png", *QUICK).code == 0
    size = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert json.loads(ended.out)["estimated_bytes"] == pytest.approx(size, rel=0.01)


def test_an_estimate_is_refused_where_the_work_would_be(call, tmp_path):
    make(Clip(even(2)), tmp_path / "in.mp4")
    ended = call("video", "in.mp4", "in.mp4", "--estimate")
    assert (ended.code, "input itself" in ended.err) == (1, True)


def test_estimates_are_rounded():
    assert estimate_text(3, 999) == "about 3 s, about 999 bytes"
    assert estimate_text(90_000, 25e9) == "about 25 h 00 min, about 25 GB"
