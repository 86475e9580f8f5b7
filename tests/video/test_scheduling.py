"""SVT-AV1 gives threads of root a real-time priority, which would starve the machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.video.clips import Clip, even, make
from upscale.video.encoders import VideoEncoding, resolve_encoder
from upscale.video.probe import probe
from upscale.video.scheduling import ordinary_priority
from upscale.video.segment_writer import SegmentWriter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such calls")


def threads() -> list[int]:
    return [int(path.name) for path in Path("/proc/self/task").iterdir()]


def policies() -> set[int]:
    return {os.sched_getscheduler(thread) for thread in threads()}


def take_real_time() -> None:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        pytest.skip("this user may not set real-time priorities")


def test_no_thread_is_left_with_real_time_priority_by_an_encoder(tmp_path):
    video = probe(make(Clip(even(3), size=(64, 48)), tmp_path / "in.mkv"))
    encoder = resolve_encoder(video, VideoEncoding("svt-av1"), tmp_path / "out.mkv", (64, 48))
    assert policies() == {os.SCHED_OTHER}
    writer = SegmentWriter(tmp_path / "segment.mkv", encoder)
    try:
        assert len(threads()) > 4  # those of the encoder
        assert policies() == {os.SCHED_OTHER}
    finally:
        writer.abandon()


def test_what_a_block_takes_is_given_back():
    with ordinary_priority():
        take_real_time()
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_what_the_user_chose_before_is_kept():
    take_real_time()
    try:
        with ordinary_priority():
            pass
        assert os.sched_getscheduler(0) == os.SCHED_FIFO
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
