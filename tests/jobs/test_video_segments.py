from __future__ import annotations

import threading
import time
import weakref
from fractions import Fraction

import numpy as np
import pytest

from tests.jobs.test_video import LOSSLESS, Doubling, decoded, doubled, upscale
from tests.video.clips import Clip, even, make, make_kind
from upscale.jobs import video_segments as work_on
from upscale.jobs.video import VideoSettings, plan_video, run_video
from upscale.jobs.video_segments import Shares
from upscale.video import reader
from upscale.video.encoders import Encoding
from upscale.video.segments import Work, segments


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr("upscale.video.segments.segments.__defaults__", (5,))


def numbers(shares, device, count):
    taken = (shares.take(device) for _ in range(count))
    return [each.number for each in taken if each is not None]


def test_each_device_gets_neighbours():
    shares = Shares(segments(range(60)), 3)
    assert [numbers(shares, device, 4) for device in (0, 1, 2)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]
    assert shares.take(0) is None


def test_a_device_that_is_done_takes_half_of_what_another_has_left():
    shares = Shares(segments(range(40)), 2)
    assert numbers(shares, 0, 4) == [0, 1, 2, 3]
    assert numbers(shares, 1, 1) == [4]
    assert numbers(shares, 0, 9) == [6, 7, 5]
    assert shares.take(1) is None


@pytest.mark.parametrize("devices", [1, 2, 5, 9])
def test_each_segment_is_taken_once(devices):
    shares = Shares(segments(range(33)), devices)
    taken = [number for device in range(devices) for number in numbers(shares, device, 99)]
    assert sorted(taken) == list(range(7))


def test_neighbours_are_read_in_one_go(tmp_path, monkeypatch):
    """Or a video in which decoding has to start at the beginning would take a time squared."""
    source = make_kind("cfr", tmp_path)
    opened = []
    monkeypatch.setattr(
        reader, "opened", lambda *video, real=reader.opened: opened.append(video) or real(*video)
    )
    assert upscale(source, tmp_path / "out.mkv").computed > 20
    assert len(opened) == 1


def test_the_network_goes_on_while_a_segment_is_brought_to_the_drive(tmp_path, monkeypatch):
    went_on = threading.Event()

    class Watching(Doubling):
        def run_tensor(self, image, *, size=None):
            if self.runs == 6:
                went_on.set()
            return super().run_tensor(image, size=size)

    def finish(*arguments, real=Work.finish):
        assert went_on.wait(60), "the network waits for the drive"
        real(*arguments)

    monkeypatch.setattr(Work, "finish", finish)
    assert upscale(make_kind("cfr", tmp_path), tmp_path / "out.mkv", Watching()).frames


def test_few_frames_are_in_memory_however_slow_the_encoder(tmp_path, monkeypatch):
    """Counted as frames that were upscaled and not yet written."""
    upscaled, most = Doubling(), []

    class Slow(work_on.SegmentWriter):
        written = 0

        def write(self, frame):
            super().write(frame)
            Slow.written += 1
            most.append(upscaled.runs - Slow.written)

    monkeypatch.setattr(work_on, "SegmentWriter", Slow)
    upscale(make_kind("bframes", tmp_path), tmp_path / "out.mkv", upscaled)
    assert len(most) == 50 and max(most) <= work_on._FRAMES_BEHIND + 2


@pytest.mark.parametrize("count", [40, 160])
def test_frames_alive_at_once_do_not_grow_with_the_video(count, tmp_path, monkeypatch):
    """Small ones and large ones, while the encoder lags as far behind as it can."""
    upscaled, frames, alive = Doubling(), [], []
    lagging = work_on._FRAMES_BEHIND + 1  # the end of a segment takes a place, too

    class Watched(work_on.FrameUpscaler):
        def load(self, frame):
            frames.append(weakref.ref(frame.planes[0]))
            return super().load(frame)

        def upscale(self, frame):
            made = super().upscale(frame)
            frames.append(weakref.ref(made.planes._planes[0]))
            return made

    class Lagging(work_on.SegmentWriter):
        written = 0

        def write(self, frame):
            for _ in range(60_000):
                if upscaled.runs >= min(Lagging.written + lagging, count):
                    break
                time.sleep(0.001)
            alive.append(sum(each() is not None for each in frames))
            super().write(frame)
            Lagging.written += 1

    monkeypatch.setattr(work_on, "FrameUpscaler", Watched)
    monkeypatch.setattr(work_on, "SegmentWriter", Lagging)
    upscale(make(Clip(even(count)), tmp_path / "in.mp4"), tmp_path / "out.mkv", upscaled)
    assert len(alive) == count and len(frames) == 2 * count
    assert lagging <= max(alive) <= work_on._FRAMES_AHEAD + work_on._FRAMES_BEHIND + 6


def test_damaged_frames_are_reported_also_by_a_run_that_goes_on(tmp_path):
    source = broken(tmp_path)
    whole, output = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    report = upscale(source, whole)
    assert report.damaged or report.lost
    with pytest.raises(MemoryError):
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


def test_what_cannot_be_carried_is_said_before_any_frame(data, tmp_path):
    source = data / "clips" / "androidx_sample_with_ass_subtitles.mkv"
    settings = VideoSettings(Encoding("x264", preset="ultrafast"), frames=3)
    job = plan_video(source, tmp_path / "out.mp4", doubled, settings)
    device, said = Doubling(), []
    report = run_video(
        job, [device], {}, lambda *_: None, lambda line: said.append((device.runs, line))
    )
    assert said and all(runs == 0 for runs, _ in said)
    assert {line for _, line in said} <= set(report.notes)


def test_a_part_of_a_damaged_video_reports_its_own_losses(tmp_path):
    source = broken(tmp_path)
    report = upscale(source, tmp_path / "all.mkv")
    first = min((*report.lost, *report.damaged))
    settings = VideoSettings(LOSSLESS, end=Fraction(first).limit_denominator(1000))
    part = upscale(source, tmp_path / "part.mkv", settings=settings)
    assert not part.lost and not part.damaged
