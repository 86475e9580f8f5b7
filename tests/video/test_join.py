"""Joined videos: every frame and packet at its time, or an error and no file."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video.clips import Clip, even, make, uneven
from tests.video.videos import (
    HERE,
    HOLDER,
    ffprobe,
    make_encoder,
    packets,
    rich,
    segment_files,
)
from upscale.errors import OutputError, VideoError
from upscale.video.info import VideoInfo
from upscale.video.join import EncodedSegment, JoinResult, join, verify
from upscale.video.mux import StreamPlan
from upscale.video.output_stream import Span
from upscale.video.probe import probe
from upscale.video.streams import plan_streams

NAMES = {
    "x264": ("out.mp4", "out.mov", "out.mkv"),
    "x265": ("out.mp4", "out.mkv"),
    "svt-av1": ("out.mp4", "out.mkv", "out.webm"),
    "vp9": ("out.mp4", "out.mkv", "out.webm"),
    "prores": ("out.mov", "out.mkv"),
    "ffv1": ("out.mkv",),
}
TIMES = {
    "even": even(90),
    "uneven": uneven(90),
    "late": even(90, start=19201),
    "early": tuple(time - 12800 for time in even(90)),
    "one": (0,),
}


@pytest.fixture
def silent(tmp_path) -> VideoInfo:
    return probe(make(Clip(even(3)), tmp_path / "in.mp4"))


def upscaled(
    source: VideoInfo, name: str, folder: Path, codec: str | None = None, **more
) -> JoinResult:
    encoder = make_encoder(source, name, codec=codec)
    plan = plan_streams(source, encoder, Path(name), folder)
    times = more.pop("times", source.frame_times)
    parts = segment_files(folder, encoder, times)
    return join(folder / name, source, encoder, plan, parts, **more)


@pytest.mark.parametrize("times", list(TIMES))
@pytest.mark.parametrize(
    ("codec", "name"), [(codec, name) for codec in NAMES for name in NAMES[codec]]
)
def test_frames_keep_their_times(codec, name, times, silent, tmp_path):
    source = replace(silent, frame_times=TIMES[times])
    assert upscaled(source, name, tmp_path, codec).frames == len(TIMES[times])
    found = [time for time, _ in packets(tmp_path / name)[0]]
    moved = 12800 if times == "early" else 0
    most = Fraction(1, 2000) if name.endswith(("mkv", "webm")) else 0
    for own, expected in zip(found, TIMES[times], strict=True):
        assert abs(own - Fraction(expected + moved, 12800)) <= most


@pytest.mark.parametrize("unit", [Fraction(1, 90000), Fraction(1001, 30000), Fraction(1, 10**6)])
def test_mp4_preserves_any_time_base(unit, silent, tmp_path):
    step = max(1, round(Fraction(1, 30) / unit))
    times = tuple(7 + step * number + (number % 3 if step > 3 else 0) for number in range(50))
    source = replace(silent, time_base=unit, frame_times=times)
    upscaled(source, "out.mp4", tmp_path)
    assert [time for time, _ in packets(tmp_path / "out.mp4")[0]] == [time * unit for time in times]


@pytest.mark.parametrize("codec", HERE)
def test_joined_frames_equal_those_of_the_segments(codec, silent, tmp_path):
    source = replace(silent, frame_times=even(90))
    name = HOLDER.get(codec, "out.mkv")
    upscaled(source, name, tmp_path, codec)
    parts = [tmp_path / f"seg-{start}" for start in (0, 40, 80)]
    assert decoded(tmp_path / name) == [frame for part in parts for frame in decoded(part)]


def decoded(path: Path) -> list[bytes]:
    """Return the samples of all frames, without row padding."""
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            size = 1 + (frame.format.components[0].bits > 8)
            for plane in frame.planes:
                lines = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
                found.append(lines[:, : plane.width * size].tobytes())
    return found


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4", "out.mov"])
def test_audio_packets_are_copied_exactly(name, tmp_path):
    path = rich(tmp_path, even(60, start=6400))
    upscaled(probe(path), name, tmp_path)
    before, after = packets(path), packets(tmp_path / name)
    for index in (1, 2):
        assert len(before[index]) > 50
        for (time, data), (other, copied) in zip(before[index], after[index], strict=True):
            assert data == copied
            assert abs(time - other) <= Fraction(1, 1000)


def test_audio_that_starts_before_the_video_stays_in_sync(tmp_path):
    """AAC starts before time zero, for which Matroska's muxer would shift all streams."""
    path = make(Clip(even(60), sound=True), tmp_path / "in.mp4")
    before = packets(path)
    assert before[1][0][0] < 0
    upscaled(probe(path), "out.mkv", tmp_path)
    after = packets(tmp_path / "out.mkv")
    for index in (0, 1):
        for (time, _), (other, _) in zip(before[index], after[index], strict=True):
            assert abs(time - other) <= Fraction(1, 1000)


