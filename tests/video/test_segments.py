"""Work that is ended at any moment, and taken up again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from tests.video.videos import frames, settle, video
from upscale.errors import OutputError, VideoError
from upscale.video.segment_writer import SegmentWriter
from upscale.video.segments import (
    SEGMENT_FRAMES,
    Work,
    folder_for,
    identity_of_encoder,
    identity_of_source,
    segments,
)

TIMES = tuple(range(0, 512 * 300, 512))
LONG = tuple(range(0, 512 * 1200, 512))
IDENTITY = {"source's content": "abc", "model": "animevideov3", "scale": "2"}
ENCODER = settle(video())


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out.mp4"


def do(work: Work, count: int | None = None, without: tuple[int, ...] = ()) -> None:
    """Do as much of the work as is asked."""
    for segment in work.to_do[:count]:
        times = [time for time in segment.times if time not in without]
        with SegmentWriter(work.path_for(segment), ENCODER) as writer:
            for number, frame_time in zip(_numbers(segment), segment.times, strict=True):
                if frame_time in times:
                    writer.write(next(frames(ENCODER, [frame_time], number)))
        work.finish(segment, times)


def _numbers(segment) -> range:
    first = segment.number * SEGMENT_FRAMES
    return range(first, first + len(segment.times))


def decoded(work: Work) -> list[bytes]:
    """All frames of all parts, as bytes."""
    found = []
    for part in work.parts():
        if part.path is not None:
            with av.open(str(part.path)) as container:
                found += [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]
    return found


def test_a_plan_is_cut_into_segments_of_one_length():
    cut = segments(range(250), 100)
    assert [len(each.times) for each in cut] == [100, 100, 50]
    assert [time for each in cut for time in each.times] == list(range(250))
    assert segments((), 100) == ()


def test_work_lies_in_a_hidden_folder_beside_the_output(output):
    assert folder_for(output) == output.parent / ".out.mp4.upscale"
    long = folder_for(output.with_name("ä" * 125 + ".mp4"))
    assert len(os.fsencode(long.name)) <= 255
    assert long.name.endswith(".upscale")


def test_finished_segments_are_not_done_again(output):
    with Work(output, TIMES, IDENTITY) as work:
        assert len(work.to_do) == 3
        do(work, 1)
        assert [each.number for each in work.to_do] == [1, 2]
    with Work(output, TIMES, IDENTITY) as work:
        assert [each.number for each in work.to_do] == [1, 2]
        do(work)
        parts = work.parts()
    assert [part.times for part in parts] == [each.times for each in segments(TIMES)]
    assert all(part.delay > 0 for part in parts)


def test_segments_may_be_finished_in_any_order(output):
    with Work(output, TIMES, IDENTITY) as work:
        for segment in reversed(work.to_do):
            with SegmentWriter(work.path_for(segment), ENCODER) as writer:
                for frame in frames(ENCODER, segment.times):
                    writer.write(frame)
            work.finish(segment, segment.times)
    with Work(output, TIMES, IDENTITY) as work:
        assert work.to_do == ()
        assert [part.times[0] for part in work.parts()] == [
            each.times[0] for each in segments(TIMES)
        ]


def test_lost_frames_are_remembered(output):
    gone = (*TIMES[3:6], *TIMES[120:240])
    with Work(output, TIMES, IDENTITY) as work:
        do(work, without=gone)
        assert work.lost == gone
    with Work(output, TIMES, IDENTITY) as work:
        assert work.to_do == ()
        assert work.lost == gone
        assert work.parts()[1].path is None
        assert sum(len(part.times) for part in work.parts()) == len(TIMES) - len(gone)


def test_frames_that_are_not_in_the_plan_are_refused(output):
    with Work(output, TIMES, IDENTITY) as work:
        segment = work.to_do[0]
        with pytest.raises(ValueError, match="not in the plan"):
            work.finish(segment, [*segment.times[:-1], segment.times[-1] + 1])


def test_a_segment_that_lacks_frames_is_not_kept(output):
    with Work(output, TIMES, IDENTITY) as work:
        segment = work.to_do[0]
        with SegmentWriter(work.path_for(segment), ENCODER) as writer:
            for frame in frames(ENCODER, segment.times[:-1]):
                writer.write(frame)
        with pytest.raises(OutputError, match="holds 119 of 120 frames"):
            work.finish(segment, segment.times)
        assert len(work.to_do) == 3


@pytest.mark.parametrize(
    "tail", [b'{"segment": 1, "fra', b"\xff\xfe\x00", b"5\n", b'{"segment": "1"}\n']
)
def test_a_torn_last_line_of_the_journal_is_ignored(output, tail):
    with Work(output, TIMES, IDENTITY) as work:
        do(work, 1)
        journal = work.folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + tail)
    with Work(output, TIMES, IDENTITY) as work:
        assert [each.number for each in work.to_do] == [1, 2]
        do(work, 1)
    with Work(output, TIMES, IDENTITY) as work:
        assert [each.number for each in work.to_do] == [2]


def test_a_segment_that_is_not_what_the_journal_says_is_done_again(output):
    with Work(output, TIMES, IDENTITY) as work:
        do(work)
        first, second, third = (part.path for part in work.parts())
    damaged = bytearray(first.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    first.write_bytes(damaged)
    second.unlink()
    third.write_bytes(third.read_bytes()[:-10])
    with Work(output, TIMES, IDENTITY) as work:
        assert len(work.to_do) == 3


@pytest.mark.parametrize("name", list(IDENTITY))
def test_work_of_another_kind_is_refused_until_it_is_thrown_away(output, name):
    with Work(output, TIMES, IDENTITY) as work:
        do(work, 1)
    other = {**IDENTITY, name: "other"}
    with pytest.raises(OutputError) as refusal, Work(output, TIMES, other):
        pass
    assert f"was begun with another {name}; pass --restart" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    with Work(output, TIMES, IDENTITY) as work:
        assert len(work.to_do) == 2
    with Work(output, TIMES, other, restart=True) as work:
        assert len(work.to_do) == 3
        assert not list(work.folder.glob("seg-*"))
    with Work(output, TIMES, other) as work:
        assert len(work.to_do) == 3


def test_another_choice_of_frames_is_another_work(output):
    with Work(output, TIMES, IDENTITY):
        pass
    with (
        pytest.raises(OutputError, match="another choice of frames"),
        Work(output, TIMES[1:], IDENTITY),
    ):
        pass


def test_what_was_settled_stays_until_it_is_settled_anew(output):
    with Work(output, TIMES, IDENTITY) as work:
        assert work.settle("tile", lambda known: 256 if known is None else 1) == 256
    with Work(output, TIMES, IDENTITY) as work:
        assert work.settle("tile", lambda known: known) == 256
        assert work.settle("tile", lambda known: 64) == 64
    with Work(output, TIMES, IDENTITY) as work:
        assert work.settle("tile", lambda known: known) == 64
    with Work(output, TIMES, IDENTITY, restart=True) as work:
        assert work.settle("tile", lambda known: known or 0) == 0


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"identity": 1}', '{"a": "b"}'])
def test_a_manifest_that_says_nothing_is_begun_anew(content, output):
    with Work(output, TIMES, IDENTITY) as work:
        do(work)
        manifest = work.folder / "manifest.json"
    manifest.write_text(content)
    with Work(output, TIMES, IDENTITY) as work:
        assert len(work.to_do) == len(work.segments)


def test_two_runs_do_not_share_a_folder(output):
    with (
        Work(output, TIMES, IDENTITY),
        pytest.raises(OutputError, match="another run is working"),
        Work(output, TIMES, IDENTITY),
    ):
        pass
    with Work(output, TIMES, IDENTITY):
        pass


def test_nothing_is_left_after_success(output):
    with Work(output, TIMES, IDENTITY) as work:
        do(work)
        work.remove()
    assert list(output.parent.iterdir()) == []


def test_files_of_others_are_not_touched(output):
    folder_for(output).mkdir()
    own = folder_for(output) / "diary.txt"
    own.write_text("mine")
    with Work(output, TIMES, IDENTITY, restart=True) as work:
        do(work)
        work.remove()
    assert own.read_text() == "mine"
    assert [path.name for path in folder_for(output).iterdir()] == ["diary.txt"]


def test_a_folder_that_cannot_be_made_is_one_line(output):
    folder_for(output).write_text("a file")
    with pytest.raises(OutputError, match="cannot be used"), Work(output, TIMES, IDENTITY):
        pass


def test_a_source_is_known_by_its_size_time_and_content(tmp_path):
    path = tmp_path / "in.mp4"
    path.write_bytes(bytes(3 << 20))
    before = identity_of_source(path)
    assert identity_of_source(path) == before
    facts = path.stat()
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    after = identity_of_source(path)
    assert {key for key in before if before[key] != after[key]} == {"source's content"}
    with pytest.raises(VideoError, match="cannot be read"):
        identity_of_source(tmp_path / "gone.mp4")


def test_an_encoder_is_known_by_all_that_changes_its_bytes():
    base = identity_of_encoder(ENCODER)
    for asked in ({"crf": 20}, {"preset": "fast"}, {"codec": "x265"}, {"pixel_format": "yuv444p"}):
        assert identity_of_encoder(settle(video(), **asked)) != base
    assert identity_of_encoder(settle(video(), size=(32, 24))) != base
    assert identity_of_encoder(settle(video())) == base


WORKER = """
import sys
sys.path[:0] = [sys.argv[3]]
from tests.video.videos import video, frames, settle
from tests.video.test_segments import IDENTITY, do
from upscale.video.segments import Work
from pathlib import Path
import tests.video.test_segments as own
own.ENCODER = settle(video(), codec=sys.argv[2])
print("ready", flush=True)
with Work(Path(sys.argv[1]), own.LONG, IDENTITY) as work:
    do(work)
