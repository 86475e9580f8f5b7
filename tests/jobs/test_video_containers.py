"""What a container can hold, as ffprobe reads it: no refusal after the work, no wrong clock."""

from __future__ import annotations

import itertools
import re
import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.jobs.test_video import Doubling, doubled
from tests.video.clips import Clip, even, image, make
from tests.video.videos import ffprobe
from upscale.errors import OutputError, VideoError
from upscale.jobs.video import VideoSettings, plan_video, run_video
from upscale.video.encoders import VideoEncoding
from upscale.video.frame_grid import on_grid
from upscale.video.probe import probe
from upscale.video.reader import read_frames
from upscale.video.segments import folder_for
from upscale.video.stream_header import CROPS, shown_with
from upscale.video.timeline import Timeline

DATA = Path(__file__).parents[1] / "data" / "videos"


def upscale(source, output, codec="x264", upscaler=None, size=doubled, encoding=None, **settings):
    encoding = encoding or VideoEncoding(codec)
    job = plan_video(source, output, size, VideoSettings(encoding, **settings))
    return run_video(
        job, (upscaler or Doubling(),), {"model": "doubling"}, lambda *_: None, [].append
    )


def packets(path, kind="v"):
    """Return ffprobe's time, duration and size of each packet of a stream, sorted by time."""
    entries = "packet=pts_time,duration_time,size"
    found = ffprobe(path, "-show_entries", entries, "-select_streams", kind)["packets"]
    return sorted(
        (float(each["pts_time"]), float(each.get("duration_time", 0)), int(each["size"]))
        for each in found
    )


def starts(path, kind="v"):
    return [time for time, _, _ in packets(path, kind)]