def test_span_starts_at_zero_with_its_audio_and_chapters(tmp_path):
    path = rich(tmp_path, even(75))
    source = probe(path)
    times = tuple(time for time in source.frame_times if 600 <= time < 1800)
    span = Span(times[0] * source.time_base, Fraction(9, 5))
    upscaled(source, "out.mkv", tmp_path, times=times, span=span)
    before, after = packets(path), packets(tmp_path / "out.mkv")
    assert [time for time, _ in after[0]] == [Fraction(time - 600, 1000) for time in times]
    expected = [
        (time - span.start, data) for time, data in before[1] if span.start <= time < span.end
    ]
    assert after[1] == expected
    assert [(time, data) for time, data in after[3]] == [
        (Fraction(1, 10), b"Two\nlines"),
        (Fraction(9, 10), b"<i>Bye</i>"),
    ]
    with av.open(str(tmp_path / "out.mkv")) as container:
        ends = [
            (each["start"] * each["time_base"], each["end"] * each["time_base"])
            for each in container.chapters()
        ]
    assert ends == [(0, Fraction(2, 5)), (Fraction(2, 5), Fraction(6, 5))]


def test_mp4_index_is_at_the_front(tmp_path, silent):
    upscaled(silent, "out.mp4", tmp_path)
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_ffprobe_reads_times_tags_and_streams(tmp_path):
    path = rich(tmp_path, even(60, start=6400))
    upscaled(probe(path), "out.mp4", tmp_path, "x265")
    report = ffprobe(tmp_path / "out.mp4", "-show_streams", "-show_chapters", "-show_packets")
    image, sound, *_ = report["streams"]
    assert (image["codec_tag_string"], image["color_range"]) == ("hvc1", "tv")
    assert sound["tags"]["language"] == "eng"
    assert [each["tags"]["title"] for each in report["chapters"]] == ["One", "Two"]
    times = sorted(
        float(each["pts_time"]) for each in report["packets"] if each["stream_index"] == 0
    )
    assert times == pytest.approx([0.5 + number / 25 for number in range(60)], abs=1e-5)


def test_frame_rate_is_written_only_if_it_is_constant(tmp_path, silent):
    for times, rate in ((even(60), 25), (uneven(60), None)):
        upscaled(replace(silent, frame_times=times), "out.mkv", tmp_path, overwrite=True)
        with av.open(str(tmp_path / "out.mkv")) as container:
            packet = next(packet for packet in container.demux(video=0))
            found = 1000 / packet.duration if packet.duration else None
        assert (found is not None and round(found) == 25) == (rate == 25)


def test_lost_frames_leave_a_gap(tmp_path, silent):
    encoder = make_encoder(silent, "out.mp4")
    times = even(60)
    kept = tuple(time for number, time in enumerate(times) if number not in (3, 4, 50))
    parts = [*segment_files(tmp_path, encoder, kept, 20), EncodedSegment(None, (), 0)]
    result = join(tmp_path / "out.mp4", silent, encoder, StreamPlan(), parts)
    assert result == JoinResult(57)
    found = [time * 12800 for time, _ in packets(tmp_path / "out.mp4")[0]]
    assert tuple(found) == kept


def test_existing_output_is_kept_without_overwrite(tmp_path, silent):
    (tmp_path / "out.mp4").write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        upscaled(silent, "out.mp4", tmp_path)
    assert (tmp_path / "out.mp4").read_text() == "precious"
    upscaled(silent, "out.mp4", tmp_path, overwrite=True)
    assert len(packets(tmp_path / "out.mp4")[0]) == 3


