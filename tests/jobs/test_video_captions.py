"""Closed captions and HDR10+ go into H.264, HEVC and AV1; FFmpeg's own programs read them back."""

from __future__ import annotations

import subprocess
from collections import Counter
from fractions import Fraction

import av
import pytest

from tests.jobs.test_video import Doubling
from tests.jobs.test_video_containers import DATA, Broken, upscale
from tests.video.captioned import captioned, extracted
from tests.video.videos import ffprobe
from upscale.errors import OutputError
from upscale.video import captions, t35
from upscale.video.carried_data import carried_data
from upscale.video.encoders import VideoEncoding
from upscale.video.probe import probe
from upscale.video.pyav import side_data

CAPTIONS, HDR10_PLUS = "ATSC A53 Part 4 Closed Captions", "HDR10+"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return captioned(tmp_path_factory.mktemp("captions") / "in.ts")


def side_data_of(path):
    """Return how many frames have each kind of side data, by ffprobe."""
    found = ffprobe(path, "-show_frames", "-select_streams", "v")["frames"]
    return Counter(
        data["side_data_type"] for each in found for data in each.get("side_data_list", [])
    )


def frames_with(path, kind):
    """Return the side data of each frame in the order of display, by FFmpeg's decoders."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"max_frame_delay": "1"}
        return [side_data(frame, kind) for frame in container.decode(stream)]


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("x264", ".mp4"), ("x264", ".mkv"), ("x265", ".mov"), ("svt-av1", ".webm")],
)
def test_each_frame_has_the_captions_of_its_source(codec, suffix, tmp_path):
    source, output = DATA / "cea608-in-sei.mp4", tmp_path / f"out{suffix}"
    encoding = VideoEncoding(codec, preset="12" if codec == "svt-av1" else "ultrafast")
    upscale(source, output, encoding=encoding, frames=30, strict=True)
    assert frames_with(output, "A53_CC") == frames_with(source, "A53_CC")[:30]
    if codec != "svt-av1":  # older decoders leave them out where a frame is shown again
        assert side_data_of(output)[CAPTIONS] == 30


@pytest.mark.parametrize("codec", ["x265", "svt-av1"])
def test_each_frame_has_the_hdr10_plus_metadata_of_its_source(codec, tmp_path):
    source, output = DATA / "hdr10plus.mp4", tmp_path / "out.mp4"
    encoding = VideoEncoding(codec, preset="12" if codec == "svt-av1" else "ultrafast")
    report = upscale(source, output, encoding=encoding, strict=True)
    assert report.frames == 12
    expected = frames_with(source, "DYNAMIC_HDR_PLUS")
    assert frames_with(output, "DYNAMIC_HDR_PLUS") == expected and all(expected)
    if codec == "x265":
        assert (
            sum(count for name, count in side_data_of(output).items() if HDR10_PLUS in name) == 12
        )


@pytest.mark.parametrize(
    ("name", "codec", "lost"),
    [
        ("hdr10plus.mp4", "x264", "HDR10+"),
        ("hdr10plus.mp4", "ffv1", "HDR10+"),
        ("cea608-in-sei.mp4", "ffv1", "closed captions"),
        ("cea608-in-sei.mp4", "vp9", "closed captions"),
    ],
)
def test_codecs_that_cannot_hold_them_are_refused_with_strict(name, codec, lost, tmp_path):
    with pytest.raises(OutputError, match=lost.replace("+", r"\+")):
        upscale(DATA / name, tmp_path / "out.mkv", codec, Broken(), strict=True, frames=1)


def test_captions_of_mpeg2_are_shown_at_their_times(source, tmp_path):
    output = tmp_path / "out.mp4"
    upscale(source, output)
    assert "HELLO WORLD" in extracted(source)
    assert extracted(output) == extracted(source)


@pytest.mark.parametrize("name", ["in.mpg", "in.mkv"])
def test_captions_of_a_dvd_are_spread_over_its_frames(name, tmp_path):
    source, output = captioned(tmp_path / name, kind="dvd"), tmp_path / "out.mp4"
    upscale(source, output)
    assert "00:00:00,480 --> 00:00:01" in extracted(output)
    assert "HELLO WORLD" in extracted(output)
    assert {len(each) for each in frames_with(output, "A53_CC")} <= {0, 3, 6, 12}


@pytest.mark.parametrize("conversion", ["field", None])
def test_captions_keep_their_times_in_deinterlaced_videos(conversion, tmp_path):
    source, output = captioned(tmp_path / "in.ts", flags="+ilme+ildct"), tmp_path / "out.mp4"
    upscale(source, output, conversion=conversion, deinterlace=conversion is None)
    assert extracted(output) == extracted(source)


def test_captions_of_a_part_begin_with_it(source, tmp_path):
    output = tmp_path / "out.mp4"
    upscale(source, output, start=Fraction(1))
    whole, part = frames_with(source, "A53_CC"), frames_with(output, "A53_CC")
    assert part == whole[-len(part) :] and len(part) in (25, 26)


def test_raw_streams_without_times_keep_their_captions(source, tmp_path):
    upscale(source, tmp_path / "out.mp4")
    raw, output = tmp_path / "raw.h264", tmp_path / "again.mp4"
    copy = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "out.mp4"), "-c", "copy", str(raw)]
    subprocess.run(copy, check=True)
    assert probe(raw).sequential
    upscale(raw, output)
    assert extracted(output) == extracted(source)


def test_a_resumed_run_has_all_captions(source, tmp_path, monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 10)
    output = tmp_path / "out.mp4"
    with pytest.raises(OSError):
        upscale(source, output, upscaler=Doubling(fail_at=30, error=OSError()))
    assert upscale(source, output).resumed >= 10
    assert extracted(output) == extracted(source)


def test_captions_of_frames_that_are_left_out_go_to_the_next_one(source):
    video = probe(source)
    times = video.frame_times[::5]
    found = carried_data(video, "h264", times, is_cut=False)
    pairs = [unit for number in sorted(found) for unit in _pairs(found[number][0])]
    everything = carried_data(video, "h264", video.frame_times, is_cut=False)
    expected = [unit for number in sorted(everything) for unit in _pairs(everything[number][0])]
    last = video.frame_times.index(times[-1]) + 1
    assert pairs == expected[:last] and max(map(len, found.values())) == 1


def _pairs(payload):
    """Return the units of a payload that are no fillers."""
    units = [payload[start : start + 3] for start in range(10, len(payload) - 1, 3)]
    return [each for each in units if each[0] & 4]


def test_more_captions_than_a_frame_holds_go_to_the_next_one():
    full = next(captions.joined([_payload(20), _payload(20)]))
    parts = list(captions.joined([_payload(20), _payload(20)]))
    assert parts[0] == full and [each[8] & 31 for each in parts] == [31, 9]
    assert [_pairs(each) for each in parts] == [[b"\xfcab"] * 31, [b"\xfcab"] * 9]


def _payload(count):
    return t35.CAPTIONS + bytes([0xC0 | count, 0xFF]) + b"\xfcab" * count + b"\xff"


@pytest.mark.parametrize("payload", [b"\xb5\0\0\0\1\0\0\0\3" + bytes(300), b"\xb5\1\2\3"])
@pytest.mark.parametrize(
    ("codec", "lengths"), [("h264", 4), ("hevc", 4), ("h264", 0), ("hevc", 0), ("av1", 0)]
)
def test_payloads_that_look_like_start_codes_are_read_back(codec, lengths, payload):
    picture = {"h264": b"\x65abc", "hevc": b"\x26\1ab", "av1": b"\x32\2ab"}[codec]
    content = (b"\0\0\0\4" if lengths else b"" if codec == "av1" else b"\0\0\1") + picture
    packet = t35.with_payloads(codec, content, lengths, [payload])
    assert packet.endswith(content)
    assert list(t35.payloads_in(codec, packet, lengths)) == [payload]
    unit = packet[lengths or 3 : -len(content)]
    assert codec == "av1" or not any(b"\0\0" + bytes([each]) in unit for each in range(3))


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "mpeg2video"])
@pytest.mark.parametrize("content", [b"", b"\0", b"\x06\x04\xff", b"\x2a\xff\xff", bytes(9)])
def test_damaged_packets_have_no_payloads(codec, content):
    for lengths in (0, 4):
        units = len(content).to_bytes(4) + content if lengths else b"\0\0\1" + content
        assert list(t35.payloads_in(codec, units, lengths)) == []