def with_pcm(path, seconds=1, rate=48000, samples=1024, start=0.0):
    """Write a Matroska file with FFV1 and PCM, in packets of 21.333 ms at rounded times."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        for number in range(25 * seconds):
            frame = av.VideoFrame.from_ndarray(np.full((36, 32), number, np.uint8), "yuv420p")
            frame.pts = number
            container.mux(video.encode(frame))
        noise = np.random.default_rng(1).integers(-9000, 9000, (1, rate * seconds), np.int16)
        for first in range(0, rate * seconds, samples):
            frame = av.AudioFrame.from_ndarray(noise[:, first : first + samples], "s16", "mono")
            frame.sample_rate, frame.pts = rate, round(start * rate) + first
            container.mux(sound.encode(frame))
    return path


def samples(path):
    with av.open(str(path)) as container:
        return np.concatenate([each.to_ndarray() for each in container.decode(audio=0)], axis=1)


def broadcast(path, offset=0, count=50):
    options = {"output_ts_offset": str(offset)} if offset else {}
    clip = Clip(even(count), container="mpegts", sound=True, container_options=options)
    return make(clip, path)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_overlapping_texts_end_where_the_next_one_starts(suffix, tmp_path):
    output = tmp_path / f"out{suffix}"
    upscale(DATA / "srt-overlap.mkv", output)
    texts = [(start, start + length) for start, length, size in packets(output, "s") if size > 2]
    assert [start for start, _ in texts] == pytest.approx([0.1, 0.1, 0.5], abs=1e-3)
    assert texts[1][1] == pytest.approx(0.5, abs=1e-3)
    assert texts[2][1] == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_late_first_frame_before_close_ones_keeps_its_time(suffix, tmp_path):
    source, output = DATA / "vfr-late-start.mkv", tmp_path / f"out{suffix}"
    upscale(source, output)
    assert starts(output) == pytest.approx(starts(source), abs=1e-4)


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (0, 1, 3, 2), (0, 3, 2, 1)])
def test_frames_keep_their_times_in_mp4_whatever_the_order_of_packets(order, tmp_path):
    """An encoder chooses the order; the first frames decide about MP4's edit list."""
    from upscale.video.join import EncodedSegment, _times_before

    with av.open(str(tmp_path / "segment.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        stream.time_base = Fraction(1, 1000)
        container.start_encoding()
        for place, number in enumerate(order):
            packet = av.Packet(b"x")
            packet.pts, packet.dts, packet.time_base = number, place - 9, Fraction(1, 1000)
            packet.stream = stream
            container.mux(packet)
    times = (300, 400, 900, 2000)
    delay = max(place - number for place, number in enumerate(order)) + 1
    segment = EncodedSegment(tmp_path / "segment.mkv", times, delay)
    early = _times_before([segment], times, delay, 512)
    distances = [
        times[number] - (early[place] if place < delay else times[place - delay])
        for place, number in enumerate(order)
        if place <= delay
    ]
    assert early == sorted(set(early)) and min(distances) == distances[0]


@pytest.mark.parametrize("codec", ["x264", "prores"])
def test_pcm_of_matroska_is_the_same_in_mov(codec, tmp_path):
    source, output = with_pcm(tmp_path / "in.mkv"), tmp_path / "out.mov"
    upscale(source, output, codec)
    stream = ffprobe(output, "-show_streams", "-select_streams", "a")["streams"][0]
    assert (stream["codec_name"], stream["nb_frames"]) == ("pcm_s16le", "48000")
    np.testing.assert_array_equal(samples(output), samples(source))


def test_pcm_in_short_packets_keeps_its_start_in_mov(tmp_path):
    """FFmpeg's reader gives the last packet of MOV a duration that lacks the start."""
    source, output = tmp_path / "in.mkv", tmp_path / "out.mov"
    with_pcm(source, rate=44100, samples=441, start=0.0137)
    upscale(source, output)
    assert starts(output, "a")[0] == pytest.approx(starts(source, "a")[0], abs=1e-4)
    np.testing.assert_array_equal(samples(output), samples(source))


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_the_last_packet_of_alac_is_kept(suffix, tmp_path):
    source, output = DATA / "alac.mkv", tmp_path / f"out{suffix}"
    upscale(source, output)
    assert [size for *_, size in packets(output, "a")] == [
        size for *_, size in packets(source, "a")
    ]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_broadcast_clock_starts_at_zero(suffix, tmp_path):
    source = broadcast(tmp_path / "in.ts", offset=40000)
    output = tmp_path / f"out{suffix}"
    upscale(source, output)
    image, sound = starts(output), starts(output, "a")
    assert min(image[0], sound[0]) == pytest.approx(0, abs=2e-3)
    old_image, old_sound = starts(source), starts(source, "a")
    assert image[0] - sound[0] == pytest.approx(old_image[0] - old_sound[0], abs=2e-3)
    assert image[-1] < 2.1


def test_start_and_end_count_from_the_first_picture_of_a_broadcast(tmp_path):
    source = broadcast(tmp_path / "in.ts", offset=40000)
    report = upscale(source, tmp_path / "out.mkv", start=Fraction(1), end=Fraction(3, 2))
    assert report.frames in (12, 13)
    assert starts(tmp_path / "out.mkv")[0] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("offset", [0, 39600, 2])
def test_joined_broadcasts_follow_each_other_without_a_gap(offset, tmp_path):
    parts = [broadcast(tmp_path / "1.ts"), broadcast(tmp_path / "2.ts", offset)]
    source, output = tmp_path / "in.ts", tmp_path / "out.mp4"
    source.write_bytes(b"".join(each.read_bytes() for each in parts))
    report = upscale(source, output)
    times, sound = starts(output), starts(output, "a")
    assert report.frames >= 98
    assert max(after - before for before, after in itertools.pairwise(times)) < 0.13
    assert times[-1] == pytest.approx(3.96, abs=0.15)
    assert sound[-1] == pytest.approx(times[-1], abs=0.2)
    assert len(sound) >= 2 * len(starts(parts[0], "a")) - 2


def test_other_streams_take_the_offset_of_their_own_part():
    """At a jump, sound of the old part follows frames of the new one."""
    clock = Timeline(0, [Fraction(-1)], jumps=True)

    def moved(index, time):
        packet = av.Packet(b"x")
        packet.pts = packet.dts = time
        packet.time_base, packet.duration = Fraction(1, 25), 1
        packet_stream = streams[index]
        packet.stream = packet_stream
        clock.move(packet)
        return packet.pts

    import io

    with av.open(io.BytesIO(), "w", format="nut") as container:
        streams = [container.add_stream("ffv1", rate=25), container.add_stream("aac", rate=48000)]
        assert [moved(0, time) for time in (25, 26, 27)] == [0, 1, 2]
        assert moved(1, 25) == 0
        assert moved(0, 25_000_000) == 3
        assert moved(1, 27) == 2
        assert moved(1, 25_000_001) == 4
    assert clock.offsets[1:] == [Fraction(3 - 25_000_000, 25)]


class Broken(Doubling):
    """Fail at the first frame: a refusal must come before."""

    def run_tensor(self, image, *, size=None):
        raise AssertionError("a frame was computed")


def test_a_packet_that_a_container_refuses_is_found_before_the_first_frame(tmp_path, monkeypatch):
    source = with_pcm(tmp_path / "in.mkv")
    monkeypatch.setattr("upscale.video.join._compare_samples", refuse)
    with pytest.raises(OutputError, match="refused"):
        upscale(source, tmp_path / "out.mov", upscaler=Broken())
    assert not (tmp_path / "out.mov").exists()


def refuse(output, *_):
    raise OutputError(f"{output}: refused")


def test_finished_segments_go_into_another_container_without_computing(tmp_path, monkeypatch):
    source = with_pcm(tmp_path / "in.mkv")
    with monkeypatch.context() as patch:
        patch.setattr("upscale.jobs.video.join", lambda *_, **__: refuse("out.mov"))
        with pytest.raises(OutputError):
            upscale(source, tmp_path / "out.mov")
    assert folder_for(tmp_path / "out.mov").exists()
    report = upscale(source, tmp_path / "out.mkv", upscaler=Broken())
    assert (report.frames, report.computed, report.resumed) == (25, 0, 25)
    assert len(starts(tmp_path / "out.mkv")) == 25
    assert not folder_for(tmp_path / "out.mov").exists()


@pytest.mark.parametrize("names_work", [True, False])
def test_finished_segments_are_joined_elsewhere_on_request(names_work, tmp_path, monkeypatch):
    source, output = with_pcm(tmp_path / "in.mkv"), tmp_path / "out.mov"
    with monkeypatch.context() as patch:
        patch.setattr("upscale.jobs.video.join", lambda *_, **__: refuse("out.mov"))
        with pytest.raises(OutputError):
            upscale(source, output)
    other = tmp_path / "elsewhere" / "out.mkv" if names_work else tmp_path / "out.mkv"
    settings = {"only_join": True, "work": output if names_work else None}
    with pytest.raises(OutputError, match=r"no finished work|another encoder options"):
        upscale(source, other, encoding=VideoEncoding("x264", crf=30), **settings)
    report = upscale(source, other, upscaler=Broken(), **settings)
    assert (report.frames, report.computed, len(starts(other))) == (25, 0, 25)
    assert not folder_for(output).exists()


def test_unfinished_segments_are_not_joined(tmp_path, monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 10)
    source = with_pcm(tmp_path / "in.mkv")
    with pytest.raises(OSError):
        upscale(source, tmp_path / "out.mkv", upscaler=Doubling(fail_at=20, error=OSError()))
    with pytest.raises(OutputError, match=r"of 3 segments are not finished; leave out --join-into"):
        upscale(source, tmp_path / "out.mov", upscaler=Broken(), only_join=True)
    assert upscale(source, tmp_path / "out.mkv").resumed >= 10


def test_work_with_other_settings_is_left_alone(tmp_path, monkeypatch):
    source = with_pcm(tmp_path / "in.mkv")
    with monkeypatch.context() as patch:
        patch.setattr("upscale.jobs.video.join", lambda *_, **__: refuse("out.mov"))
        with pytest.raises(OutputError):
            upscale(source, tmp_path / "out.mov")
    report = upscale(source, tmp_path / "out.mkv", encoding=VideoEncoding("x264", crf=30))
    assert report.resumed == 0 and folder_for(tmp_path / "out.mov").exists()


class Resizing(Doubling):
    """Resize frames to any size."""

    def run_tensor(self, image, *, size=None):
        return torch.nn.functional.interpolate(image, size=size[::-1])


def stream_of(path, kind="v"):
    return ffprobe(path, "-show_streams", "-select_streams", kind)["streams"][0]


def test_texts_that_start_together_do_so_in_matroska(tmp_path):
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        text = container.add_mux_stream("subrip", time_base=Fraction(1, 1000))
        for number in range(5):
            frame = av.VideoFrame(32, 24, "yuv420p")
            frame.pts = number
            container.mux(video.encode(frame))
        for start in (0, 0, 0, 0, 100, 100):
            packet = av.Packet(b"a text")
            packet.pts = packet.dts = start
            packet.duration, packet.time_base, packet.stream = 50, Fraction(1, 1000), text
            container.mux(packet)
    upscale(source, tmp_path / "out.mkv")
    assert starts(tmp_path / "out.mkv", "s") == [0, 0, 0, 0, 0.1, 0.1]


@pytest.mark.parametrize(
    ("preset", "tag"),
    [("proxy", "apco"), ("lt", "apcs"), ("standard", "apcn"), ("4444", "ap4h"), ("4444xq", "ap4x")],
)
@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_prores_has_the_fourcc_of_its_profile(preset, tag, suffix, tmp_path):
    output = tmp_path / f"out{suffix}"
    upscale(
        DATA / "prores4444-alpha.mov",
        output,
        encoding=VideoEncoding("prores", preset=preset),
        frames=1,
    )
    assert stream_of(output)["codec_tag_string"] == tag


@pytest.mark.parametrize(
    ("size", "pixel"), [((192, 108), "1:1"), ((192, 96), "8:9"), ((144, 96), "32:27")]
)
def test_oblong_pixels_are_shown_in_their_shape_at_any_size(size, pixel, tmp_path):
    output = tmp_path / "out.mkv"
    upscale(DATA / "anamorphic.mkv", output, "ffv1", Resizing(), lambda _: size, frames=1)
    stream = stream_of(output)
    assert (stream["width"], stream["height"]) == size
    assert stream.get("sample_aspect_ratio", "1:1") == pixel


def test_sizes_mean_the_sides_that_are_shown(tmp_path):
    source = make(Clip(even(2), size=(64, 48), rotation=90), tmp_path / "in.mp4")
    seen = []

    def size_of(size):
        seen.append(size)
        return 96, 128

    upscale(source, tmp_path / "out.mp4", size=size_of)
    stream = stream_of(tmp_path / "out.mp4")
    assert set(seen) == {(48, 64)} and (stream["width"], stream["height"]) == (128, 96)


def test_a_rounded_size_is_named(tmp_path):
    source = make(Clip(even(2)), tmp_path / "in.mp4")
    job = plan_video(source, tmp_path / "out.mp4", lambda _: (97, 72), VideoSettings())
    assert any("97x72 is rounded to 96x72" in note for note in job.notes)


@pytest.mark.parametrize(
    ("name", "output", "lost"),
    [
        ("hdr10plus.mp4", "out.mp4", "HDR10+"),
        ("spherical-stereo.mp4", "out.mov", "360-degree"),
        ("spherical-stereo.mp4", "out.mov", "stereo 3D"),
        ("../clips/androidx_dolbyVision-hdr.MOV", "out.mp4", "Dolby Vision"),
    ],
)
def test_what_cannot_be_kept_of_a_stream_is_named_before_the_first_frame(
    name, output, lost, tmp_path
):
    with pytest.raises(OutputError, match=re.escape(lost)):
        upscale(DATA / name, tmp_path / output, upscaler=Broken(), strict=True, frames=1)
    assert not (tmp_path / output).exists()


@pytest.mark.parametrize("output", ["out.mp4", "out.mkv", "out.webm"])
def test_stereo_and_360_degree_metadata_are_kept(output, tmp_path):
    source = tmp_path / "in.mkv"
    upscale(DATA / "spherical-stereo.mp4", source, strict=True, frames=1)
    for path in (DATA / "spherical-stereo.mp4", source):
        made = upscale(path, tmp_path / output, None, strict=True, frames=1, overwrite=True)
        assert made.frames == 1
        shown = ffprobe(tmp_path / output, "-show_streams")
        sides = {
            side["side_data_type"]: side
            for stream in shown["streams"]
            for side in stream["side_data_list"]
        }
        assert sides["Stereo 3D"]["type"] == "top and bottom"
        projection = sides["Spherical Mapping"]
        assert (projection["projection"], projection["yaw"]) == ("equirectangular", 10)
        assert probe(tmp_path / output).embedded == probe(path).embedded


def test_an_alpha_tag_does_not_outlive_the_alpha(tmp_path):
    source = make(
        Clip(
            even(2), codec="libvpx-vp9", container="webm", format="yuv420p",
            tags={"alpha_mode": "1"},
        ),
        tmp_path / "in.webm",
    )  # fmt: skip
    assert upscale(source, tmp_path / "out.webm", "vp9").notes
    assert "alpha_mode" not in {
        key.lower() for key in stream_of(tmp_path / "out.webm").get("tags", {})
    }


def with_alpha(path, codec):
    """Write a video whose opacity grows from left to right."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuva420p"
        stream.options = {"auto-alt-ref": "0", "crf": "5", "b": "1M"}
        stream.metadata["alpha_mode"] = "1"
        for number in range(5):
            frame = image(number, (64, 48), "yuva420p")
            opacity = np.frombuffer(memoryview(frame.planes[3]), np.uint8).reshape(48, -1)
            opacity[:, :64] = np.arange(64) * 4
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("source", ["libvpx", "libvpx-vp9"])
@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("vp9", ".webm"), ("vp9", ".mkv"), ("ffv1", ".mkv"), ("prores", ".mov")],
)
def test_the_transparency_of_vp8_and_vp9_is_kept(source, codec, suffix, tmp_path):
    output = tmp_path / f"out{suffix}"
    upscale(with_alpha(tmp_path / "in.webm", source), output, codec, strict=codec == "vp9")
    decoder = ["-c:v", "libvpx-vp9"] if codec == "vp9" else []
    command = ["ffmpeg", "-v", "error", *decoder, "-i", str(output), "-vf", "alphaextract"]
    raw = subprocess.run(
        [*command, "-pix_fmt", "gray", "-f", "rawvideo", "-"], capture_output=True, check=True
    ).stdout
    opacity = np.frombuffer(raw, np.uint8).reshape(5, 96, 128).astype(int)
    expected = np.repeat(np.arange(64) * 4, 2)
    assert np.abs(opacity - expected).max() <= 8
    tags = {key.lower(): value for key, value in stream_of(output).get("tags", {}).items()}
    assert tags.get("alpha_mode") == ("1" if codec == "vp9" else None)


def test_containers_that_hold_no_transparency_are_named(tmp_path):
    source = with_alpha(tmp_path / "in.webm", "libvpx-vp9")
    job = plan_video(source, tmp_path / "out.mp4", doubled, VideoSettings(VideoEncoding("vp9")))
    assert "vp9 does not preserve transparency" in job.notes


def test_deep_videos_with_transparency_keep_it_in_webm(tmp_path):
    upscale(DATA / "prores4444-alpha.mov", tmp_path / "out.webm", None, frames=1)
    assert probe(tmp_path / "out.webm").planes.name == "yuva420p"


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_constant_rate_of_milliseconds_is_constant_again(suffix, tmp_path):
    output = tmp_path / f"out{suffix}"
    upscale(DATA / "mkv-cfr-23976.mkv", output)
    times = starts(output)
    np.testing.assert_allclose(times, np.arange(48) * 1001 / 24000, atol=1e-5)
    stream = stream_of(output)
    assert stream["avg_frame_rate"] == stream["r_frame_rate"] == "24000/1001"


@pytest.mark.parametrize(
    "times", [[0, 43, 83, 125], [0, 42, 83, 127], [0, 17, 33, 50], [0, 40, 80]]
)
def test_other_times_are_not_put_on_a_grid(times):
    assert on_grid(times, Fraction(1, 1000), Fraction(24000, 1001)) is None


@pytest.mark.parametrize("rate", [Fraction(989, 33), Fraction(2997, 100), Fraction(30000, 1001)])
def test_a_rate_measured_in_milliseconds_is_that_of_ntsc(rate):
    """FLV has no rate of its own, and Matroska's is a number of nanoseconds."""
    times = [round(number * 1001 / 30) for number in range(300)]
    exact, unit = on_grid(times, Fraction(1, 1000), rate)
    assert {(end - start) * unit for start, end in itertools.pairwise(exact)} == {
        Fraction(1001, 30000)
    }


@pytest.mark.parametrize("rate", [Fraction(30), Fraction(24), Fraction(59), Fraction(120)])
def test_whole_rates_stay_whole(rate):
    times = [round(number * 1000 / rate) for number in range(30)]
    exact, unit = on_grid(times, Fraction(1, 1000), rate)
    assert (exact[1] - exact[0]) * unit == 1 / rate


def test_a_grid_has_gaps_where_frames_are_missing():
    exact = on_grid([21, 63, 146, 188], Fraction(1, 1000), Fraction(24000, 1001))
    assert exact is not None and exact[1] == Fraction(1, 24000)
    assert [time - exact[0][0] for time in exact[0]] == [0, 1001, 3003, 4004]
    assert abs(exact[0][0] * exact[1] - Fraction(21, 1000)) < Fraction(1, 1000)


def test_a_grid_may_start_between_two_frames():
    times = [500, 540, 580]
    assert on_grid(times, Fraction(1, 1000), Fraction(25)) == (times, Fraction(1, 1000))


def test_sound_that_an_edit_list_hides_stays_hidden_in_matroska(tmp_path):
    upscale(DATA / "trimmed-edit-list.mp4", tmp_path / "out.mkv")
    assert starts(tmp_path / "out.mkv", "a")[0] > -0.05
    assert starts(tmp_path / "out.mkv")[0] == 0


def test_an_animation_plays_in_browsers(tmp_path):
    upscale(DATA / "anim.gif", tmp_path / "out.mp4")
    assert stream_of(tmp_path / "out.mp4")["pix_fmt"] == "yuv420p"


@pytest.mark.parametrize("mixed", [False, True])
def test_only_interlaced_frames_are_deinterlaced(mixed, tmp_path):
    source = tmp_path / "in.mpg"
    with av.open(str(source), "w", format="mpeg") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        options = {"flags": "+ilme+ildct", "qmin": "1", "qmax": "2", "bf": "0", "g": "1"}
        stream.options = options
        for number in range(12):
            frame = image(number, (64, 48), "yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if mixed:
        data = source.read_bytes()
        parts = data.split(b"\0\0\1\xb5\x8f")
        middle = len(parts) // 2
        for number in range(1, middle):
            part = parts[number]
            parts[number] = part[:3] + bytes([part[3] | 0x80]) + part[4:]
        source.write_bytes(b"\0\0\1\xb5\x8f".join(parts))
    video = probe(source)
    assert video.interlaced
    assert bool(video.progressive) == mixed
    plain, filtered = (
        [frame.planes[0] for frame in read_frames(video, deinterlace=each)]
        for each in (False, True)
    )
    equal = [np.array_equal(one, other) for one, other in zip(plain, filtered, strict=True)]
    assert equal[0] == mixed and not equal[-1]


def with_sound(path, codec, rate=44100):
    """Write a video with one second of noise."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        sound = container.add_stream(codec, rate=rate, layout="stereo")
        if codec == "wmav2":
            sound.bit_rate = 128_000
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((36, 32), number, np.uint8), "yuv420p")
            frame.pts = number
            container.mux(video.encode(frame))
        noise = np.random.default_rng(1).integers(-9000, 9000, (1, rate * 2), np.int16)
        frame = av.AudioFrame.from_ndarray(noise, "s16", "stereo")
        frame.sample_rate, frame.pts = rate, 0
        resampler = av.AudioResampler(
            sound.codec_context.format.name, "stereo", rate, sound.codec_context.frame_size or 1024
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))
        container.mux(video.encode(None))
    return path


def decoded(path):
    """Return all samples as ffmpeg's own decoder and resampler give them."""
    resampler = av.AudioResampler("s16", "stereo")
    with av.open(str(path)) as container:
        frames = [part for each in container.decode(audio=0) for part in resampler.resample(each)]
    return np.concatenate([each.to_ndarray() for each in frames], axis=1)


@pytest.mark.parametrize("codec", ["adpcm_ms", "pcm_mulaw", "pcm_alaw", "wmav2"])
@pytest.mark.parametrize(
    ("suffix", "expected"),
    [(".mkv", "flac"), (".mp4", "flac"), (".mov", "pcm_s16le")],
)
def test_sound_that_a_container_cannot_hold_is_converted_without_loss(
    codec, suffix, expected, tmp_path
):
    source = with_sound(tmp_path / ("in.asf" if codec == "wmav2" else "in.avi"), codec)
    output = tmp_path / f"out{suffix}"
    report = upscale(source, output, "x264")
    name = stream_of(output, "a")["codec_name"]
    if name == codec:  # MOV holds some of them
        assert [size for *_, size in packets(output, "a")]
        return
    if codec != "wmav2":
        assert name == expected
        np.testing.assert_array_equal(decoded(output), decoded(source))
    assert any("is converted to" in note for note in report.notes)


def test_pcm_without_a_named_layout_goes_into_mp4(tmp_path):
    source = with_sound(tmp_path / "in.avi", "pcm_s16le")
    upscale(source, tmp_path / "out.mp4", "x264")
    assert stream_of(tmp_path / "out.mp4", "a")["codec_name"] == "pcm_s16le"
    np.testing.assert_array_equal(decoded(tmp_path / "out.mp4"), decoded(source))


@pytest.mark.parametrize(("audio", "codec"), [("aac", "aac"), ("opus", "opus"), ("flac", "flac")])
def test_sound_is_converted_on_request(audio, codec, tmp_path):
    source = with_sound(tmp_path / "in.avi", "pcm_s16le")
    upscale(source, tmp_path / "out.mkv", audio=audio)
    assert stream_of(tmp_path / "out.mkv", "a")["codec_name"] == codec
    times = starts(tmp_path / "out.mkv", "a")
    assert abs(times[0]) < 0.05 and 0.9 < times[-1] < 1.1


def test_sound_can_be_left_out(tmp_path):
    source = with_sound(tmp_path / "in.avi", "pcm_s16le")
    report = upscale(source, tmp_path / "out.mkv", audio="none", strict=True)
    assert not any("audio" in note for note in report.notes)
    found = ffprobe(tmp_path / "out.mkv", "-show_streams")["streams"]
    assert [each["codec_type"] for each in found] == ["video"]


def test_sound_is_only_copied_on_request(tmp_path):
    source = with_sound(tmp_path / "in.avi", "adpcm_ms")
    with pytest.raises(OutputError, match="audio adpcm_ms"):
        upscale(source, tmp_path / "out.mkv", audio="copy", strict=True)


def test_sound_that_loses_by_conversion_is_refused_with_strict(tmp_path):
    source = with_sound(tmp_path / "in.avi", "pcm_s16le")
    with pytest.raises(OutputError, match="converted to libopus"):
        upscale(source, tmp_path / "out.webm", "vp9", upscaler=Broken(), strict=True)


def test_a_call_that_grows_has_its_final_size(tmp_path):
    upscale(DATA / "webrtc-grows.webm", tmp_path / "out.webm", "vp9", Resizing())
    stream = stream_of(tmp_path / "out.webm")
    assert (stream["width"], stream["height"]) == (352, 200)
    assert len(starts(tmp_path / "out.webm")) == 55


def test_a_call_can_keep_the_size_of_its_first_frame(tmp_path):
    upscale(
        DATA / "webrtc-grows.webm", tmp_path / "out.webm", "vp9", Resizing(), on_change="first",
        frames=2,
    )  # fmt: skip
    assert stream_of(tmp_path / "out.webm")["width"] == 128


@pytest.mark.parametrize("on_change", ["scale", "pad"])
def test_frames_of_another_shape_are_stretched_or_get_bars(on_change, tmp_path):
    parts = []
    for number, size in enumerate([(64, 48), (96, 48)]):
        clip = Clip(even(6), container="mpegts", size=size)
        parts.append(make(clip, tmp_path / f"{number}.ts").read_bytes())
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(parts))
    report = upscale(source, tmp_path / "out.mkv", "ffv1", on_change=on_change)
    assert len(report.resized) == 6
    *_, last = read_frames(probe(tmp_path / "out.mkv"))
    luma, blue, _ = last.planes
    assert luma.shape == (96, 128)
    bars = np.concatenate([luma[:15], luma[-15:]])
    assert (bars == 16).all() == (on_change == "pad")
    assert (blue[:7] == 128).all() == (on_change == "pad")
    assert luma[20:-20].std() > 10


def test_an_unflagged_cover_is_passed_by(tmp_path):
    source = DATA / "cover-unflagged-first.mkv"
    upscale(source, tmp_path / "out.mkv")
    assert len(starts(tmp_path / "out.mkv")) == len(starts(source, "v:1"))


def test_a_stream_can_be_chosen(tmp_path):
    source = DATA / "cover-unflagged-first.mkv"
    report = upscale(source, tmp_path / "out.mkv", stream=0)
    assert report.frames == 1
    with pytest.raises(VideoError, match="no video stream"):
        upscale(source, tmp_path / "other.mkv", stream=7)


def test_frames_are_counted_from_the_first_one_that_can_be_decoded(tmp_path):
    report = upscale(DATA / "starts-mid-gop.ts", tmp_path / "out.mkv", frames=6)
    assert report.frames == 6
    assert len(starts(tmp_path / "out.mkv")) == 6


@pytest.mark.parametrize("size", [(16, 64), (64, 16)])
def test_frames_that_hang_an_encoder_are_refused(size, tmp_path):
    source = make(Clip(even(2)), tmp_path / "in.mp4")
    with pytest.raises(OutputError, match="least side is 32"):
        upscale(source, tmp_path / "out.mkv", "svt-av1", size=lambda _: size)


def test_deep_colours_stay_deep_in_webm(tmp_path):
    source = make(Clip(even(2), format="yuv420p10le"), tmp_path / "in.mp4")
    upscale(source, tmp_path / "out.webm", None)
    assert stream_of(tmp_path / "out.webm")["pix_fmt"] == "yuv420p10le"


def cropped(tmp_path):
    """A file whose left two columns are not shown."""
    source = make(Clip(even(2), container="matroska"), tmp_path / "in.mkv")
    assert probe(source).embedded == ()
    # PixelCropLeft = 2 takes the place of DisplayUnit, which is as long.
    old, new = bytes.fromhex("ba813054b28104"), bytes.fromhex("ba813054cc8102")
    data = source.read_bytes()
    assert data.count(old) == 1
    source.write_bytes(data.replace(old, new))
    assert probe(source).embedded == ("the crop",)
    return source


def test_a_crop_of_matroska_is_kept_in_the_size_of_the_output(tmp_path):
    source = cropped(tmp_path)
    upscale(source, tmp_path / "out.mkv", strict=True)
    # As many pixels at the left as in the source, times the scale, and the visible width.
    assert bytes.fromhex("54cc8104") in (tmp_path / "out.mkv").read_bytes()
    assert stream_of(tmp_path / "out.mkv")["width"] == 2 * stream_of(source)["width"]


def test_a_crop_and_the_shape_of_pixels_go_together_in_matroska(tmp_path):
    clip = Clip(even(2), container="matroska", size=(64, 48), sample_aspect=Fraction(4, 3))
    plain, source = make(clip, tmp_path / "plain.mkv"), tmp_path / "in.mkv"
    with av.open(str(plain)) as given, av.open(str(source), "w") as target:
        stream = given.streams.video[0]
        found = [packet for packet in given.demux(stream) if packet.size]
        with shown_with(stream, {CROPS[0]: b"\2", CROPS[2]: b"\4"}, found[0]) as shown:
            copy = target.add_stream_from_template(shown, opaque=True)
            for packet in found:
                packet.stream = copy
                target.mux_one(packet)
    upscale(source, tmp_path / "out.mkv", strict=True)
    header = (tmp_path / "out.mkv").read_bytes()[:1000]
    # 4 rows and 8 columns are cut off; what is left has (128 - 8) * 4 / 3 columns of square pixels.
    assert bytes.fromhex("54bb8104 54cc8108 54b0830000a0 54ba8300005c") in header


def test_a_crop_becomes_a_clean_aperture_in_mp4(tmp_path):
    upscale(cropped(tmp_path), tmp_path / "out.mp4", strict=True)
    data = (tmp_path / "out.mp4").read_bytes()
    place = data.index(b"clap") + 4
    width, per, _, _, shift, half, *_ = struct.unpack(">8i", data[place : place + 32])
    size = stream_of(tmp_path / "out.mp4")["width"]
    assert (Fraction(width, per), Fraction(shift, half)) == (size - 4, 2)


def test_a_region_of_a_language_is_named(tmp_path):
    from upscale.video.embedded import long_languages

    path = tmp_path / "in.mkv"
    path.write_bytes(b"\x22\xb5\x9c\x83por\x22\xb5\x9d\x85pt-BR\x22\xb5\x9d\x82en")
    assert list(long_languages(path)) == ["pt-BR"]