print("done", flush=True)
"""


def start(output: Path, codec: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(output), codec, str(Path(__file__).parents[2])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.skipif(os.name == "nt", reason="signals are of another kind there")
@pytest.mark.parametrize("codec", ["x264", "ffv1"])
def test_killed_work_that_is_taken_up_again_has_the_same_frames(codec, tmp_path):
    whole, broken = tmp_path / "whole.mkv", tmp_path / "broken.mkv"
    process = start(whole, codec)
    began = time.monotonic()
    assert "done" in process.communicate()[0]
    lasts = time.monotonic() - began
    chance = random.Random(codec)
    finished = []
    for _ in range(10):
        process = start(broken, codec)
        time.sleep(chance.uniform(0, lasts / 4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        journal = folder_for(broken) / "journal.jsonl"
        finished.append(journal.read_bytes().count(b"\n") if journal.exists() else 0)
    assert any(0 < count < len(segments(LONG)) for count in finished), "no kill came midway"
    assert "done" in start(broken, codec).communicate()[0]
    with Work(whole, LONG, IDENTITY) as first, Work(broken, LONG, IDENTITY) as second:
        assert first.to_do == second.to_do == ()
        ours, theirs = decoded(first), decoded(second)
        assert len(ours) == len(LONG)
        assert ours == theirs
        manifest = json.loads((second.folder / "manifest.json").read_text())
        assert manifest["identity"]["model"] == "animevideov3"


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
"""


@pytest.mark.skipif(os.name == "nt", reason="there are no such limits there")
def test_a_drive_that_is_full_leaves_work_that_can_be_taken_up(tmp_path):
    """A limit on the size of files stands for the full drive: writing fails in the same places."""
    output = tmp_path / "out.mkv"
    with Work(output, LONG, IDENTITY) as work:
        do(work, 1)
        size = (work.folder / "seg-000000.mkv").stat().st_size
    command = [sys.executable, "-c", LIMITED + WORKER, str(output), "x264"]
    command += [str(Path(__file__).parents[2]), str(size // 2)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "OutputError" in run.stderr
    assert "cannot be written" in run.stderr
    with Work(output, LONG, IDENTITY) as work:
        assert [each.number for each in work.to_do] == list(range(1, 10))
        do(work)
        assert len(decoded(work)) == len(LONG)