def test_missing_source_leaves_no_file(tmp_path):
    path = rich(tmp_path)
    source = probe(path)
    encoder = make_encoder(source, "out.mkv")
    plan = plan_streams(source, encoder, Path("out.mkv"), tmp_path)
    parts = segment_files(tmp_path, encoder, source.frame_times)
    path.rename(tmp_path / "elsewhere.mkv")
    before = set(tmp_path.iterdir())
    with pytest.raises(VideoError, match=r"rich\.mkv: does not exist"):
        join(tmp_path / "out.mkv", source, encoder, plan, parts)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(os.name == "nt", reason="there are no such limits there")
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_full_disk_leaves_no_file(tmp_path, silent, share):
    import resource

    source = replace(silent, frame_times=even(90))
    encoder = make_encoder(source, "out.mp4")
    parts = segment_files(tmp_path, encoder, source.frame_times)
    join(tmp_path / "out.mp4", source, encoder, StreamPlan(), parts)
    size = (tmp_path / "out.mp4").stat().st_size
    (tmp_path / "out.mp4").unlink()
    before = set(tmp_path.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * share), resource.RLIM_INFINITY))
    try:
        with pytest.raises(OutputError, match=r"^.*out\.mp4: cannot be written"):
            join(tmp_path / "out.mp4", source, encoder, StreamPlan(), parts)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert set(tmp_path.iterdir()) == before
    assert join(tmp_path / "out.mp4", source, encoder, StreamPlan(), parts).frames == 90


def test_segments_of_different_encoders_are_rejected(tmp_path, silent):
    source = replace(silent, frame_times=even(90))
    one, other = make_encoder(source), make_encoder(source, preset="ultrafast")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = segment_files(tmp_path / "a", one, source.frame_times)
    second = segment_files(tmp_path / "b", other, source.frame_times)
    with pytest.raises(OutputError, match="another version of the encoder"):
        join(tmp_path / "out.mkv", source, one, StreamPlan(), [first[0], second[1], first[2]])
    assert not (tmp_path / "out.mkv").exists()


def test_verification_detects_missing_and_shifted_frames(tmp_path, silent):
    source = replace(silent, frame_times=even(90))
    upscaled(source, "out.mp4", tmp_path)
    path, unit = tmp_path / "out.mp4", source.time_base
    verify(path, path, even(90), unit, [])
    with pytest.raises(OutputError, match="holds only 90 of 91 frames"):
        verify(path, path, even(91), unit, [])
    with pytest.raises(OutputError, match=r"holds frames at 0\.040000 s instead of 0\.040078 s"):
        verify(path, path, (0, 513, *even(90)[2:]), unit, [])


def test_stale_temporary_file_of_a_killed_join_is_removed(tmp_path, silent):
    left = tmp_path / f".upscale-{'0' * 16}.part"
    left.write_bytes(b"half a video")
    upscaled(silent, "out.mkv", tmp_path)
    assert not left.exists()


def test_video_without_frames_is_rejected(tmp_path, silent):
    segments = [EncodedSegment(None, (), 0)]
    with pytest.raises(OutputError, match="no frame could be decoded"):
        join(tmp_path / "out.mkv", silent, make_encoder(silent), StreamPlan(), segments)


def test_names_with_colons_and_percent_signs_are_file_names(tmp_path, silent):
    upscaled(silent, "a:b %d ä.mkv", tmp_path)
    assert len(packets(tmp_path / "a:b %d ä.mkv")[0]) == 3


def with_audio(folder: Path, container: str) -> Path:
    clip = Clip(tuple(range(50)), Fraction(1, 25), container=container, sound=True)
    return make(clip, folder / f"clip.{container}")


def join_generated(
    path: Path, folder: Path, name: str = "out.mkv"
) -> tuple[JoinResult, dict[bytes, list[Fraction]]]:
    """Join a video with generated frames; also return the times of its audio packets."""
    video = probe(path)
    encoder = make_encoder(video, name)
    plan = plan_streams(video, encoder, folder / name, folder)
    parts = segment_files(folder, encoder, video.frame_times)
    result = join(folder / name, video, encoder, plan, parts)
    return result, audio_times(folder / name)


