from __future__ import annotations

import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.video.clips import KINDS, Clip, even, make, make_kind, number_in
from upscale.errors import MemoryExhaustedError, OutputError, VideoError
from upscale.jobs.video import VideoSettings, plan_video, run_video
from upscale.video.encoders import VideoEncoding
from upscale.video.probe import probe
from upscale.video.reader import read_frames
from upscale.video.segments import folder_for

LOSSLESS = VideoEncoding("ffv1")


class Doubling:
    """Repeat pixels; optionally fail at a frame."""

    device = torch.device("cpu")

    def __init__(
        self,
        fail_at: int | None = None,
        error: BaseException | None = None,
        tile: int = 256,
        kernel: str = "torch",
    ):
        self.runs = 0
        self.tile = tile
        self.kernel = kernel
        self._fail_at, self._error = fail_at, error

    def run_tensor(self, image, *, size=None):
        if self._error is not None and self.runs == self._fail_at:
            raise self._error
        self.runs += 1
        return image.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., : size[1], : size[0]]

    def resolve_kernels(self, record=None):
        self.kernel = (record or {}).get("a card", self.kernel)
        return {**(record or {}), "a card": self.kernel}

    def resolve_tile(self, width, height, tile=None):
        self.tile = self.tile if tile is None else tile
        return self.tile


def doubled(size):
    return size[0] * 2, size[1] * 2


def upscale(source, output, *upscalers, settings=None, identity=None, steps=None):
    settings = settings or VideoSettings(LOSSLESS)
    job = plan_video(source, output, doubled, settings)
    steps = [] if steps is None else steps
    upscalers = upscalers or (Doubling(),)
    return run_video(
        job,
        upscalers,
        identity or {"model": "doubling"},
        lambda *step: steps.append(step),
        [].append,
    )


def shown_in(path):
    """Return the times and numbers of the frames of a `clips` video or its upscaled copy."""
    video = probe(path)
    frames = list(read_frames(video))
    scale = video.colour.full_range, video.planes.depth
    times = [frame.pts * video.time_base for frame in frames]
    return times, [number_in(frame.planes[0], scale[1]) for frame in frames]


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_upscaled_once_at_its_time(kind, tmp_path):
    source, output = make_kind(kind, tmp_path), tmp_path / "out.mkv"
    video = probe(source)
    report = upscale(source, output)
    made = probe(output)
    assert report.frames == len(video.frame_times) and not report.lost
    assert (made.width, made.height) == doubled((video.width, video.height))
    assert made.planes.depth == video.planes.depth
    times, numbers = shown_in(source)
    new_times, new_numbers = shown_in(output)
    assert new_numbers == numbers
    assert all(
        abs(new - old) <= Fraction(1, 2000) for old, new in zip(times, new_times, strict=True)
    )
    assert made.rotation == video.rotation
    assert made.sample_aspect in (video.sample_aspect, video.sample_aspect or 1)
    assert not folder_for(output).exists()


def test_audio_packets_are_copied_exactly(tmp_path):
    source, output = make_kind("cfr", tmp_path), tmp_path / "out.mp4"
    upscale(source, output, settings=VideoSettings(VideoEncoding("x264", crf=0)))
    assert packets(source) == packets(output) != []


def packets(path):
    with av.open(str(path)) as container:
        found = container.demux(audio=0)
        return [bytes(packet) for packet in found if packet.size]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OutputError("no room"), MemoryExhaustedError("tile")]
)
def test_interrupted_run_resumes(error, tmp_path, monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 8)
    source = make_kind("vfr", tmp_path)
    whole, output = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    upscale(source, whole)
    with pytest.raises(type(error)):
        upscale(source, output, Doubling(20, error))
    assert not output.exists() and folder_for(output).is_dir()
    steps = []
    report = upscale(source, output, steps=steps)
    assert report.resumed == 16 and report.computed == 14
    assert steps[0] == (16, 30) and steps[-1] == (30, 30)
    assert decoded(output) == decoded(whole)
    assert not folder_for(output).exists()


def test_run_resumes_after_the_source_disappeared(tmp_path, monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 8)
    source, away = make_kind("vfr", tmp_path), tmp_path / "away.mp4"

    class Vanishing(Doubling):
        def run_tensor(self, image, *, size=None):
            if self.runs == 20:
                source.rename(away)
            return super().run_tensor(image, size=size)

    whole, output = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    upscale(source, whole)
    with pytest.raises(VideoError, match=source.name):
        upscale(source, output, Vanishing())
    assert not output.exists()
    away.rename(source)
    assert upscale(source, output).resumed >= 16
    assert decoded(output) == decoded(whole)


def test_touched_or_copied_source_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 8)
    source, output = make_kind("vfr", tmp_path), tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale(source, output, Doubling(20, KeyboardInterrupt()))
    copy = shutil.copyfile(source, tmp_path / "copy")
    copy.replace(source)
    os.utime(source, (1, 1))
    assert upscale(source, output).resumed == 16


