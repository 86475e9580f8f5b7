"""Frames are read once, in order and unchanged, from any start."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.video.clips import KINDS, Clip, even, image, is_complete, make, make_kind, number_in
from tests.video.test_probe import copied
from upscale.errors import VideoError
from upscale.video import probe, read_frames, reader


def numbers(video, frames) -> list[int]:
    return [number_in(frame.planes[0], video.planes.depth) for frame in frames]


def marks(frames) -> list[tuple[int, str]]:
    """Return the time and a digest of each frame."""
    return [
        (frame.pts, hashlib.md5(b"".join(map(np.ndarray.tobytes, frame.planes))).hexdigest())
        for frame in frames
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_read_once_in_order_and_unchanged(kind, tmp_path):
    video, clip = probe(make_kind(kind, tmp_path)), KINDS[kind]
    reading = read_frames(video)
    frames = list(reading)
    assert [frame.pts for frame in frames] == list(video.frame_times)
    assert numbers(video, frames) == list(range(len(clip.times)))
    assert is_complete(reading.report)
    for number in (0, len(frames) - 1):
        for plane, stored in zip(frames[number].planes, stored_planes(number, clip), strict=True):
            assert plane.flags.c_contiguous and plane.flags.owndata
            np.testing.assert_array_equal(plane, stored)


def stored_planes(number, clip):
    """Return the planes that were encoded, in the order of `VideoFrame`."""
    frame = image(number, clip.size, clip.format)
    planes = []
    for index, plane in enumerate(frame.planes):
        bits = frame.format.components[index].bits
        kind = np.uint16 if bits > 8 else np.uint8
        planes.append(np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width])
    return [planes[2], planes[0], planes[1]] if frame.format.is_rgb else planes


CONTAINERS = ["mp4", "mkv", "ts", "avi", "flv", "mov", "wmv", "nut", "h264"]


@pytest.mark.parametrize(
    ("suffix", "refresh"),
    [
        *((suffix, False) for suffix in CONTAINERS),
        # FFmpeg does not write such a video to AVI.
        *((suffix, True) for suffix in CONTAINERS if suffix != "avi"),
    ],
)
def test_reading_from_any_frame_gives_the_same_frames(suffix, refresh, tmp_path):
    """Includes open GOPs, and periodic intra refresh without keyframes."""
    kind = "intra-refresh=1:keyint=10:qp=20:bframes=0"
    clip = Clip(even(50), options={"x264-params": kind}) if refresh else KINDS["bframes"]
    video = probe(copied(make(clip, tmp_path / "source.mp4"), tmp_path / f"video.{suffix}"))
    whole = marks(read_frames(video))
    assert len(whole) == 50
    for first in range(50):
        last = min(first + 4, 49)
        times = video.frame_times
        part = read_frames(video, start_pts=times[first], stop_pts=times[last])
        assert marks(part) == whole[first:last]
        assert is_complete(part.report)


@pytest.mark.parametrize(
    ("codec", "suffix", "options"),
    [
        ("libx265", "mp4", {"x265-params": "keyint=8:open-gop=1:log-level=none"}),
        ("libx265", "ts", {"x265-params": "keyint=8:open-gop=1:log-level=none"}),
        ("mpeg2video", "ts", {"g": "8", "bf": "2"}),
        ("mpeg2video", "mpg", {"g": "8", "bf": "2"}),
        ("mpeg4", "avi", {"g": "8", "bf": "2"}),
        ("libvpx", "webm", {"g": "8", "auto-alt-ref": "1", "lag-in-frames": "16"}),
        ("libvpx-vp9", "webm", {"g": "8", "auto-alt-ref": "1", "lag-in-frames": "16"}),
        ("prores_ks", "mov", {}),
        ("mjpeg", "avi", {}),
    ],
)
def test_other_codecs_are_read_from_any_frame(codec, suffix, options, tmp_path):
    special = {"prores_ks": "yuv422p10le", "mjpeg": "yuvj420p"}
    times = tuple(range(40))
    clip = Clip(times, Fraction(1, 25), codec, special.get(codec, "yuv420p"), options=options)
    video = probe(make(clip, tmp_path / f"video.{suffix}"))
    frames = list(read_frames(video))
    assert numbers(video, frames) == list(range(40))
    whole = marks(frames)
    for first in range(0, 40, 3):
        assert marks(read_frames(video, start_pts=video.frame_times[first])) == whole[first:]


def test_reading_from_the_middle_seeks(tmp_path, monkeypatch):
    video = probe(make(Clip(even(200), options={"g": "10"}), tmp_path / "video.mp4"))
    decoded = []
    decode = reader.decode

    def counting(stream, packets):
        for part in decode(stream, packets):
            decoded.append(part)
            yield part

    monkeypatch.setattr(reader, "decode", counting)
    times = video.frame_times
    frames = list(read_frames(video, start_pts=times[185], stop_pts=times[188]))
    assert numbers(video, frames) == [185, 186, 187] and len(decoded) < 40


def test_wrong_keyframe_times_do_not_change_frames(tmp_path):
    video = probe(make_kind("bframes", tmp_path))
    whole = marks(read_frames(video))
    lying = replace(video, keyframe_times=video.frame_times)
    for first in range(50):
        assert marks(read_frames(lying, start_pts=video.frame_times[first])) == whole[first:]


def test_start_and_stop_may_be_between_frames(tmp_path):
    video = probe(make_kind("cfr", tmp_path))
    plan = video.frame_times
    part = list(read_frames(video, start_pts=plan[3] - 1, stop_pts=plan[6] + 1))
    assert [frame.pts for frame in part] == list(plan[3:7])
    assert not list(read_frames(video, start_pts=plan[-1] + 1))
    assert not list(read_frames(video, start_pts=plan[5], stop_pts=plan[5]))


def test_repeated_frames_are_flagged(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.video.clips.image", lambda number, *rest: image(number // 3, *rest))
    video = probe(make(Clip(even(12)), tmp_path / "video.mp4"))
    repeats = [frame.repeats for frame in read_frames(video)]
    assert repeats == [False, True, True] * 4


def test_frames_own_their_memory(tmp_path):
    video = probe(make_kind("cfr", tmp_path))
    reading = iter(read_frames(video))
    first = next(reading)
    before = first.planes[0].copy()
    for _ in reading:
        pass
    np.testing.assert_array_equal(first.planes[0], before)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "h264"])
def test_undecodable_frames_are_reported_with_their_times(suffix, tmp_path):
    """Three packets are overwritten; frames from the next keyframe on are intact."""
    clip = Clip(even(60), options={"x264-params": "keyint=10:min-keyint=10:scenecut=0:bframes=0"})
    path = copied(make(clip, tmp_path / "source.mp4"), tmp_path / f"video.{suffix}")
    data = bytearray(path.read_bytes())
    sound = probe(path)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    place = 0
    for number, packet in enumerate(packets):
        place = data.index(packet[6:30], place)
        if number in (31, 32, 33):
            data[place : place + 24] = bytes(24)
    path.write_bytes(data)
    video = probe(path)
    reading = read_frames(video)
    frames = list(reading)
    report = reading.report
    # Packets of transport streams may vanish, which shows in the times alone.
    assert video.warnings if suffix == "ts" else not is_complete(report)
    assert sorted([*(frame.pts for frame in frames), *report.lost]) == sorted(
        [*video.frame_times, *video.lost]
    )
    touched = {*report.lost, *report.damaged}
    assert touched <= {*sound.frame_times[30:41]}
    if suffix != "h264":
        images = {frame.pts: number_in(frame.planes[0]) for frame in frames}
        assert all(images[sound.frame_times[number]] == number for number in range(40, 60))


@pytest.mark.parametrize("part", [0, 1])
def test_damaged_video_gives_the_same_frames_from_any_start(part, tmp_path):
    """A resumed run must not differ, however the decoder conceals errors."""
    clip = Clip(even(80), options={"g": "12", "bf": "2", "x264-params": "qp=20"})
    path = make(clip, tmp_path / ("video.mp4" if part else "video.mkv"))
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(part)
    for place in rng.integers(len(data) // 4, len(data) * 3 // 4, 12):
        data[place] ^= 1 << rng.integers(8)
    path.write_bytes(data)
    video = probe(path)
    reading = read_frames(video)
    whole = marks(reading)
    assert reading.report.damaged or reading.report.lost
    for first in range(0, len(video.frame_times), 2):
        start = video.frame_times[first]
        expected = [mark for mark in whole if mark[0] >= start]
        assert marks(read_frames(video, start_pts=start)) == expected


def test_reading_continues_after_a_rejected_packet(data):
    video = probe(data / "clips" / "decord_corrupted.mp4")
    reading = read_frames(video)
    frames = list(reading)
    assert (len(video.frame_times), len(frames)) == (50, 49)
    assert len(reading.report.lost) == 1
    place = video.frame_times.index(reading.report.lost[0])
    assert frames[-1].pts == video.frame_times[-1] and 0 < place < 49


def test_part_without_damage_is_complete(data):
    video = probe(data / "clips" / "decord_corrupted.mp4")
    reading = read_frames(video, stop_pts=video.frame_times[20])
    assert len(list(reading)) == 20 and is_complete(reading.report)


def test_frames_of_another_size_are_resized(tmp_path):
    small = make(Clip(even(10)), tmp_path / "small.mp4")
    large = make(Clip(even(10), size=(96, 80)), tmp_path / "large.mp4")
    parts = [copied(small, tmp_path / "a.h264"), copied(large, tmp_path / "b.h264")]
    path = tmp_path / "video.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    video = probe(path)
    reading = read_frames(video)
    frames = list(reading)
    assert len(frames) == 20 and {frame.planes[0].shape for frame in frames} == {(48, 64)}
    assert numbers(video, frames) == [*range(10), *range(10)]
    assert reading.report.resized == list(video.frame_times[10:])


def test_deinterlacing_gives_one_full_frame_for_each_frame(tmp_path):
    video = probe(make_kind("interlaced", tmp_path))
    frames = list(read_frames(video, deinterlace=True))
    assert [frame.pts for frame in frames] == list(video.frame_times)
    assert numbers(video, frames) == list(range(20))


def test_deinterlacing_removes_combing(tmp_path, monkeypatch):
    """A bar moves between the fields of each frame."""
    monkeypatch.setattr("tests.video.clips.image", combed)
    video = probe(make(KINDS["interlaced"], tmp_path / "video.mp4"))
    before, after = (
        [comb(frame.planes[0]) for frame in read_frames(video, deinterlace=deinterlace)]
        for deinterlace in (False, True)
    )
    assert min(before[2:-2]) > 10 * max(after[2:-2])


def combed(number, size, format):
    frame = av.VideoFrame(*size, format)
    luma = np.full((size[1], frame.planes[0].line_size), 60, np.uint8)
    for field in (0, 1):
        left = (number * 2 + field) * 1 + 4
        luma[field::2, left : left + 12] = 200
    frame.planes[0].update(luma.tobytes())
    for plane in frame.planes[1:]:
        plane.update(bytes([128]) * plane.buffer_size)
    return frame


def comb(luma) -> float:
    """Return how much rows differ from the mean of their neighbours."""
    lines = luma.astype(float)
    return float(np.abs(lines[1:-1] - (lines[:-2] + lines[2:]) / 2).mean())


def test_deinterlaced_frames_are_the_same_from_any_start(tmp_path):
    video = probe(make_kind("interlaced", tmp_path))
    whole = marks(read_frames(video, deinterlace=True))
    for first in range(20):
        last = min(first + 3, 19)
        bounds = {"start_pts": video.frame_times[first], "stop_pts": video.frame_times[last]}
        assert marks(read_frames(video, deinterlace=True, **bounds)) == whole[first:last]


def test_deleted_video_is_a_one_line_error(tmp_path):
    video = probe(make_kind("cfr", tmp_path))
    video.path.unlink()
    with pytest.raises(VideoError, match="does not exist"):
        list(read_frames(video))


def test_video_truncated_after_probing_is_incomplete(tmp_path):
    clip = Clip(even(50), container_options={"movflags": "faststart"})
    video = probe(make(clip, tmp_path / "video.mp4"))
    data = video.path.read_bytes()
    video.path.write_bytes(data[: len(data) // 2])
    reading = read_frames(video)
    count = len(list(reading))
    assert not is_complete(reading.report) and count + len(reading.report.lost) == 50


def test_packet_beyond_the_end_of_the_file_is_reported_lost(tmp_path):
    """All other packets are read, though the file seems to end there."""
    clip = Clip(even(40), options={"x264-params": "keyint=10:qp=0:bframes=2"}, sound=True)
    path = make(clip, tmp_path / "clip.mp4")
    content = bytearray(path.read_bytes())
    entry = content.index(b"stco", content.index(b"vide")) + 12 + 4 * 30
    content[entry : entry + 4] = b"\x7f\xff\xff\xff"
    path.write_bytes(content)
    video = probe(path)
    assert video.warnings == ("1 packet is missing",)
    (lost,) = video.lost
    assert abs(lost - 30 * 512) <= 2 * 512
    assert len(list(read_frames(video))) >= 37
