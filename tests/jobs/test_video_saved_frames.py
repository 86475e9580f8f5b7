"""A slow segment that was interrupted loses seconds, and its output is the same."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests.jobs.test_video import Doubling, doubled
from tests.video.clips import Clip, even, make
from upscale.errors import OutputError
from upscale.jobs.video import VideoSettings, plan_video, run_video
from upscale.video import saved_frames
from upscale.video.encoders import VideoEncoding
from upscale.video.info import Colour, FrameFormat, VideoFrame
from upscale.video.planes import plane_format
from upscale.video.probe import probe
from upscale.video.reader import read_frames
from upscale.video.saved_frames import SavedFrame, SavedFrames
from upscale.video.segments import folder_for

FORMAT = FrameFormat(8, 6, plane_format("yuv420p10le"), Colour("bt709", full_range=False))


def upscale(source, output, upscaler, **settings):
    job = plan_video(source, output, doubled, VideoSettings(VideoEncoding("x264"), **settings))
    return run_video(job, (upscaler,), {"model": "doubling"}, lambda *_: None, [].append)


def decoded(path):
    frames = read_frames(probe(path))
    return [(frame.pts, *(plane.tobytes() for plane in frame.planes)) for frame in frames]


@pytest.fixture
def slow(monkeypatch):
    """Every segment counts as slow."""
    monkeypatch.setattr(saved_frames, "LONGEST_LOSS", 0.0)


def held(path, times):
    """Write a video whose frames repeat the one before at odd numbers from 3 on."""
    import av

    from tests.video.clips import image

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(times):
            shown = number - 1 if number > 2 and number % 2 else number
            frame = image(shown, (64, 48), "yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("settings", [{}, {"steady": 0.5}, {"duplicates": "near"}])
@pytest.mark.parametrize("fail_at", [3, 5])
def test_an_interrupted_segment_is_continued_with_the_same_packets(
    settings, fail_at, slow, tmp_path
):
    source = held(tmp_path / "in.mkv", 12)
    upscale(source, tmp_path / "whole.mkv", Doubling(), **settings)
    with pytest.raises(KeyboardInterrupt):
        upscale(
            source, tmp_path / "out.mkv", Doubling(fail_at=fail_at, error=KeyboardInterrupt()),
            **settings,
        )  # fmt: skip
    second = Doubling()
    report = upscale(source, tmp_path / "out.mkv", second, **settings)
    assert decoded(tmp_path / "out.mkv") == decoded(tmp_path / "whole.mkv")
    assert report.frames == 12 and 0 < report.resumed <= 2 * fail_at
    assert second.runs < 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "out.mkv", "whole.mkv"]


def test_nothing_is_stored_for_a_fast_network(tmp_path):
    source = make(Clip(even(30), size=(16, 16)), tmp_path / "in.mp4")
    with pytest.raises(KeyboardInterrupt):
        upscale(source, tmp_path / "out.mkv", Doubling(fail_at=20, error=KeyboardInterrupt()))
    assert not list(folder_for(tmp_path / "out.mkv").glob("*.npz"))


def test_stored_frames_that_are_damaged_are_computed_again(slow, tmp_path):
    source = make(Clip(even(8), size=(16, 16)), tmp_path / "in.mp4")
    upscale(source, tmp_path / "whole.mkv", Doubling())
    with pytest.raises(KeyboardInterrupt):
        upscale(source, tmp_path / "out.mkv", Doubling(fail_at=6, error=KeyboardInterrupt()))
    stored = sorted(folder_for(tmp_path / "out.mkv").glob("*.npz"))
    assert len(stored) == 6
    stored[2].write_bytes(stored[2].read_bytes()[:-40])
    report = upscale(source, tmp_path / "out.mkv", Doubling())
    assert report.resumed == 1  # of two intact ones, the next frame may depend on the last
    assert decoded(tmp_path / "out.mkv") == decoded(tmp_path / "whole.mkv")


def test_stored_frames_are_discarded_with_the_work(slow, tmp_path):
    source = make(Clip(even(6), size=(16, 16)), tmp_path / "in.mp4")
    with pytest.raises(KeyboardInterrupt):
        upscale(source, tmp_path / "out.mkv", Doubling(fail_at=4, error=KeyboardInterrupt()))
    report = upscale(source, tmp_path / "out.mkv", Doubling(), restart=True)
    assert (report.resumed, report.computed) == (0, 6)


def frame(number, repeats=False):
    noise = np.random.default_rng(0 if repeats else number)
    planes = tuple(noise.integers(0, 1024, shape, np.uint16) for shape in FORMAT.plane_shapes())
    return SavedFrame(VideoFrame(number, planes, repeats), damaged=number == 1)


def store(folder, step, length=120):
    seconds = iter(np.arange(1000) * step)
    return SavedFrames(folder, 0, FORMAT, length, clock=lambda: float(next(seconds)))


def test_frames_are_stored_if_a_segment_takes_more_than_a_minute(tmp_path):
    fast, slow = store(tmp_path, 0.45), store(tmp_path, 0.55)
    for number in range(20):
        fast.add(frame(number))
    assert not list(tmp_path.iterdir())
    for number in range(20):
        slow.add(frame(number))
    assert len(list(tmp_path.iterdir())) == 20
    again = SavedFrames(tmp_path, 0, FORMAT, 120)
    loaded = again.load(range(20))
    assert [each.frame.pts for each in loaded] == list(range(19))
    assert [each.damaged for each in loaded[:3]] == [False, True, False]
    assert np.array_equal(loaded[7].frame.planes[1], frame(7).frame.planes[1])
    again.add(frame(19))
    assert len(list(tmp_path.iterdir())) == 20
    again.discard()
    assert not list(tmp_path.iterdir())


def test_frames_of_other_times_are_not_used(tmp_path):
    slow = store(tmp_path, 10)
    for number in range(4):
        slow.add(frame(number))
    assert [each.frame.pts for each in store(tmp_path, 1).load((0, 1, 3))] == [0]


def test_a_full_disk_ends_the_storing_and_not_the_work(tmp_path, monkeypatch):
    def fail(*_arguments):
        raise OutputError("no space left")

    monkeypatch.setattr(saved_frames, "replace_file", fail)
    slow = store(tmp_path, 10)
    for number in range(4):
        slow.add(frame(number))
    assert not list(tmp_path.iterdir())


def test_a_blend_needs_exact_duplicates():
    from upscale.errors import UsageError

    with pytest.raises(UsageError, match="exclude each other"):
        VideoSettings(steady=0.5, duplicates="near", fps=Fraction(24))