@pytest.mark.parametrize("restores_time", [True, False])
def test_source_that_changes_between_runs_is_noticed(tmp_path, monkeypatch, restores_time):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 8)
    source, output = make_kind("vfr", tmp_path), tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale(source, output, Doubling(20, KeyboardInterrupt()))
    _change_a_frame(source, restores_time=restores_time)
    with pytest.raises(OutputError, match=r"was started with another source content; .*--restart"):
        upscale(source, output)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not record changes of that kind")
def test_source_that_changes_during_the_run_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 8)
    source, output = make_kind("vfr", tmp_path), tmp_path / "out.mkv"

    class Changing(Doubling):
        def run_tensor(self, image, *, size=None):
            if self.runs == 20:
                _change_a_frame(source, restores_time=True)
            return super().run_tensor(image, size=size)

    with pytest.raises(VideoError, match=r"vfr\.mp4: has changed since the run began"):
        upscale(source, output, Changing())
    assert not output.exists()


def test_source_that_changes_after_planning_is_noticed(tmp_path):
    source, output = make_kind("vfr", tmp_path), tmp_path / "out.mkv"
    job = plan_video(source, output, doubled, VideoSettings(LOSSLESS))
    source.write_bytes(source.read_bytes() + b"more")
    with pytest.raises(VideoError, match="has changed since the run began; run the same command"):
        run_video(job, (Doubling(),), {}, lambda *_: None, [].append)
    assert not output.exists()


def _change_a_frame(path: Path, *, restores_time: bool) -> None:
    """Change one byte in the middle of a video, so that its size and its index stay the same."""
    status = path.stat()
    with path.open("rb+") as file:
        file.seek(status.st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    if restores_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def decoded(path):
    video = probe(path)
    return [(f.pts, *(plane.tobytes() for plane in f.planes)) for f in read_frames(video)]


def test_resumed_run_uses_the_pinned_tile(tmp_path):
    source, output = make_kind("vfr", tmp_path), tmp_path / "out.mkv"
    with pytest.raises(MemoryExhaustedError):
        upscale(source, output, Doubling(20, MemoryError(), tile=192))
    others = Doubling(tile=256), Doubling(tile=64)
    upscale(source, output, *others)
    assert [each.tile for each in others] == [192, 192]


def test_resumed_run_uses_the_kernels_that_it_began_with(tmp_path):
    source, output = make_kind("vfr", tmp_path), tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale(source, output, Doubling(20, KeyboardInterrupt(), kernel="two rows"))
    others = Doubling(kernel="torch"), Doubling(kernel="one row")
    upscale(source, output, *others)
    assert [each.kernel for each in others] == ["two rows", "two rows"]


def test_two_devices_share_the_segments(tmp_path, monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 5)
    source = make_kind("bframes", tmp_path)
    alone, shared = tmp_path / "alone.mkv", tmp_path / "shared.mkv"
    upscale(source, alone)
    both = Doubling(), Doubling()
    report = upscale(source, shared, *both)
    assert report.computed == 50 and all(device.runs for device in both)
    assert decoded(shared) == decoded(alone)


def test_segments_of_another_model_are_rejected_unless_restarted(tmp_path):
    source, output = make_kind("one", tmp_path), tmp_path / "out.mkv"
    with pytest.raises(MemoryExhaustedError):
        upscale(source, output, Doubling(0, MemoryError()))
    with pytest.raises(OutputError, match=r"another model.*--restart"):
        upscale(source, output, identity={"model": "other"})
    settings = VideoSettings(LOSSLESS, restart=True)
    assert upscale(source, output, settings=settings, identity={"model": "other"}).frames == 1


def test_selected_part_starts_at_zero(tmp_path):
    source, output = make_kind("cfr", tmp_path), tmp_path / "out.mkv"
    settings = VideoSettings(LOSSLESS, start=Fraction(2, 5), end=Fraction(1), frames=9)
    assert upscale(source, output, settings=settings).frames == 9
    times, numbers = shown_in(output)
    assert numbers == shown_in(source)[1][10:19]
    assert times[0] == 0
    with pytest.raises(VideoError, match="no frame"):
        upscale(source, tmp_path / "b.mkv", settings=VideoSettings(LOSSLESS, start=Fraction(9)))


def test_part_that_starts_later_drops_the_timecode(tmp_path):
    tags = {"timecode": "10:00:00:00"}
    source = make(Clip(even(25), container="mkv", tags=tags), tmp_path / "in.mkv")
    for start, kept, notes in ((0, "10:00:00:00", 0), (Fraction(1, 2), None, 1)):
        output = tmp_path / f"out-{notes}.mkv"
        report = upscale(source, output, settings=VideoSettings(LOSSLESS, start=start, frames=5))
        assert probe(output).timecode == kept
        assert len([note for note in report.notes if "timecode" in note]) == notes


def test_repeated_frames_are_computed_once(tmp_path):
    from dataclasses import replace

    source = make(replace(KINDS["cfr"], sound=False), tmp_path / "still.mp4")
    with av.open(str(source)) as container:
        first = next(container.decode(video=0)).to_ndarray()
    still = tmp_path / "still.mkv"
    with av.open(str(still), "w") as container:
        stream = container.add_stream("ffv1", rate=25, options={})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(first, "yuv420p")))
        container.mux(stream.encode(None))
    report = upscale(still, tmp_path / "out.mkv")
    assert (report.frames, report.computed) == (10, 1)


