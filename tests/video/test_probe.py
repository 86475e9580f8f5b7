"""Probing: times, colours and geometry; and files that are rejected."""

from __future__ import annotations

import re
import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from tests.video.clips import KINDS, Clip, even, make, make_kind
from upscale.errors import VideoError
from upscale.video import HdrMetadata, MasteringDisplay, probe
from upscale.video.timing import shows_frame


@pytest.fixture
def video(tmp_path):
    return lambda kind: probe(make_kind(kind, tmp_path))


def copied(origin, target, options=None, metadata=None):
    """Remux the video stream into another container."""
    with (
        av.open(str(origin)) as old,
        av.open(str(target), "w", container_options=options or {}) as new,
    ):
        new.metadata.update(metadata or {})
        source = old.streams.video[0]
        stream = new.add_stream_from_template(source)
        raw = BitStreamFilterContext("h264_mp4toannexb", source) if ".h264" in str(target) else None
        for packet in old.demux(source):
            for part in raw.filter(packet) if raw and packet.size else [packet]:
                if part.size:
                    part.stream = stream
                    new.mux(part)
    return target


@pytest.mark.parametrize("kind", KINDS)
def test_frame_times_equal_those_written(kind, video):
    found, clip = video(kind), KINDS[kind]
    assert [time * found.time_base for time in found.frame_times] == [
        time * clip.time_base for time in clip.times
    ]
    assert (found.width, found.height) == clip.size
    assert (found.lost, found.warnings) == ((), ())


@pytest.mark.parametrize("suffix", ["mkv", "ts", "avi", "flv", "mov", "wmv", "nut"])
def test_every_container_lists_all_frames(suffix, tmp_path):
    path = copied(make_kind("bframes", tmp_path), tmp_path / f"video.{suffix}")
    plan = probe(path).frame_times
    assert len(plan) == 50 and list(plan) == sorted(set(plan))


def test_fragmented_mp4_lists_all_frames(tmp_path):
    options = {"movflags": "frag_keyframe+empty_moov"}
    path = copied(make_kind("bframes", tmp_path), tmp_path / "video.mp4", options)
    assert len(probe(path).frame_times) == 50


def test_raw_stream_gets_times_from_its_frame_rate(tmp_path):
    video = probe(copied(make_kind("bframes", tmp_path), tmp_path / "video.h264"))
    assert video.sequential and video.frame_times[0] == 0
    steps = set(np.diff([time * video.time_base for time in video.frame_times]))
    assert steps == {Fraction(1, 25)} and len(video.frame_times) == 50


