"""Double rate and inverse telecine, as ffprobe reads the outputs."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from av.filter import Graph

from tests.jobs.test_video import Doubling, doubled, shown_in
from tests.video.clips import Clip, even, image, make
from tests.video.videos import ffprobe
from upscale.cli.video_values import conversion
from upscale.errors import UsageError, VideoError
from upscale.jobs.video import VideoSettings, plan_video, run_video
from upscale.video.encoders import VideoEncoding
from upscale.video.probe import probe
from upscale.video.reader import FrameReader, read_frames

FILM, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)


def upscale(source, output, upscaler=None, **settings):
    job = plan_video(source, output, doubled, VideoSettings(VideoEncoding("ffv1"), **settings))
    upscaler = upscaler or Doubling()
    return run_video(job, (upscaler,), {"model": "doubling"}, lambda *_: None, [].append)


def pulled(graph):
    try:
        while True:
            yield graph.vpull()
    except (BlockingIOError, EOFError):
        return


@pytest.fixture(scope="module")
def telecined(tmp_path_factory):
    return with_telecine(tmp_path_factory.mktemp("telecine") / "in.mkv", 24)


def with_telecine(path, count):
    """Write frames, of which a telecine makes 5 interlaced ones of 4."""
    graph = Graph()
    source = graph.add_buffer(
        width=64, height=48, format=av.VideoFormat("yuv420p"), time_base=1 / FILM
    )
    rate = graph.add("fps", fps=str(FILM))
    graph.link_nodes(source, rate, graph.add("telecine"), graph.add("buffersink")).configure()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=NTSC)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"qscale": "1", "flags": "+ilme+ildct"}
        frames = []
        for number in range(count):
            frame = image(number, (64, 48), "yuv420p")
            frame.pts, frame.time_base = number, 1 / FILM
            graph.vpush(frame)
            frames += pulled(graph)
        graph.vpush(None)
        frames += pulled(graph)
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, 1 / NTSC
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_telecine_is_removed(telecined, tmp_path):
    report = upscale(telecined, tmp_path / "out.mkv", conversion="ivtc")
    times, shown = shown_in(tmp_path / "out.mkv")
    assert shown[:8] == list(range(8))
    # As in FFmpeg's own program, a frame of such bars can be taken for its neighbour.
    assert sum(one == place for place, one in enumerate(shown)) >= len(shown) - 3
    assert len(shown) == 23
    assert report.lost == ()
    steps = np.diff([float(time) for time in times])
    assert np.allclose(steps, 1001 / 24000, atol=0.0011)
    (stream,) = ffprobe(tmp_path / "out.mkv", "-show_streams")["streams"]
    assert stream["r_frame_rate"] == "24000/1001"


def test_an_inverse_telecine_gives_the_same_frames_wherever_it_starts(tmp_path, monkeypatch):
    from upscale.video.conversions import converted

    video = converted(probe(with_telecine(tmp_path / "in.mkv", 60)), "ivtc")
    whole = list(read_frames(video))
    assert [frame.pts for frame in whole] == list(video.frame_times)
    starts = []
    decoded = FrameReader._decoded
    monkeypatch.setattr(
        FrameReader, "_decoded", lambda *args: starts.append(args[1]) or decoded(*args)
    )
    for start in (1, 13, 22, 35, 47):
        part = list(read_frames(video, start_pts=video.frame_times[start]))
        assert [frame.pts for frame in part] == list(video.frame_times[start:])
        assert all(
            np.array_equal(one, other)
            for new, old in zip(part, whole[start:], strict=True)
            for one, other in zip(new.planes, old.planes, strict=True)
        )
    assert starts == [0, 5, 15, 30, 45]


def test_uneven_frames_of_a_telecine_are_read_from_the_beginning(telecined):
    from upscale.video.conversions import converted

    video = converted(probe(telecined), "ivtc")
    assert video.origin is not None
    times = video.origin.frame_times
    late = replace(video.origin, frame_times=(*times[:9], times[9] + 20, *times[10:]))
    assert FrameReader(video, None, None, deinterlace=False)._is_even()
    assert not FrameReader(replace(video, origin=late), None, None, deinterlace=False)._is_even()


def test_an_interrupted_inverse_telecine_resumes_with_the_same_frames(
    telecined, tmp_path, monkeypatch
):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 7)
    upscale(telecined, tmp_path / "whole.mkv", conversion="ivtc")
    with pytest.raises(KeyboardInterrupt):
        upscale(
            telecined, tmp_path / "out.mkv", Doubling(fail_at=12, error=KeyboardInterrupt()),
            conversion="ivtc",
        )  # fmt: skip
    report = upscale(telecined, tmp_path / "out.mkv", conversion="ivtc")
    assert report.resumed >= 7
    assert shown_in(tmp_path / "out.mkv") == shown_in(tmp_path / "whole.mkv")


@pytest.fixture(scope="module")
def interlaced(tmp_path_factory):
    clip = Clip(even(12), interlaced=True, options={"x264-params": "tff=1:qp=0:keyint=4"})
    return make(clip, tmp_path_factory.mktemp("interlaced") / "in.mp4")


def test_each_field_becomes_a_frame_half_way(interlaced, tmp_path):
    report = upscale(interlaced, tmp_path / "out.mkv", conversion="field")
    found = ffprobe(tmp_path / "out.mkv", "-show_packets", "-select_streams", "v")["packets"]
    assert (report.frames, len(found)) == (24, 24)
    times = sorted(float(packet["pts_time"]) for packet in found)
    assert np.allclose(times, np.arange(24) / 50, atol=0.0006)
    (stream,) = ffprobe(tmp_path / "out.mkv", "-show_streams")["streams"]
    assert stream["r_frame_rate"] == "50/1"
    assert stream.get("field_order", "progressive") == "progressive"


def test_fields_are_the_same_wherever_reading_starts(interlaced):
    from upscale.video.conversions import converted

    video = converted(probe(interlaced), "field")
    whole = list(read_frames(video))
    assert [frame.pts for frame in whole] == list(video.frame_times)
    for start in (1, 9, 14):
        part = list(read_frames(video, start_pts=video.frame_times[start]))
        assert [frame.pts for frame in part] == list(video.frame_times[start:])
        assert all(
            np.array_equal(one.planes[0], other.planes[0])
            for one, other in zip(part, whole[start:], strict=True)
        )


def test_other_videos_are_refused(tmp_path):
    source = make(Clip(even(3)), tmp_path / "in.mp4")
    for kind in ("field", "ivtc"):
        with pytest.raises(VideoError, match="is not interlaced"):
            upscale(source, tmp_path / "out.mkv", conversion=kind)
    with pytest.raises(UsageError, match="--double-rate and --ivtc exclude each other"):
        conversion(deinterlace=False, double_rate=True, ivtc=True)
