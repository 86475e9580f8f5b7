from __future__ import annotations

import threading
import time
import weakref
from fractions import Fraction

import numpy as np
import pytest

from tests.jobs.test_video import LOSSLESS, Doubling, decoded, doubled, upscale
from tests.video.clips import Clip, even, make, make_kind
from upscale.errors import MemoryExhaustedError
from upscale.jobs import video_segments
from upscale.jobs.video import VideoSettings, plan_video, run_video
from upscale.jobs.video_segments import SegmentQueue
from upscale.video import reader
from upscale.video.encoders import VideoEncoding
from upscale.video.segments import SegmentStore, split_into_segments


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 5)


def numbers(shares, device, count):
    taken = (shares.take(device) for _ in range(count))
    return [each.number for each in taken if each is not None]


def test_each_device_gets_consecutive_segments():
    shares = SegmentQueue(split_into_segments(range(60)), 3)
    assert [numbers(shares, device, 4) for device in (0, 1, 2)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]
    assert shares.take(0) is None


def test_idle_device_takes_half_of_the_longest_share():
    shares = SegmentQueue(split_into_segments(range(40)), 2)
    assert numbers(shares, 0, 4) == [0, 1, 2, 3]
    assert numbers(shares, 1, 1) == [4]
    assert numbers(shares, 0, 9) == [6, 7, 5]
    assert shares.take(1) is None


@pytest.mark.parametrize("devices", [1, 2, 5, 9])
def test_each_segment_is_taken_once(devices):
    shares = SegmentQueue(split_into_segments(range(33)), devices)
    taken = [number for device in range(devices) for number in numbers(shares, device, 99)]
    assert sorted(taken) == list(range(7))


def test_consecutive_segments_are_read_in_one_pass(tmp_path, monkeypatch):
    """Otherwise a video that must be decoded from the beginning would take quadratic time."""
    source = make_kind("cfr", tmp_path)
    opened = []
    monkeypatch.setattr(
        reader,
        "open_video",
        lambda *video, real=reader.open_video: opened.append(video) or real(*video),
    )
    assert upscale(source, tmp_path / "out.mkv").computed > 20
    assert len(opened) == 1


def test_network_continues_while_a_segment_is_finished(tmp_path, monkeypatch):
    continued = threading.Event()

    class Watching(Doubling):
        def run_tensor(self, image, *, size=None):
            if self.runs == 6:
                continued.set()
            return super().run_tensor(image, size=size)

    def finish(*arguments, real=SegmentStore.finish):
        assert continued.wait(60), "the network waits for the disk"
        real(*arguments)

    monkeypatch.setattr(SegmentStore, "finish", finish)
    assert upscale(make_kind("cfr", tmp_path), tmp_path / "out.mkv", Watching()).frames


def test_report_contains_the_time_spent_waiting_for_both_sides(tmp_path, monkeypatch):
    class SlowReader(reader.FrameReader):
        def __iter__(self):
            for frame in super().__iter__():
                time.sleep(0.01)
                yield frame

    class SlowWriter(video_segments.SegmentWriter):
        def write(self, frame):
            time.sleep(0.01)
            super().write(frame)

    source = make_kind("cfr", tmp_path)
    monkeypatch.setattr(reader, "FrameReader", SlowReader)
    report = upscale(source, tmp_path / "read.mkv")
    assert 0.1 <= report.waited_for_reading <= report.seconds
    monkeypatch.undo()
    monkeypatch.setattr(video_segments, "SegmentWriter", SlowWriter)
    report = upscale(source, tmp_path / "written.mkv")
    assert 0.1 <= report.waited_for_writing <= report.seconds


def test_few_frames_wait_for_a_slow_encoder(tmp_path, monkeypatch):
    """Count frames that were upscaled and not yet written."""
    upscaled, most = Doubling(), []

    class Slow(video_segments.SegmentWriter):
        written = 0

        def write(self, frame):
            super().write(frame)
            Slow.written += 1
            most.append(upscaled.runs - Slow.written)

    monkeypatch.setattr(video_segments, "SegmentWriter", Slow)
    upscale(make_kind("bframes", tmp_path), tmp_path / "out.mkv", upscaled)
    assert len(most) == 50 and max(most) <= video_segments.FRAMES_BEHIND + 2


@pytest.mark.parametrize("count", [40, 160])
def test_frames_in_memory_do_not_grow_with_the_video(count, tmp_path, monkeypatch):
    """Count small and large frames while the encoder lags as far behind as possible."""
    upscaled, frames, alive = Doubling(), [], []
    lagging = video_segments.FRAMES_BEHIND + 1  # the end of a segment takes a place, too

    class Watched(video_segments.FrameUpscaler):
        def load(self, frame, after=None):
            frames.append(weakref.ref(frame.planes[0]))
            return super().load(frame, after)

        def upscale(self, frame):
            made = super().upscale(frame)
            frames.append(weakref.ref(made.planes._planes[0]))
            return made

    class Lagging(video_segments.SegmentWriter):
        written = 0

        def write(self, frame):
            for _ in range(60_000):
                if upscaled.runs >= min(Lagging.written + lagging, count):
                    break
                time.sleep(0.001)
            alive.append(sum(each() is not None for each in frames))
            super().write(frame)
            Lagging.written += 1

    monkeypatch.setattr(video_segments, "FrameUpscaler", Watched)
    monkeypatch.setattr(video_segments, "SegmentWriter", Lagging)
    upscale(make(Clip(even(count)), tmp_path / "in.mp4"), tmp_path / "out.mkv", upscaled)
    assert len(alive) == count and len(frames) == 2 * count
    assert lagging <= max(alive) <= video_segments.FRAMES_AHEAD + video_segments.FRAMES_BEHIND + 6


def test_resumed_run_reports_corrupt_frames_of_the_interrupted_one(tmp_path):
    source = broken(tmp_path)
    whole, output = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    report = upscale(source, whole)
    assert report.damaged or report.lost
    with pytest.raises(MemoryExhaustedError):
        upscale(source, output, Doubling(30, MemoryError()))
    again = upscale(source, output)
    assert again.resumed and (again.damaged, again.lost) == (report.damaged, report.lost)
    assert decoded(output) == decoded(whole)


def broken(folder):
    clip = Clip(even(50), options={"g": "12", "bf": "2", "x264-params": "qp=20"})
    source = make(clip, folder / "in.mp4")
    data, random = bytearray(source.read_bytes()), np.random.default_rng(1)
    for place in random.integers(len(data) // 3, len(data) * 3 // 4, 8):
        data[place] ^= 1 << random.integers(8)
    source.write_bytes(data)
    return source


def test_lost_streams_are_reported_before_any_frame(data, tmp_path):
    source = data / "clips" / "androidx_sample_with_ass_subtitles.mkv"
    settings = VideoSettings(VideoEncoding("x264", preset="ultrafast"), frames=3)
    job = plan_video(source, tmp_path / "out.mp4", doubled, settings)
    device, warnings = Doubling(), []
    report = run_video(
        job, [device], {}, lambda *_: None, lambda line: warnings.append((device.runs, line))
    )
    assert warnings and all(runs == 0 for runs, _ in warnings)
    assert {line for _, line in warnings} <= set(report.notes)


def test_part_of_a_damaged_video_reports_only_its_own_losses(tmp_path):
    source = broken(tmp_path)
    report = upscale(source, tmp_path / "all.mkv")
    first = min((*report.lost, *report.damaged))
    settings = VideoSettings(LOSSLESS, end=Fraction(first).limit_denominator(1000))
    part = upscale(source, tmp_path / "part.mkv", settings=settings)
    assert not part.lost and not part.damaged