@pytest.mark.parametrize("name", ["in.mp4", "taken.mkv", "out.jpg", "folder.mkv"])
def test_invalid_outputs_are_rejected_when_planning(name, tmp_path):
    source = make(KINDS["one"], tmp_path / "in.mp4")
    (tmp_path / "taken.mkv").write_bytes(b"precious")
    (tmp_path / "folder.mkv").mkdir()
    before = source.read_bytes()
    with pytest.raises(OutputError):
        plan_video(source, tmp_path / name, doubled, VideoSettings(overwrite=name == "in.mp4"))
    assert source.read_bytes() == before
    assert (tmp_path / "taken.mkv").read_bytes() == b"precious"


@pytest.mark.parametrize("target", ["new/../in.mp4", "link.mkv", "hard.mkv", "folder/in.mp4"])
def test_source_is_never_the_output_under_another_name(target, tmp_path):
    source = make(KINDS["one"], tmp_path / "in.mp4")
    (tmp_path / "folder").symlink_to(tmp_path)
    (tmp_path / "link.mkv").symlink_to(source)
    os.link(source, tmp_path / "hard.mkv")
    before = source.read_bytes()
    with pytest.raises(OutputError, match="is the input itself; choose another output"):
        plan_video(source, tmp_path / target, doubled, VideoSettings(overwrite=True))
    assert source.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="special files of POSIX")
def test_pipes_are_neither_sources_nor_outputs(tmp_path):
    source = make(KINDS["one"], tmp_path / "in.mp4")
    os.mkfifo(tmp_path / "pipe.mkv")
    with pytest.raises(OutputError, match=r"pipe\.mkv: is a named pipe"):
        plan_video(source, tmp_path / "pipe.mkv", doubled, VideoSettings(overwrite=True))
    with pytest.raises(VideoError, match=r"pipe\.mkv: is a named pipe; give a video file"):
        plan_video(tmp_path / "pipe.mkv", tmp_path / "out.mkv", doubled, VideoSettings())


@pytest.mark.parametrize("pinned", [{"tile": -1}, {"tile": 10**30}, {"colour kept": 1}])
def test_stored_options_that_no_run_wrote_are_one_line(pinned, tmp_path):
    source, output = make(KINDS["one"], tmp_path / "in.mp4"), tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale(source, output, Doubling(0, KeyboardInterrupt()))
    manifest = folder_for(output) / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"pinned": content["pinned"] | pinned}))
    with pytest.raises(OutputError, match=r"the stored [\w ]+ is damaged; pass --restart"):
        upscale(source, output)
    assert upscale(source, output, settings=VideoSettings(LOSSLESS, restart=True)).frames == 1


@pytest.mark.parametrize("content", [b"", b"no video", None])
def test_sources_that_are_not_videos_are_rejected(content, tmp_path):
    path = tmp_path / "in.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError) as caught:
        plan_video(path, tmp_path / "out.mkv", doubled, VideoSettings())
    assert "in.mp4" in str(caught.value) and str(caught.value).isprintable()
    assert [each.name for each in tmp_path.iterdir()] == ([] if content is None else ["in.mp4"])


def test_truncated_or_uncheckable_source_is_noted_when_planning(tmp_path):
    def notes(path):
        return plan_video(path, tmp_path / "out.mkv", doubled, VideoSettings()).notes

    whole, stream = tmp_path / "in.mkv", tmp_path / "in.ts"
    make(KINDS["cfr"], whole)
    make(KINDS["cfr"], stream)
    assert not [note for note in notes(whole) if "end" in note]
    assert [note for note in notes(stream) if "cannot be detected" in note]
    for path in (whole, stream):
        path.write_bytes(path.read_bytes()[:-100])
        assert "its end is missing" in notes(path)


def test_size_is_aligned_to_the_chroma_subsampling(tmp_path):
    source = make_kind("cfr", tmp_path)
    job = plan_video(source, Path(tmp_path / "o.mkv"), lambda _: (101, 75), VideoSettings())
    assert (job.encoder.frame_format.width % 2, job.encoder.frame_format.height % 2) == (0, 0)
    assert np.isclose(job.encoder.frame_format.width, 101, atol=1)
