"""Faces of videos: tracked over the borders of segments, also by a run that is resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from upscale.faces.enhancer import FaceEnhancer
from upscale.faces.face import Face
from upscale.jobs.video import VideoSettings, plan_video, run_video, video_record
from upscale.video.encoders import VideoEncoding
from upscale.video.probe import probe
from upscale.video.reader import read_frames
from upscale.video.segments import folder_for

ROOT = Path(__file__).resolve().parents[2]
SIDE, FACE, COUNT, COVERED = 40, 24, 9, (2, 3)
SEGMENT = 3
SHAPE = np.array([(0.3, 0.35), (0.7, 0.35), (0.5, 0.55), (0.35, 0.75), (0.65, 0.75)])


class Same:
    """A network that changes nothing."""

    device = torch.device("cpu")
    tile, kernel = 64, "torch"

    def run_tensor(self, image, *, size=None):
        return image

    def resolve_kernels(self, record=None):
        return {}

    def resolve_tile(self, width, height, tile=None):
        return 64


class Bright:
    """Takes a bright square for a face; its position trembles."""

    def __init__(self):
        self.calls = 0

    def detect(self, pixels):
        self.calls += 1
        rows, columns = np.nonzero(pixels.min(-1) > 150)
        if not len(rows):
            return []
        corner = np.array([columns.min(), rows.min()]) + (self.calls % 3 - 1)
        return [Face((*corner.tolist(), *(corner + FACE).tolist()), corner + SHAPE * FACE, 0.99)]


class Blue:
    def restore(self, face):
        return np.zeros_like(face) + np.array([0, 0, 1], np.float32)


def make_video(path):
    """Write a video of a bright square that moves, and is hidden where segments meet."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv444p"
        for number in range(COUNT):
            frame = np.full((SIDE, SIDE, 3), 60, np.uint8)
            if number not in COVERED:
                frame[8 : 8 + FACE, 4 + number : 4 + number + FACE] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def run(source, output, detector, progress=lambda *_: None):
    settings = VideoSettings(VideoEncoding("ffv1"))
    job = plan_video(source, output, lambda size: size, settings)
    enhancer = FaceEnhancer(detector, Blue())
    report = run_video(
        job, [Same()], {"model": "same"}, progress, [].append, faces=lambda device: enhancer
    )
    return report, video_record(source, output, "same", job, report)


def decoded(path):
    video = probe(path)
    return [(f.pts, *(plane.tobytes() for plane in f.planes)) for f in read_frames(video)]


@pytest.fixture(scope="module", autouse=True)
def short_segments():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("upscale.video.segments.SEGMENT_FRAMES", SEGMENT)
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("faces") / "in.mkv")


@pytest.fixture(scope="module")
def whole(source):
    """The video after a run that was not interrupted, and its record."""
    output = source.with_name("whole.mkv")
    return output, run(source, output, Bright())[1]


def test_the_record_of_a_video_counts_its_faces(whole):
    output, record = whole
    assert record["faces"] == COUNT  # the hidden ones are tracked
    with av.open(str(output)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    hidden = frames[COVERED[1]][20, 4 + COVERED[1] + FACE // 2].astype(int)
    assert hidden[2] > 200 > 60 > hidden[0]


def test_a_video_without_faces_counts_none(source, tmp_path):
    class Blind:
        def detect(self, pixels):
            return []

    assert run(source, tmp_path / "out.mkv", Blind())[1]["faces"] == 0
    settings = VideoSettings(VideoEncoding("ffv1"))
    job = plan_video(source, tmp_path / "plain.mkv", lambda size: size, settings)
    report = run_video(job, [Same()], {"model": "same"}, lambda *_: None, [].append)
    assert video_record(source, job.output, "same", job, report)["faces"] is None


KILLED = """
import os, signal, sys
from pathlib import Path
import upscale.video.segments
from tests.jobs.test_video_faces import SEGMENT, Bright, run

upscale.video.segments.SEGMENT_FRAMES = SEGMENT

def kill(done, total):
    if next(Path(sys.argv[2]).parent.rglob("journal.jsonl"), None) or done == total:
        os.kill(os.getpid(), signal.SIGKILL)

run(Path(sys.argv[1]), Path(sys.argv[2]), Bright(), kill)
"""


@pytest.mark.skipif(os.name == "nt", reason="kills with a signal")
def test_a_killed_video_gets_the_same_faces_when_it_is_resumed(source, whole, tmp_path):
    """Neither the search nor the tracking begins anew: positions are averaged over segments."""
    output = tmp_path / "out.mkv"
    command = [sys.executable, "-c", KILLED, str(source), str(output)]
    killed = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not output.exists() and folder_for(output).is_dir()
    detector = Bright()
    report, record = run(source, output, detector)
    assert 0 < report.resumed < COUNT
    assert record["faces"] == COUNT
    assert detector.calls == 0
    assert decoded(output) == decoded(whole[0])
