from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from tests.jobs.test_video import LOSSLESS, Doubling, decoded, doubled, upscale
from tests.video.clips import make_kind
from upscale.errors import OutputError
from upscale.jobs.video import VideoSettings, plan_video, run_video
from upscale.shards import Shard
from upscale.video import segments
from upscale.video.segments import InUseError, SegmentStore, folder_for

TIMES, IDENTITY = tuple(range(40)), {"model": "net"}


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_FRAMES", 4)


@pytest.fixture
def source(tmp_path):
    return make_kind("vfr", tmp_path)  # 30 frames, so 8 segments


@pytest.fixture
def whole(source, tmp_path):
    upscale(source, tmp_path / "whole.mkv")
    return tmp_path / "whole.mkv"


def part(number, count, *, join=False, **settings):
    return VideoSettings(LOSSLESS, shard=Shard(number, count), join=join, **settings)


def journal_of(output):
    lines = (folder_for(output) / "journal.jsonl").read_text().splitlines()
    return sorted(json.loads(line)["segment"] for line in lines)


@pytest.mark.parametrize("steady", [0.0, 0.5])
def test_shards_one_after_another_give_the_frames_of_one_run(source, tmp_path, steady):
    whole, output = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    upscale(source, whole, settings=VideoSettings(LOSSLESS, steady=steady))
    reports = [
        upscale(source, output, settings=part(number, 3, steady=steady)) for number in (2, 3, 1)
    ]
    assert [report.unfinished for report in reports] == [5, 2, 0]
    assert not any(report.joined for report in reports)
    assert sum(report.frames for report in reports) == 30
    assert journal_of(output) == list(range(8)) and not output.exists()
    report = upscale(source, output, settings=VideoSettings(LOSSLESS, steady=steady))
    assert (report.joined, report.computed, report.resumed) == (True, 0, 30)
    assert decoded(output) == decoded(whole)
    assert not folder_for(output).exists()


@pytest.mark.parametrize("count", [3, 12])
def test_of_shards_at_the_same_time_one_joins(source, whole, tmp_path, count):
    """With 12 shards of 8 segments, some have nothing to do."""
    output, barrier = tmp_path / "out.mkv", Barrier(count)

    class Steps(list):
        def append(self, step):  # first called once the shard is open
            if not self:
                barrier.wait(60)
            super().append(step)

    def run(number):
        settings = part(number, count, join=True)
        return upscale(source, output, settings=settings, steps=Steps())

    with ThreadPoolExecutor(count) as pool:
        reports = list(pool.map(run, range(1, count + 1)))
    assert sum(report.joined for report in reports) == 1
    assert decoded(output) == decoded(whole)
    assert not folder_for(output).exists()


def test_an_interrupted_shard_resumes_and_a_run_without_shard_does_the_rest(
    source, whole, tmp_path
):
    output = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale(source, output, Doubling(9, KeyboardInterrupt()), settings=part(1, 2))
    done = journal_of(output)
    assert done and set(done) < {0, 1, 2, 3}
    report = upscale(source, output, settings=part(1, 2, join=True))
    assert (report.joined, report.unfinished, report.resumed) == (False, 4, 4 * len(done))
    report = upscale(source, output)
    assert report.joined and report.resumed == 16
    assert decoded(output) == decoded(whole)


def test_the_last_shard_joins_and_reports_its_own_work(source, whole, tmp_path):
    output = tmp_path / "out.mkv"
    upscale(source, output, settings=part(2, 2, join=True))
    report = upscale(source, output, settings=part(1, 2, join=True))
    assert (report.joined, report.frames, report.resumed) == (True, 30, 14)
    assert decoded(output) == decoded(whole)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_shard_that_comes_after_the_join_leaves_nothing(source, whole, tmp_path, overwrite):
    """It was planned before, so that it does not know of the output."""
    output = tmp_path / "out.mkv"
    if overwrite:
        output.write_bytes(b"older")
    job = plan_video(source, output, doubled, part(2, 2, join=True, overwrite=overwrite))
    upscale(source, output, settings=VideoSettings(LOSSLESS, overwrite=overwrite))
    device = Doubling()
    report = run_video(job, [device], {"model": "doubling"}, lambda *_: None, lambda _: None)
    assert (report.joined, report.frames, device.runs) == (True, 30, 0)
    assert "another run has joined the video meanwhile" in report.notes
    assert decoded(output) == decoded(whole)
    assert not folder_for(output).exists()


def test_all_shards_use_the_options_that_the_first_one_chose(source, tmp_path):
    output = tmp_path / "out.mkv"
    first, second = Doubling(tile=128, kernel="a"), Doubling(tile=256, kernel="b")
    upscale(source, output, first, settings=part(1, 2))
    upscale(source, output, second, settings=part(2, 2))
    assert (second.tile, second.kernel) == (first.tile, first.kernel) == (128, "a")


def test_shards_with_another_model_are_refused(source, tmp_path):
    output = tmp_path / "out.mkv"
    upscale(source, output, settings=part(1, 2))
    with pytest.raises(OutputError, match="was started with another model"):
        upscale(source, output, settings=part(2, 2), identity={"model": "other"})


def store(output, shard=None):
    return SegmentStore(output, TIMES, IDENTITY, shard=shard)


def test_a_folder_has_one_run_or_shards_of_one_division(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "_PATIENCE", 0.1)
    output = tmp_path / "out.mkv"
    with store(output, Shard(1, 2)), store(output, Shard(2, 2)):
        for other in (Shard(1, 2), Shard(1, 3), None):
            with pytest.raises(InUseError, match=r"is in use by .*; wait"), store(output, other):
                pass
    refused = pytest.raises(InUseError, match="a run without --shard")
    with store(output), refused, store(output, Shard(1, 2)):
        pass
    with store(output, Shard(1, 3)):
        pass


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
@pytest.mark.parametrize("name", ["journal.lock", "shard-1-of-2.lock"])
def test_links_in_place_of_the_locks_are_refused(name, tmp_path):
    output, victim = tmp_path / "out.mkv", tmp_path / "victim"
    with store(output, Shard(1, 2)):
        pass
    path = folder_for(output) / name
    path.unlink()
    path.symlink_to(victim)
    with pytest.raises(OutputError), store(output, Shard(1, 2)):
        pass
    assert not victim.exists()


def test_shares_of_different_sizes_cover_all_segments(tmp_path):
    output = tmp_path / "out.mkv"
    for count in (1, 3, 10, 16):
        numbers = []
        for number in range(1, count + 1):
            with store(output, Shard(number, count)) as each:
                numbers += [segment.number for segment in each.pending]
        assert numbers == list(range(10))