def audio_times(path: Path) -> dict[bytes, list[Fraction]]:
    found: dict[bytes, list[Fraction]] = {}
    with av.open(str(path)) as container:
        for packet in container.demux(audio=0):
            if packet.size:
                found.setdefault(bytes(packet), []).append(packet.pts * packet.time_base)
    return found


def test_misplaced_audio_packets_do_not_desynchronise_others(tmp_path):
    """Two blocks of a file are swapped, so that timestamps jump ahead, back, and ahead again."""
    path = with_audio(tmp_path, "mkv")
    right = audio_times(path)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [packet.pos - 3 for packet in container.demux(audio=0) if packet.size]
    # Simple blocks in a cluster are self-contained: each has its own time. FFmpeg 9 writes the
    # last packet as another kind of block.
    assert {content[place] for place in places[:-1]} == {0xA3}
    one, other = ((places[at], places[at + 6]) for at in (10, 60))
    first, middle, second = content[slice(*one)], content[one[1] : other[0]], content[slice(*other)]
    content[one[0] : other[1]] = second + middle + first
    path.write_bytes(content)
    result, made = join_generated(path, tmp_path)
    assert any("have outlying timestamps" in note for note in result.warnings)
    assert sum(map(len, made.values())) >= sum(map(len, right.values())) - 20
    for packet, times in made.items():
        for time in times:
            assert any(abs(time - expected) <= Fraction(1, 500) for expected in right[packet])


def test_unreadable_audio_is_reported_and_later_audio_is_kept(tmp_path):
    path = with_audio(tmp_path, "mp4")
    content = bytearray(path.read_bytes())
    table = content.index(b"stco", content.index(b"soun"))
    entry = table + 8 + 4 * 8
    content[entry : entry + 4] = b"\x7f\xff\xff\xff"
    right = audio_times(path)
    path.write_bytes(content)
    result, made = join_generated(path, tmp_path)
    assert any("2 packets of stream 1 cannot be read" in note for note in result.warnings)
    assert max(max(times) for times in made.values()) == pytest.approx(
        max(max(times) for times in right.values()), abs=0.01
    )
    assert len(packets(tmp_path / "out.mkv")[0]) == 50


def test_audio_of_an_unknown_codec_is_listed_as_lost(tmp_path):
    path = with_audio(tmp_path, "mp4")
    path.write_bytes(path.read_bytes().replace(b"mp4a", b"zzzz").replace(b"esds", b"free"))
    video = probe(path)
    (lost,) = plan_streams(video, make_encoder(video, "out.mp4"), Path("out.mp4"), tmp_path).losses
    assert "stream 1 (audio" in lost and ".mp4 does not support it" in lost


def test_windows_1252_subtitles_are_recoded_with_a_warning(tmp_path):
    path = rich(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"Two\nlines", b"Tw\xf6\nlines"))
    result, _ = join_generated(path, tmp_path, "out.mp4")
    assert result.warnings == ("1 subtitles of stream 3 are not UTF-8; read as Windows-1252",)
    with av.open(str(tmp_path / "out.mp4")) as container:
        texts = [bytes(packet) for packet in container.demux(subtitles=0) if packet.size > 2]
    assert len(texts) == 3 and "Tw\xf6\nlines".encode() in texts[1]


def test_unconvertible_subtitle_is_dropped_with_a_warning(tmp_path):
    source = rich(tmp_path)
    join_generated(source, tmp_path, "out.mp4")
    path = tmp_path / "in.mp4"
    content = (tmp_path / "out.mp4").read_bytes()
    path.write_bytes(content.replace(b"Two\nlines", b"Tw\xf6\nlines"))
    result, _ = join_generated(path, tmp_path, "out.mkv")
    assert result.warnings == ("1 subtitles of stream 3 cannot be converted; dropped",)
    with av.open(str(tmp_path / "out.mkv")) as container:
        texts = [bytes(packet) for packet in container.demux(subtitles=0) if packet.size]
    assert [text[:3] for text in texts] == [b"Hel", b"<i>"]