def test_edit_list_is_applied(tmp_path):
    whole = probe(make_kind("bframes", tmp_path))
    path = tmp_path / "cut.mp4"
    with av.open(str(whole.path)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                packet.pts -= 5 * 512
                packet.dts -= 5 * 512
                new.mux(packet)
    with av.open(str(path)) as container:
        packets = sum(packet.size > 0 for packet in container.demux(video=0))
    video = probe(path)
    assert packets == 50 and video.frame_times == whole.frame_times[:45]


@pytest.mark.parametrize("kind", ["bt601", "bt709", "bt2020", "full"])
def test_tagged_colours_are_read(kind, video):
    colour, (primaries, transfer, space, range_) = video(kind).colour, KINDS[kind].colour
    assert (colour.primaries, colour.transfer, colour.space) == (primaries, transfer, space)
    assert colour.full_range == (range_ == 2) and not colour.guessed
    assert colour.matrix == {1: "bt709", 6: "bt601", 9: "bt2020"}[space]


@pytest.mark.parametrize(("height", "matrix"), [(718, "bt601"), (720, "bt709")])
def test_untagged_colours_are_guessed_from_the_height(height, matrix, tmp_path):
    path = make(Clip(even(2), size=(64, height)), tmp_path / "video.mp4")
    colour = probe(path).colour
    assert (colour.matrix, colour.guessed, colour.full_range) == (matrix, True, False)


def test_rgb_and_grey_are_not_guessed(video):
    rgb, grey = video("rgb"), video("grey")
    assert (rgb.colour.matrix, rgb.colour.guessed, rgb.planes.kind) == ("rgb", False, "rgb")
    assert (grey.colour.guessed, grey.planes.kind, grey.planes.name) == (False, "grey", "gray")


@pytest.mark.parametrize(("siting", "number"), [("left", 1), ("center", 2), ("topleft", 3)])
def test_chroma_location_is_read(siting, number, tmp_path):
    place = {"left": 0, "center": 1, "topleft": 2}[siting]
    clip = Clip(even(3), options={"x264-params": f"chromaloc={place}:qp=0"})
    assert probe(make(clip, tmp_path / "video.mp4")).colour.chroma_location == number


@pytest.mark.parametrize(
    ("kind", "name", "depth", "across", "down", "alpha"),
    [
        ("cfr", "yuv420p", 8, 1, 1, False),
        ("full", "yuv420p", 8, 1, 1, False),
        ("deep", "yuv420p10le", 10, 1, 1, False),
        ("deep12", "yuv422p12le", 12, 1, 0, False),
        ("444", "yuv444p", 8, 0, 0, False),
        ("rgb", "gbrp10le", 10, 0, 0, False),
        ("alpha", "yuva420p", 8, 1, 1, True),
    ],
)
def test_plane_format_is_read(kind, name, depth, across, down, alpha, video):
    planes = video(kind).planes
    assert (planes.name, planes.depth, planes.alpha) == (name, depth, alpha)
    assert (planes.chroma_across, planes.chroma_down) == (across, down)


def test_pixel_aspect_ratio_and_rotation_are_read(video):
    assert video("anamorphic").sample_aspect == Fraction(16, 11)
    assert video("cfr").display_matrix is None
    turned, mirrored = video("rotated"), video("mirrored")
    assert turned.rotation == 90
    assert turned.display_matrix[:5] == (0, -65536, 0, 65536, 0)
    assert mirrored.display_matrix[:5] == (-65536, 0, 0, 0, 65536)


def test_interlacing_is_detected(video):
    assert not video("cfr").interlaced
    found = video("interlaced")
    assert found.interlaced


def test_hdr_metadata_is_read(video):
    chroma = ((34000, 16000), (13250, 34500), (7500, 3000), (15635, 16450))
    points = tuple((Fraction(x, 50000), Fraction(y, 50000)) for x, y in chroma)
    mastering = MasteringDisplay(points, (Fraction(1, 200), Fraction(1000)))
    assert video("hdr10").hdr == HdrMetadata(mastering, (1000, 400))
    assert video("deep").hdr is None


def test_rate_duration_timecode_and_names_are_read(tmp_path):
    source = make_kind("cfr", tmp_path)
    video = probe(copied(source, tmp_path / "video.mkv", metadata={"timecode": "01:02:03:04"}))
    assert (video.rate, video.duration, video.timecode) == (25, Fraction(30, 25), "01:02:03:04")
    assert (video.codec, video.container) == ("h264", "matroska,webm")


def test_hidden_frames_have_no_frame_time(data):
    path = data / "clips" / "androidx_roadtrip-vp92-10bit.webm"
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 30
    with av.open(str(path)) as container:
        times = [frame.pts for frame in container.decode(video=0)]
    assert len(times) == 27
    assert list(probe(path).frame_times) == times


@pytest.mark.parametrize(
    ("codec", "data", "shown"),
    [
        ("vp8", [0x10, 0, 0, 0x9D], True),
        ("vp8", [0x00, 0, 0, 0x9D], False),
        ("vp9", [0b10000010, 0x49, 0x83], True),
        ("vp9", [0b10000000, 0x49, 0x83], False),
        ("vp9", [0b10001000], True),
        ("vp9", [0b10110001, 0x80, 0], True),
        ("vp9", [0b10000000, 0x49, 0b11000001], True),
        ("h264", [0], True),
    ],
)
def test_hidden_frames_of_vp8_and_vp9_are_detected(codec, data, shown):
    assert shows_frame(codec, av.Packet(bytes(data))) == shown


@pytest.mark.parametrize("suffix", ["mkv", "ts", "flv"])
def test_gap_in_a_constant_frame_rate_is_a_warning(suffix, tmp_path):
    whole, torn = even(50), even(50)[:20] + even(50)[23:]
    path = copied(make(Clip(whole), tmp_path / "a.mp4"), tmp_path / f"a.{suffix}")
    assert probe(path).warnings == ()
    path = copied(make(Clip(torn), tmp_path / "b.mp4"), tmp_path / f"b.{suffix}")
    (warning,) = probe(path).warnings
    assert re.match(r"3 frames seem to be missing, the first at \d\.\d+ s", warning)
    path = copied(make(KINDS["vfr"], tmp_path / "c.mp4"), tmp_path / f"c.{suffix}")
    assert probe(path).warnings == ()


def written(path, make_content):
    make_content(path)
    return path


def image(path):
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("mjpeg" if path.suffix == ".jpg" else "png", rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if path.suffix == ".jpg" else "rgb24"
        container.mux(stream.encode(av.VideoFrame(64, 48, stream.pix_fmt)))
        container.mux(stream.encode(None))


def sound(path, cover=None):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        image = container.add_stream("mjpeg", rate=25) if cover else None
        if image:
            image.width, image.height, image.pix_fmt = 64, 48, "yuvj420p"
            image.disposition = av.stream.Disposition.attached_pic
            container.mux(image.encode(av.VideoFrame(64, 48, "yuvj420p")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def cut_header(path):
    """Write an MP4 file without its index, which is at the end."""
    data = make(Clip(even(20)), path).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def unknown_codec(path):
    data = make(Clip(even(5)), path).read_bytes()
    path.write_bytes(data.replace(b"avc1", b"zzzz"))


def no_frames(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()


def text(path):
    path.write_text("no video at all\n" * 50)


def playlist(path):
    path.write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n/etc/hostname.ts\n#EXT-X-ENDLIST\n"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", image, "is an image, not a video; leave out the word `video`"),
        ("a.jpg", image, "is an image, not a video; leave out the word `video`"),
        ("a.m4a", sound, r"contains no video stream \(audio\); give a video"),
        ("f.mp4", lambda path: sound(path, cover=True), "contains no video stream.*a cover image"),
        ("a.mp4", cut_header, "is not a video, or its header is damaged"),
        ("b.mp4", unknown_codec, "cannot decode its video; convert it"),
        ("c.mp4", no_frames, "contains no video|contains no frame|header is damaged"),
        ("a.txt", text, "is not a video"),
        ("a.m3u8", playlist, "is not a video"),
        ("a.mkv", lambda path: path.write_bytes(b""), "is not a video, or its header is damaged"),
        ("d.mp4", lambda path: path.mkdir(), "is a folder; give a video"),
        ("e.mp4", lambda path: None, "does not exist; check the name"),
    ],
)
def test_other_files_are_rejected_in_one_line(name, content, message, tmp_path):
    path = written(tmp_path / name, content)
    with pytest.raises(VideoError, match=message) as error:
        probe(path)
    message = str(error.value)
    assert message.startswith(str(path)) and message.isprintable()


def test_animation_of_one_frame_is_rejected(tmp_path):
    clip = Clip((0,), time_base=Fraction(1, 25), codec="gif", format="gray", container="gif")
    with pytest.raises(VideoError, match="is an image"):
        probe(make(clip, tmp_path / "video.gif"))


def test_cover_image_is_ignored(tmp_path):
    source = make_kind("cfr", tmp_path)
    path = tmp_path / "cover.mp4"
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        image = new.add_stream("mjpeg", rate=25)
        image.width, image.height, image.pix_fmt = 32, 32, "yuvj420p"
        image.disposition = av.stream.Disposition.attached_pic
        stream = new.add_stream_from_template(old.streams.video[0])
        new.mux(image.encode(av.VideoFrame(32, 32, "yuvj420p")))
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    video = probe(path)
    assert (video.codec, video.width, len(video.frame_times)) == ("h264", 64, 30)


def test_file_names_are_never_interpreted_as_urls(tmp_path, monkeypatch):
    shutil.copy(make_kind("cfr", tmp_path), tmp_path / "concat:a|b.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(probe(tmp_path.__class__("concat:a|b.mp4")).frame_times) == 30


@pytest.mark.parametrize(("container", "part"), [("mp4", 0.7), ("mkv", 0.6), ("flv", 0.6)])
def test_truncated_video_is_a_warning(container, part, tmp_path):
    options = {"movflags": "faststart"} if container == "mp4" else {}
    clip = Clip(even(50), container_options=options)
    path = make(clip, tmp_path / f"video.{container}")
    assert probe(path).warnings == ()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    video = probe(path)
    assert video.warnings and all(line.isprintable() for line in video.warnings)
    if container == "mp4":
        assert len(video.frame_times) + len(video.lost) == 50
