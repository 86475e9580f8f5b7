"""Streams that an output can contain, determined before any frame is computed."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.stream import Disposition

from tests.video.clips import Clip, even, make
from tests.video.videos import make_encoder, packets, rich, segment_files, video
from upscale.errors import OutputError
from upscale.video.info import VideoInfo
from upscale.video.join import join
from upscale.video.mux import StreamPlan
from upscale.video.probe import probe
from upscale.video.streams import plan_streams


@pytest.fixture
def source(tmp_path) -> Path:
    return rich(tmp_path)


def plan_for(
    source: VideoInfo, name: str, folder: Path, codec: str | None = None, **asked
) -> StreamPlan:
    encoder = make_encoder(source, name, codec=codec)
    return plan_streams(source, encoder, Path(name), folder, **asked)


def upscaled(source: VideoInfo, name: str, folder: Path, **asked) -> Path:
    """Join a video with generated frames."""
    encoder = make_encoder(source, name, **asked)
    plan = plan_streams(source, encoder, Path(name), folder)
    join(folder / name, source, encoder, plan, segment_files(folder, encoder, source.frame_times))
    return folder / name


def kinds(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return [
            "cover" if stream.disposition & Disposition.attached_pic else stream.type
            for stream in container.streams
        ]


def test_matroska_supports_all_streams(source, tmp_path):
    found = probe(source)
    assert plan_for(found, "out.mkv", tmp_path).losses == ()
    assert kinds(upscaled(found, "out.mkv", tmp_path)) == kinds(source)


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("out.mp4", ["stream 4 (attachment font.ttf) is dropped; .mp4 does not support it"]),
        (
            "out.webm",
            [
                "stream 1 (audio aac eng) is converted to libopus",
                "stream 2 (audio aac deu) is converted to libopus",
                "stream 4 (attachment font.ttf) is dropped; .webm does not support it",
                "stream 5 (video png) is dropped; .webm does not support it",
                "webm cannot flag stream 2 (audio aac deu) as comment",
            ],
        ),
    ],
)
def test_unsupported_streams_are_listed(source, tmp_path, name, lost):
    assert list(plan_for(probe(source), name, tmp_path).losses) == lost


def test_cover_that_quicktime_drops_silently_is_listed(source, tmp_path):
    lost = plan_for(probe(source), "out.mov", tmp_path).losses
    assert "stream 5 (video png) is dropped; .mov does not support it" in lost
    assert any("language of stream 2" in line for line in lost)


def test_strict_raises_an_error_for_losses(source, tmp_path):
    with pytest.raises(OutputError, match=r"stream 4 \(attachment font.*leave out --strict"):
        plan_for(probe(source), "out.mp4", tmp_path, strict=True)
    assert plan_for(probe(source), "out.mkv", tmp_path, strict=True).losses == ()


def test_test_files_are_removed(source, tmp_path):
    before = set(tmp_path.iterdir())
    plan_for(probe(source), "out.mp4", tmp_path)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4"])
def test_languages_titles_flags_tags_and_chapters_are_preserved(source, tmp_path, name):
    result = upscaled(probe(source), name, tmp_path)
    with av.open(str(source)) as expected, av.open(str(result)) as found:
        for index in (1, 2, 3):
            one, other = expected.streams[index], found.streams[index]
            assert other.language == one.language
            assert one.metadata["title"] in other.metadata.values()
            assert one.disposition & ~other.disposition == 0
        tags = {key.lower(): value for key, value in found.metadata.items()}
        assert (tags["title"], tags["artist"], tags["date"]) == ("A video", "Somebody", "1999")
        for one, other in zip(expected.chapters(), found.chapters(), strict=True):
            assert one["metadata"] == other["metadata"]
            for end in ("start", "end"):
                assert one[end] * one["time_base"] == other[end] * other["time_base"]


def test_subtitles_are_converted_for_mp4(source, tmp_path):
    result = upscaled(probe(source), "out.mp4", tmp_path)
    with av.open(str(result)) as container:
        stream = container.streams.subtitles[0]
        assert stream.codec_context.name == "mov_text"
        found = []
        for packet in container.demux(stream):
            for text in packet.decode() if packet.size else ():
                if text.dialogue:
                    found.append((packet.pts * packet.time_base, text.dialogue.decode()))
    assert [time for time, _ in found] == [Fraction(1, 10), Fraction(7, 10), Fraction(3, 2)]
    assert [text for _, text in found] == ["Hello", "Two\nlines", r"{\i1}Bye"]


def test_mp4_subtitles_are_converted_for_matroska(source, tmp_path):
    first = probe(upscaled(probe(source), "out.mp4", tmp_path))
    assert plan_for(first, "again.mkv", tmp_path).losses == ()
    again = packets(upscaled(first, "again.mkv", tmp_path))[3]
    assert [text for _, text in again] == [b"Hello", b"Two\nlines", b"<i>Bye</i>"]


def test_mp4_chapters_are_not_duplicated(source, tmp_path):
    """MP4 also stores chapters as a text track, which must not be copied."""
    first = probe(upscaled(probe(source), "out.mp4", tmp_path))
    result = upscaled(first, "again.mp4", tmp_path)
    assert kinds(result) == kinds(tmp_path / "out.mp4")
    with av.open(str(result)) as container:
        assert [each["metadata"]["title"] for each in container.chapters()] == ["One", "Two"]


@pytest.mark.parametrize(
    ("first", "then"), [("a.mkv", "b.mp4"), ("a.mp4", "b.mkv"), ("a.mp4", "b.mp4")]
)
def test_covers_are_preserved(source, tmp_path, first, then):
    result = upscaled(probe(upscaled(probe(source), first, tmp_path)), then, tmp_path)
    with av.open(str(source)) as expected, av.open(str(result)) as found:
        one, other = (
            next(bytes(packet) for packet in each.demux(each.streams.video[1]) if packet.size)
            for each in (expected, found)
        )
    assert one == other
    assert "cover" in kinds(result)


def test_second_video_stream_is_listed_as_lost(tmp_path):
    clip = make(Clip(even(10)), tmp_path / "one.mp4")
    two = tmp_path / "two.mkv"
    with av.open(str(clip)) as container, av.open(str(two), "w") as target:
        stream = container.streams.video[0]
        copies = [target.add_stream_from_template(stream, opaque=True) for _ in range(2)]
        for packet in container.demux(stream):
            for copy in copies if packet.size else ():
                own = av.Packet(bytes(packet))
                own.pts, own.dts, own.time_base = packet.pts, packet.dts, packet.time_base
                own.is_keyframe, own.stream = packet.is_keyframe, copy
                target.mux(own)
    assert plan_for(probe(two), "out.mkv", tmp_path).losses == (
        "stream 1 (video h264) is dropped; only the default or first video stream is upscaled",
    )


def test_timecode_is_preserved(tmp_path):
    clip = make(Clip(even(25)), tmp_path / "clip.mp4")
    coded = tmp_path / "coded.mov"
    with av.open(str(clip)) as container, av.open(str(coded), "w") as target:
        copy = target.add_stream_from_template(container.streams.video[0], opaque=True)
        copy.codec_context.framerate = Fraction(25)
        copy.metadata["timecode"] = "01:02:03:04"
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = copy
                target.mux(packet)
    found = probe(coded)
    assert found.timecode == "01:02:03:04"
    for name in ("out.mov", "out.mp4", "out.mkv"):
        assert plan_for(found, name, tmp_path).losses == ()
        with av.open(str(upscaled(found, name, tmp_path))) as container:
            tags = {key.lower(): value for key, value in container.streams[0].metadata.items()}
        assert tags["timecode"] == "01:02:03:04"


@pytest.mark.parametrize("name", ["timecode", "TIMECODE", "TimeCode"])
def test_timecode_in_a_matroska_tag_is_preserved(name, tmp_path):
    clip = Clip(even(3), container="mkv", tags={name: "01:02:03:04"})
    found = probe(make(clip, tmp_path / "clip.mkv"))
    for output in ("out.mov", "out.mp4", "out.mkv", "out.webm"):
        assert plan_for(found, output, tmp_path).losses == ()
        assert probe(upscaled(found, output, tmp_path)).timecode == "01:02:03:04"


def test_invalid_timecode_is_listed_as_lost(tmp_path):
    found = replace(probe(make(Clip(even(5)), tmp_path / "clip.mp4")), timecode="noon")
    assert plan_for(found, "out.mp4", tmp_path).losses == (
        "mp4 does not support the timecode noon",
    )


@pytest.mark.parametrize("clip", [Clip(even(5), rotation=90), Clip(even(5), mirrored=True)])
@pytest.mark.parametrize("name", ["out.mp4", "out.mov"])
def test_rotation_and_mirroring_are_preserved(clip, name, tmp_path):
    found = probe(make(clip, tmp_path / "clip.mp4"))
    assert found.display_matrix is not None
    assert plan_for(found, name, tmp_path).losses == ()
    again = probe(upscaled(found, name, tmp_path))
    assert again.display_matrix == found.display_matrix


def test_matroska_preserves_rotation(tmp_path):
    rotated = probe(make(Clip(even(5), rotation=90), tmp_path / "rotated.mp4"))
    assert plan_for(rotated, "out.mkv", tmp_path).losses == ()
    assert probe(upscaled(rotated, "out.mkv", tmp_path)).rotation == rotated.rotation


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("x264", "out.mp4"),
        ("x264", "out.mov"),
        ("x264", "out.mkv"),
        ("vp9", "out.mp4"),
        ("vp9", "out.webm"),
        ("svt-av1", "out.webm"),
        ("ffv1", "out.mkv"),
        ("prores", "out.mov"),
        ("prores", "out.mkv"),
    ],
)
@pytest.mark.parametrize("shape", [Fraction(16, 11), Fraction(9, 20)])
def test_pixel_aspect_ratio_is_preserved(codec, name, shape, tmp_path):
    clip = Clip(even(5), sample_aspect=shape)
    found = probe(make(clip, tmp_path / "clip.mp4"))
    assert plan_for(found, name, tmp_path, codec=codec).losses == ()
    made = upscaled(found, name, tmp_path, codec=codec)
    assert probe(made).sample_aspect == shape
    with av.open(str(made)) as container:
        assert "stereo_mode" not in container.streams.video[0].metadata
        assert len(list(container.decode(video=0))) == 5


def test_lost_pixel_aspect_ratio_is_listed(tmp_path):
    """The header has no space for a display size beside another stereo mode."""
    tags = {"stereo_mode": "anaglyph_cyan_red"}
    clip = Clip(even(3), container="mkv", sample_aspect=Fraction(16, 11), tags=tags)
    path = make(clip, tmp_path / "clip.mkv")
    (line,) = plan_for(probe(path), "out.mkv", tmp_path, codec="ffv1").losses
    assert line == "ffv1 in matroska does not support the pixel aspect ratio 16/11"


def test_video_without_other_streams_has_an_empty_plan(tmp_path):
    found = probe(make(Clip(even(3)), tmp_path / "clip.mp4"))
    assert plan_for(found, "out.mp4", tmp_path) == StreamPlan()


def test_missing_source_is_a_one_line_error(tmp_path):
    from upscale.errors import VideoError

    with pytest.raises(VideoError, match="does not exist"):
        plan_for(video(path=tmp_path / "gone.mp4"), "out.mp4", tmp_path)


REAL = {
    ("androidx_sample_with_pgs_subtitles.mkv", "out.mp4"): [
        "stream 2 (subtitle pgssub eng) is dropped"
    ],
    ("androidx_sample_with_pgs_subtitles.mkv", "out.mkv"): [],
    ("androidx_sample_with_ass_subtitles.mkv", "out.mkv"): [],
    ("androidx_sample_with_ass_subtitles.mkv", "out.mp4"): [
        "stream 2 (subtitle ssa) loses its styles"
    ],
    ("androidx_sample_with_srt.mkv", "out.mp4"): [],
    ("androidx_sample_with_vobsub.mkv", "out.mkv"): [],
    ("androidx_sample_15fps_720p_1s.mp4", "out.mkv"): [],
    ("androidx_sample_h262_mpeg_audio.ts", "out.mp4"): [],
    ("androidx_vp9_odd_vorbis.webm", "out.webm"): [],
    ("androidx_vp9_odd_vorbis.webm", "out.mov"): [],
    ("androidx_dolbyVision-hdr.MOV", "out.mov"): ["Dolby Vision metadata"],
    ("androidx_dolbyVision-hdr.MOV", "out.mkv"): [
        "stream 2 (data",
        "stream 3 (data",
        "stream 4 (data",
        "Dolby Vision metadata",
    ],
    ("androidx_sample_rotate_and_reflect.mp4", "out.mp4"): [],
}


@pytest.mark.parametrize(("clip", "name"), list(REAL))
def test_real_videos_lose_only_what_is_listed(clip, name, data, tmp_path):
    path = data / "clips" / clip
    found = probe(path)
    lost = plan_for(found, name, tmp_path).losses
    assert len(lost) == len(REAL[clip, name])
    for line, start in zip(lost, REAL[clip, name], strict=True):
        assert line.startswith(start)
    result = probe(upscaled(found, name, tmp_path))
    unit = result.time_base
    for one, other in zip(found.frame_times, result.frame_times, strict=True):
        # A constant rate in milliseconds becomes exact.
        assert abs(one * found.time_base - other * unit) <= max(unit, found.time_base) / 2


def test_phone_tags_are_preserved(data, tmp_path):
    path = data / "clips" / "androidx_dolbyVision-hdr.MOV"
    with av.open(str(upscaled(probe(path), "out.mov", tmp_path))) as container:
        assert container.metadata["com.apple.quicktime.model"] == "iPhone 14 Pro"
        assert container.metadata["com.apple.quicktime.location.ISO6709"].startswith("+51.5")
