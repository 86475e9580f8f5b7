"""Videos through pipes: `-` as the input and the output."""

from __future__ import annotations

import io
import json

import av
import numpy as np
import pytest

from tests.video.clips import Clip, even, image, make
from tests.video.videos import ffprobe
from upscale.video.probe import probe
from upscale.video.reader import read_frames

QUICK = ("-n", "realesr-animevideov3", "-s", "2", "--keep-colour", "off")

RAW = ("--raw-size", "4x4", "--raw-format", "rgb24", "--fps", "25")


@pytest.fixture
def clip(tmp_path):
    return make(Clip(even(4), size=(16, 16), sound=True), tmp_path / "in.mp4")


def frames_of(content):
    with av.open(io.BytesIO(content), format="yuv4mpegpipe") as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 25
        return [frame.to_ndarray() for frame in container.decode(stream)]


def test_a_file_and_a_pipe_give_the_same_frames_as_a_video(clip, real_call, tmp_path):
    ended = real_call("video", "in.mp4", "-", *QUICK)
    assert ended.code == 0, ended.err
    assert ended.err.splitlines()[-1] == "4 frames written"
    frames = frames_of(ended.out_bytes)
    assert real_call("video", "in.mp4", "out.mkv", "--codec", "ffv1", *QUICK).code == 0
    with av.open(str(tmp_path / "out.mkv")) as container:
        expected = [frame.to_ndarray() for frame in container.decode(video=0)]
    assert all(map(np.array_equal, frames, expected))
    source = io.BytesIO()
    with av.open(str(clip)) as container:
        source.write(b"YUV4MPEG2 W16 H16 F25:1 Ip A1:1 C420mpeg2\n")
        for frame in container.decode(video=0):
            source.write(b"FRAME\n" + frame.to_ndarray().tobytes())
    piped = real_call("video", "-", "-", "--frames", "3", *QUICK, stdin=source.getvalue())
    assert piped.code == 0, piped.err
    assert all(map(np.array_equal, frames_of(piped.out_bytes), expected[:3]))
    assert len(frames_of(piped.out_bytes)) == 3


def test_raw_frames_have_no_headers(clip, real_call):
    ended = real_call("video", "in.mp4", "-", "--frames", "2", "-f", "raw", "--quiet", *QUICK)
    assert (ended.code, ended.err, len(ended.out_bytes)) == (0, "", 2 * 32 * 32 * 3 // 2)


def test_any_video_of_a_pipe_becomes_a_file(clip, real_call, tmp_path):
    ended = real_call("video", "-", "out.mkv", "--json", *QUICK, stdin=clip.read_bytes())
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["frames"] == 4
    types = [s["codec_type"] for s in ffprobe(tmp_path / "out.mkv", "-show_streams")["streams"]]
    assert types == ["video", "audio"]
    assert len(list(read_frames(probe(tmp_path / "out.mkv")))) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mkv"]


RAW_FORMATS = ["rgb24", "bgr24", "rgb48le", "rgba", "gbrp", "yuv420p", "yuv422p10le", "gray"]


@pytest.mark.parametrize("name", RAW_FORMATS)
def test_frames_without_headers_come_back_without_headers(name, real_call):
    frames = [image(number, (16, 16), "yuv420p").reformat(format=name) for number in range(2)]
    content = b"".join(each.to_ndarray().tobytes() for each in frames)
    if name == "gbrp":  # PyAV's arrays have the order of RGB
        content = b"".join(
            each.to_ndarray()[:, :, plane].tobytes() for each in frames for plane in (1, 2, 0)
        )
    raw = ("--raw-size", "16x16", "--raw-format", name, "--fps", "25")
    ended = real_call(
        "video", "-", "-", *raw, "-f", "raw", "--quiet", *QUICK, "-s", "1", stdin=content
    )
    assert ended.code == 0, ended.err
    assert len(ended.out_bytes) == len(content)
    dtype = np.uint16 if name.endswith("le") else np.uint8
    old, new = (np.frombuffer(each, dtype).astype(int) for each in (content, ended.out_bytes))
    assert np.corrcoef(old, new)[0, 1] > 0.9


def test_frames_without_headers_become_a_file(real_call, tmp_path):
    frames = [image(number, (16, 16), "yuv420p").reformat(format="rgb24") for number in range(3)]
    content = b"".join(each.to_ndarray().tobytes() for each in frames)
    raw = ("--raw-size", "16x16", "--raw-format", "rgb24", "--fps", "30000/1001")
    ended = real_call("video", "-", "out.mp4", *raw, "--json", *QUICK, stdin=content)
    assert ended.code == 0, ended.err
    stream = ffprobe(tmp_path / "out.mp4", "-show_streams")["streams"][0]
    found = stream["width"], stream["height"], stream["nb_frames"], stream["avg_frame_rate"]
    assert found == (32, 32, "3", "30000/1001")
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((*RAW[:2], *RAW[4:]), 2, "need --raw-size, --raw-format and --fps"),
        (("--raw-size", "4", *RAW[2:]), 2, "--raw-size 4: is not of the form"),
        (("--raw-size", "0x4", *RAW[2:]), 2, "is not of the form"),
        ((*RAW[:2], "--raw-format", "rgb25", *RAW[4:]), 2, "is no pixel format of frames"),
        ((*RAW, "--max-pixels", "9"), 1, "exceeds the limit of 9 pixels"),
        (RAW, 1, "ends after 5 of 48 bytes of frame 1"),
    ],
)
@pytest.mark.parametrize("output", ["-", "out.mkv"])
def test_frames_that_are_not_as_named_are_refused(
    arguments, code, message, output, real_call, tmp_path
):
    ended = real_call("video", "-", output, *arguments, *QUICK, stdin=b"12345")
    assert (ended.code, message in ended.err) == (code, True), ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("in.mp4", "-", *RAW), 2, "are for standard input"),
        (("in.mp4", "-", "--json"), 2, "--json cannot be combined"),
        (("in.mp4", "-", "--codec", "x264"), 2, "Y4M has no codec"),
        (("in.mp4", "-", "-f", "mkv"), 2, "takes y4m or raw"),
        (("in.mp4", "-", "--estimate"), 2, "--estimate needs files"),
        (("in.mp4", "-", "--shard", "1/2"), 2, "--shard needs a file"),
        (("in.mp4", "-", "--pix-fmt", "gbrp"), 2, "not supported by y4m"),
        (("-", "-", "--start", "1"), 1, "is not Y4M"),
        (("-", "out/"), 2, "standard input needs an output file"),
        (("-", "out.mkv"), 1, "is not a video"),
    ],
)
def test_invalid_pipes_are_one_line_without_output(arguments, code, message, clip, call):
    ended = call("video", *arguments, stdin=b"no video")
    assert (ended.code, ended.out) == (code, ""), ended.err
    assert message in ended.err and len(ended.err.splitlines()) == 1


def test_terminals_are_no_pipes(clip, call):
    ended = call("video", "in.mp4", "-", out_terminal=True)
    assert (ended.code, "is a terminal" in ended.err) == (2, True)
    ended = call("video", "-", "out.mkv", stdin_terminal=True)
    assert (ended.code, "is a terminal" in ended.err) == (2, True)
