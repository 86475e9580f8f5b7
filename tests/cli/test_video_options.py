"""Presets, sizes, duplicates, notes and progress of `upscale video`, checked with ffprobe."""

from __future__ import annotations

import json
from fractions import Fraction

import av
import pytest

from tests.video.clips import Clip, even, image, make
from tests.video.videos import ffprobe
from upscale.cli.progress_bars import ProgressLines
from upscale.cli.video_values import frame_rate
from upscale.errors import UsageError

QUICK = ("-n", "realesr-animevideov3", "-s", "2")


def streams(path):
    return ffprobe(path, "-show_streams")["streams"]


@pytest.mark.parametrize(
    ("purpose", "name", "video", "pixels", "sound"),
    [
        ("web", "out.mp4", "h264", "yuv420p", "aac"),
        ("archive", "out.mkv", "ffv1", "yuv444p", "pcm_s16le"),
        ("edit", "out.mov", "prores", "ap4h", "pcm_s16le"),
    ],
)
def test_a_purpose_chooses_codec_and_container(
    purpose, name, video, pixels, sound, real_call, tmp_path
):
    with av.open(str(tmp_path / "in.avi"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv444p"
        audio = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number in range(2):
            frame = image(number, (16, 16), "yuv444p")
            frame.pts = number
            container.mux(stream.encode(frame))
        frame = av.AudioFrame("s16", "mono", 640)
        frame.sample_rate, frame.pts = 8000, 0
        frame.planes[0].update(bytes(1280))
        container.mux([*stream.encode(None), *audio.encode(frame), *audio.encode(None)])
    ended = real_call("video", "in.avi", "-o", "out/", "--for", purpose, "--name", "out", *QUICK)
    assert (ended.code, ended.out) == (0, f"out/{name}\n"), ended.err
    first, second = streams(tmp_path / "out" / name)
    assert first["codec_name"] == video
    assert pixels in (first["pix_fmt"], first["codec_tag_string"])
    assert second["codec_name"] == sound


def test_options_go_before_a_purpose(real_call, tmp_path):
    make(Clip(even(1), size=(16, 16)), tmp_path / "in.mp4")
    ended = real_call("video", "in.mp4", "out.mkv", "--for", "web", "--codec", "ffv1", *QUICK)
    assert ended.code == 0, ended.err
    assert streams(tmp_path / "out.mkv")[0]["codec_name"] == "ffv1"
    ended = real_call("video", "in.mp4", "b.mkv", "--for", "print")
    assert (ended.code, "choose one of web, archive, edit" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("size", "expected"), [(("-s", "2"), (140, 96)), (("--height", "72"), (104, 72))]
)
def test_square_pixels_keep_the_shape(size, expected, real_call, tmp_path):
    make(Clip(even(1), size=(64, 48), sample_aspect=Fraction(12, 11)), tmp_path / "in.mp4")
    ended = real_call("video", "in.mp4", "out.mp4", "--square-pixels", *QUICK[:2], *size)
    assert ended.code == 0, ended.err
    (stream,) = streams(tmp_path / "out.mp4")
    assert (stream["width"], stream["height"]) == expected
    assert stream.get("sample_aspect_ratio", "1:1") == "1:1"


@pytest.mark.parametrize(("duplicates", "computed"), [("exact", 4), ("near", 1)])
def test_near_duplicates_are_computed_once_on_request(duplicates, computed, real_call, tmp_path):
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "gray"
        for number in range(4):
            frame = av.VideoFrame(16, 16, "gray")
            frame.planes[0].update(bytes([100 + number % 2]) * frame.planes[0].buffer_size)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    ended = real_call("video", "in.mkv", "out.mkv", "--duplicates", duplicates, "--json", *QUICK)
    record = json.loads(ended.out)
    assert (record["frames"], record["computed"]) == (4, computed)
    found = ffprobe(tmp_path / "out.mkv", "-show_packets", "-select_streams", "v")["packets"]
    assert len(found) == 4


def test_what_matters_to_few_is_said_only_on_request(real_call, tmp_path):
    make(Clip(even(12), container="mpegts"), tmp_path / "in.ts")
    ended = real_call("video", "in.ts", "out.mkv", "--frames", "1", *QUICK)
    assert "note: the colours are not tagged; BT.601 is assumed\n" in ended.err
    assert "cannot be detected" not in ended.err
    ended = real_call("video", "in.ts", "again.mkv", "--frames", "1", "-v", *QUICK)
    assert "a truncated file cannot be detected" in ended.err


def test_a_pause_does_not_count_as_work():
    """A stopped program continues later; what it does in a second has not changed."""
    moments = [float(second) for second in range(40)]
    moments += [3640.0 + second for second in range(40)]
    times = iter(moments)
    lines = []
    advance = ProgressLines(lines.append, "frames", clock=lambda: next(times))
    for number in range(80):
        advance(number, 200)
    assert lines[0] == "30/200 frames, 1.0 frames/s, 3 min left"
    assert [line.partition(", ")[2] for line in lines[1:]] == [
        "1.0 frames/s, 3 min left",
        "1.0 frames/s, 2 min left",
    ]


def test_logs_get_a_line_every_thirty_seconds():
    times, lines = iter([0, 10, 31, 40, 62, 100]), []
    advance = ProgressLines(lines.append, "frames", clock=lambda: next(times))
    for done in (5, 15, 36, 45, 67, 72):
        advance(done, 72)
    assert lines == [
        "36/72 frames, 1.0 frames/s, 36 s left",
        "67/72 frames, 1.0 frames/s, 5 s left",
    ]


def test_a_program_that_is_not_on_a_terminal_prints_lines(real_call, tmp_path, monkeypatch):
    monkeypatch.setattr("upscale.cli.progress_bars._LINE_SECONDS", 0)
    make(Clip(even(3), size=(16, 16)), tmp_path / "in.mp4")
    ended = real_call("video", "in.mp4", "out.mkv", *QUICK)
    assert "2/3 frames, " in ended.err and " left\n" in ended.err
    quiet = real_call("video", "in.mp4", "quiet.mkv", "--quiet", *QUICK)
    assert quiet.err == ""


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("24", Fraction(24)),
        ("23.976", Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("59.94", Fraction(60000, 1001)),
        ("12.5", Fraction(25, 2)),
        ("30000/1001", Fraction(30000, 1001)),
    ],
)
def test_rounded_rates_are_those_that_are_meant(text, rate):
    assert frame_rate(text) == rate


@pytest.mark.parametrize("text", ["0", "-1", "abc", "1/0", "99999", "1e3", ""])
def test_other_rates_are_refused(text):
    with pytest.raises(UsageError, match="--fps"):
        frame_rate(text)
