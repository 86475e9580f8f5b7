"""Segments of a run that is interrupted at any moment, and resumed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests.video.videos import frames, make_encoder, video
from upscale.errors import OutputError
from upscale.video.segment_writer import SegmentWriter
from upscale.video.segments import (
    SEGMENT_FRAMES,
    CorruptFrames,
    SegmentStore,
    folder_for,
    identity_of_encoder,
    split_into_segments,
)

TIMES = tuple(range(0, 512 * 300, 512))
LONG = tuple(range(0, 512 * 1200, 512))
IDENTITY = {"source content": "abc", "model": "animevideov3", "scale": "2"}
ENCODER = make_encoder(video())


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out.mp4"


@pytest.fixture(scope="module")
def one_segment(tmp_path_factory) -> Path:
    """The folder of a run that was interrupted after its first segment."""
    with SegmentStore(tmp_path_factory.mktemp("run") / "out.mp4", TIMES, IDENTITY) as store:
        do(store, 1)
    return store.folder


@pytest.fixture
def interrupted(output, one_segment) -> Path:
    """A copy of that folder for `output`."""
    return shutil.copytree(one_segment, folder_for(output))


def do(store: SegmentStore, count: int | None = None, without: tuple[int, ...] = ()) -> None:
    """Finish pending segments, at most `count` of them, without some frames."""
    for segment in store.pending[:count]:
        times = [time for time in segment.times if time not in without]
        with SegmentWriter(store.path_for(segment), ENCODER) as writer:
            for number, frame_time in zip(_numbers(segment), segment.times, strict=True):
                if frame_time in times:
                    writer.write(next(frames(ENCODER, [frame_time], number)))
        store.finish(segment, times)


def _numbers(segment) -> range:
    first = segment.number * SEGMENT_FRAMES
    return range(first, first + len(segment.times))


def decoded(store: SegmentStore) -> list[bytes]:
    """Return all frames of all segments as bytes."""
    found = []
    for part in store.encoded_segments():
        if part.path is not None:
            with av.open(str(part.path)) as container:
                found += [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]
    return found


def test_times_are_split_into_segments_of_equal_length():
    cut = split_into_segments(range(250))
    assert [len(each.times) for each in cut] == [120, 120, 10]
    assert [time for each in cut for time in each.times] == list(range(250))
    assert split_into_segments(()) == ()


def test_segments_are_stored_in_a_hidden_folder_beside_the_output(output):
    assert folder_for(output) == output.parent / ".out.mp4.upscale"
    long = folder_for(output.with_name("ä" * 125 + ".mp4"))
    assert len(os.fsencode(long.name)) <= 255
    assert long.name.endswith(".upscale")
    assert folder_for(output.with_name("a" * 246)).name == f".{'a' * 246}.upscale"
    assert folder_for(output.with_name("a" * 247)).name != f".{'a' * 247}.upscale"


def test_finished_segments_are_not_pending_again(output):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert len(store.pending) == 3
        do(store, 1)
        assert [each.number for each in store.pending] == [1, 2]
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert [each.number for each in store.pending] == [1, 2]
        do(store)
        parts = store.encoded_segments()
    assert [part.times for part in parts] == [each.times for each in split_into_segments(TIMES)]
    assert all(part.delay > 0 for part in parts)


def test_delay_is_the_least_by_which_decoding_can_run_ahead(output):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        do(store)
        parts = store.encoded_segments()
    for part in parts:
        with av.open(str(part.path)) as container:
            numbers = [packet.pts for packet in container.demux(video=0) if packet.size]
        assert numbers != sorted(numbers), "the encoder reorders frames"
        ahead = [number - (place - part.delay) for place, number in enumerate(numbers)]
        assert min(ahead) == 0


def test_folders_above_the_output_are_created(tmp_path):
    with SegmentStore(tmp_path / "new" / "folder" / "out.mkv", TIMES, IDENTITY) as store:
        assert store.folder == tmp_path / "new" / "folder" / ".out.mkv.upscale"
        assert store.folder.is_dir()


def test_corrupt_frames_are_stored_in_the_order_of_segments(output):
    damaged, resized = {0: TIMES[3:5], 1: TIMES[125:126]}, {0: TIMES[7:8], 1: TIMES[130:132]}
    with SegmentStore(output, TIMES, IDENTITY) as store:
        for segment in reversed(store.pending[:2]):
            with SegmentWriter(store.path_for(segment), ENCODER) as writer:
                for frame in frames(ENCODER, segment.times):
                    writer.write(frame)
            corrupt = CorruptFrames(damaged[segment.number], resized[segment.number])
            store.finish(segment, segment.times, corrupt)
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert store.corrupt_frames == CorruptFrames(
            (*damaged[0], *damaged[1]), (*resized[0], *resized[1])
        )


def test_segments_may_be_finished_in_any_order(output):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        for segment in reversed(store.pending):
            with SegmentWriter(store.path_for(segment), ENCODER) as writer:
                for frame in frames(ENCODER, segment.times):
                    writer.write(frame)
            store.finish(segment, segment.times)
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert store.pending == ()
        assert [part.times[0] for part in store.encoded_segments()] == [
            each.times[0] for each in split_into_segments(TIMES)
        ]


def test_lost_frames_are_stored(output):
    gone = (*TIMES[3:6], *TIMES[120:240])
    with SegmentStore(output, TIMES, IDENTITY) as store:
        do(store, without=gone)
        assert store.lost == gone
        assert not store.path_for(store.segments[1]).exists()
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert store.pending == ()
        assert store.lost == gone
        empty = store.encoded_segments()[1]
        assert (empty.path, empty.times, empty.delay) == (None, (), 0)
        assert sum(len(part.times) for part in store.encoded_segments()) == len(TIMES) - len(gone)


def test_segment_without_frames_needs_no_file(output):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        segment = store.pending[1]
        store.finish(segment, [])
        assert store.lost == segment.times
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert [each.number for each in store.pending] == [0, 2]


def test_journal_has_one_line_for_each_finished_segment(output):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        do(store)
        lines = (store.folder / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["segment"] for line in lines] == [0, 1, 2]


def test_unexpected_frames_are_rejected(output):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        segment = store.pending[0]
        with pytest.raises(ValueError, match="has unexpected frames"):
            store.finish(segment, [*segment.times[:-1], segment.times[-1] + 1])


def test_segment_with_missing_frames_is_not_finished(output):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        segment = store.pending[0]
        with SegmentWriter(store.path_for(segment), ENCODER) as writer:
            for frame in frames(ENCODER, segment.times[:-1]):
                writer.write(frame)
        with pytest.raises(OutputError, match=r"000000\.part: contains 119 of 120 frames; run"):
            store.finish(segment, segment.times)
        assert len(store.pending) == 3


@pytest.mark.parametrize(
    "tail", [b"{", b'{"segment": 1, "fra', b"\xff\xfe\x00", b"5\n", b'{"segment": "1"}\n']
)
def test_incomplete_last_line_of_the_journal_is_ignored(output, tail):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        do(store, 1)
        journal = store.folder / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + tail)
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert [each.number for each in store.pending] == [1, 2]
        do(store, 1)
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert [each.number for each in store.pending] == [2]


def test_segment_that_differs_from_the_journal_is_pending_again(output):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        do(store)
        first, second, third = (part.path for part in store.encoded_segments())
    damaged = bytearray(first.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    first.write_bytes(damaged)
    second.unlink()
    third.write_bytes(third.read_bytes()[:-10])
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert len(store.pending) == 3


@pytest.mark.parametrize(
    ("change", "pending"),
    [
        ({"segment": 99, "lost": [1]}, 3),
        ({"segment": 3}, 3),
        ({"segment": -1, "lost": [1]}, 3),
        ({"frames": 119}, 3),
        ({"first": 1}, 3),
        ({"last": 1}, 3),
        ({"lost": [TIMES[5]]}, 3),
        ({}, 2),
    ],
)
def test_journal_entries_that_do_not_fit_the_segments_are_ignored(change, pending, output):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        do(store, 1)
        journal = store.folder / "journal.jsonl"
    journal.write_text(json.dumps(json.loads(journal.read_text()) | change) + "\n")
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert len(store.pending) == pending
        assert store.lost == ()


@pytest.mark.parametrize(
    "change",
    [
        *({field: value} for field in ("segment", "delay", "frames") for value in (
            None, "1", 1.5, True, -1, 10**30, [], {}, [[1]]
        )),
        *({field: value} for field in ("lost", "damaged", "resized") for value in (
            None, 1, "ab", {}, [None], ["1"], [1.5], [[0]], [-1], [10**30], [TIMES[120]]
        )),
        *({field: value} for field in ("first", "last") for value in ("0", [], 10**30, -1)),
        *({"sha256": value} for value in (None, 1, "", [], "g" * 64)),
    ],
    ids=repr,
)  # fmt: skip
def test_journal_entries_with_wrong_fields_are_ignored(change, output, interrupted):
    journal = interrupted / "journal.jsonl"
    entry = json.loads(journal.read_text())
    journal.write_text(json.dumps(entry | change) + "\n")
    if change == {"delay": 10**30}:
        assert entry["delay"] < entry["frames"]
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert len(store.pending) == 3
        assert store.lost == () and store.corrupt_frames == CorruptFrames()


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"segment": ' + b"9" * 5000 + b"}",
        b'{"a": NaN}',
        b"\0" * 1000,
        b"\xff" * 9,
    ],
    ids=["deep", "digits", "nan", "zeros", "not UTF-8"],
)
@pytest.mark.parametrize("name", ["manifest.json", "journal.jsonl"])
def test_malformed_files_are_ignored(name, content, output, interrupted):
    (interrupted / name).write_bytes(content)
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert len(store.pending) == 3


@pytest.mark.parametrize("identity", [1, [], {"a": 1}, {"a": None}, {"a": []}, None])
def test_manifest_with_wrong_fields_restarts(identity, output, interrupted):
    manifest = interrupted / "manifest.json"
    manifest.write_text(json.dumps({"format": 3, "identity": identity, "pinned": {}}))
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert len(store.pending) == 3


@pytest.mark.parametrize("value", ["64", 1.5, True, [], {}, None])
def test_stored_option_of_another_type_is_one_line(value, output):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        store.pin("tile", int, lambda known: 64)
        manifest = store.folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"pinned": {"tile": value}}))
    with SegmentStore(output, TIMES, IDENTITY) as store:
        with pytest.raises(OutputError) as caught:
            store.pin("tile", int, lambda known: 64)
        advice = "the stored tile is damaged; pass --restart to discard it"
        assert str(caught.value) == f"{store.folder}: {advice}"
    with SegmentStore(output, TIMES, IDENTITY, restart=True) as store:
        assert store.pin("tile", int, lambda known: 32) == 32


SPECIAL = {
    "link": lambda path, victim: path.symlink_to(victim),
    "pipe": lambda path, victim: os.mkfifo(path),
    "folder": lambda path, victim: path.mkdir(),
}
OWN_NAMES = ("lock", "manifest.json", "journal.jsonl", "seg-000000.part", "seg-000000.mkv")


@pytest.mark.skipif(os.name != "posix", reason="special files of POSIX")
@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", [*OWN_NAMES, "mux-test", "mux-test-segment"])
def test_special_files_in_the_folder_are_refused_and_links_not_followed(
    name, kind, output, interrupted
):
    victim = output.parent / "victim"
    victim.write_bytes(b"precious")
    path = interrupted / name
    path.unlink(missing_ok=True)
    SPECIAL[kind](path, victim)
    with pytest.raises(OutputError) as caught, SegmentStore(output, TIMES, IDENTITY, restart=True):
        pass
    assert str(path) in str(caught.value) and "remove its folder" in str(caught.value)
    assert victim.read_bytes() == b"precious"


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_link_that_appears_during_the_run_is_not_followed(output):
    victim = output.parent / "victim"
    victim.write_bytes(b"precious")
    with SegmentStore(output, TIMES, IDENTITY) as store:
        path = store.path_for(store.pending[0])
        path.symlink_to(victim)
        assert store.create(store.pending[0]) == path
        assert path.is_file() and not path.is_symlink()
    assert victim.read_bytes() == b"precious"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_folder_that_others_can_write_to_is_refused(output):
    folder_for(output).mkdir()
    folder_for(output).chmod(0o777)
    with (
        pytest.raises(OutputError, match="can be written by other users"),
        SegmentStore(output, TIMES, IDENTITY, restart=True),
    ):
        pass
    assert list(folder_for(output).iterdir()) == []


@pytest.mark.parametrize("name", list(IDENTITY))
def test_other_identity_is_rejected_unless_restarted(output, name):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        do(store, 1)
    other = {**IDENTITY, name: "other"}
    with pytest.raises(OutputError) as refusal, SegmentStore(output, TIMES, other):
        pass
    assert str(refusal.value).startswith(f"{folder_for(output)}: was started with another {name};")
    assert "; pass --restart to discard it" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert len(store.pending) == 2
    with SegmentStore(output, TIMES, other, restart=True) as store:
        assert len(store.pending) == 3
        assert not list(store.folder.glob("seg-*"))
    with SegmentStore(output, TIMES, other) as store:
        assert len(store.pending) == 3


def test_other_selection_of_frames_is_rejected(output):
    with SegmentStore(output, TIMES, IDENTITY):
        pass
    with (
        pytest.raises(OutputError, match="another selection of frames"),
        SegmentStore(output, TIMES[1:], IDENTITY),
    ):
        pass


def test_pinned_option_is_kept_until_it_is_pinned_again(output):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert store.pin("tile", int, lambda known: 256 if known is None else 1) == 256
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert store.pin("tile", int, lambda known: known) == 256
        assert store.pin("tile", int, lambda known: 64) == 64
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert store.pin("tile", int, lambda known: known) == 64
    with SegmentStore(output, TIMES, IDENTITY, restart=True) as store:
        assert store.pin("tile", int, lambda known: known or 0) == 0


def test_pinning_the_stored_value_again_writes_nothing(output):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        store.pin("tile", int, lambda known: 64)
        manifest = store.folder / "manifest.json"
        manifest.unlink()
        store.pin("tile", int, lambda known: 64)
        assert not manifest.exists()
        store.pin("tile", int, lambda known: 32)
        assert json.loads(manifest.read_text())["pinned"] == {"tile": 32}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"identity": 1}', '{"a": "b"}'])
def test_damaged_manifest_restarts(content, output):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        do(store)
        manifest = store.folder / "manifest.json"
    manifest.write_text(content)
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert len(store.pending) == len(store.segments)


def test_folder_of_another_version_is_rejected_unless_restarted(output):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        do(store, 1)
        manifest = store.folder / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({"identity": content["identity"], "settled": {"tile": 64}}))
    message = "was started by another version of upscale; pass --restart to discard it"
    with pytest.raises(OutputError) as refusal, SegmentStore(output, TIMES, IDENTITY):
        pass
    assert str(refusal.value) == f"{folder_for(output)}: {message}"
    assert (manifest.parent / "seg-000000.mkv").exists()
    with SegmentStore(output, TIMES, IDENTITY, restart=True) as store:
        assert len(store.pending) == 3


def flushed_files(monkeypatch, state: Callable[[], object]) -> list[tuple[int, object]]:
    """Record the inode of each file that is flushed to disk, and a state at that moment."""
    calls: list[tuple[int, object]] = []

    def fsync(descriptor: int, real=os.fsync) -> None:
        calls.append((os.fstat(descriptor).st_ino, state()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return calls


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be flushed there")
def test_segment_is_flushed_before_its_journal_line_and_the_line_before_it_counts(
    output, monkeypatch
):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        segment = store.pending[0]
        with SegmentWriter(store.path_for(segment), ENCODER) as writer:
            for frame in frames(ENCODER, segment.times):
                writer.write(frame)
        data = store.path_for(segment).stat().st_ino
        finished, journal = store.folder / "seg-000000.mkv", store.folder / "journal.jsonl"
        calls = flushed_files(
            monkeypatch,
            lambda: (
                finished.exists(),
                journal.read_bytes().count(b"\n") if journal.exists() else 0,
                len(store.pending),
            ),
        )
        store.finish(segment, segment.times)
        assert calls == [
            (data, (False, 0, 3)),
            (store.folder.stat().st_ino, (True, 0, 3)),
            (journal.stat().st_ino, (True, 1, 3)),
        ]
        assert finished.stat().st_ino == data
        assert len(store.pending) == 2


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be flushed there")
def test_manifest_is_flushed_before_it_appears(output, monkeypatch):
    manifest = folder_for(output) / "manifest.json"
    calls = flushed_files(monkeypatch, manifest.exists)
    with SegmentStore(output, TIMES, IDENTITY) as store:
        assert calls == [
            (manifest.stat().st_ino, False),
            (store.folder.stat().st_ino, True),
        ]


def test_second_run_is_rejected_while_the_first_is_active(output):
    with (
        SegmentStore(output, TIMES, IDENTITY),
        pytest.raises(OutputError, match=r"\.out\.mp4\.upscale: is in use by another run; wait"),
        SegmentStore(output, TIMES, IDENTITY),
    ):
        pass
    with SegmentStore(output, TIMES, IDENTITY):
        pass


def test_remove_deletes_the_folder(output):
    with SegmentStore(output, TIMES, IDENTITY) as store:
        do(store)
        store.remove()
    assert list(output.parent.iterdir()) == []


def test_unknown_files_in_the_folder_are_kept(output):
    folder_for(output).mkdir()
    own = folder_for(output) / "diary.txt"
    own.write_text("mine")
    with SegmentStore(output, TIMES, IDENTITY, restart=True) as store:
        do(store)
        store.remove()
    assert own.read_text() == "mine"
    assert [path.name for path in folder_for(output).iterdir()] == ["diary.txt"]


def test_folder_that_cannot_be_created_is_a_one_line_error(output):
    folder_for(output).write_text("a file")
    with (
        pytest.raises(OutputError, match=r"\.out\.mp4\.upscale: cannot be written \(.*exists"),
        SegmentStore(output, TIMES, IDENTITY),
    ):
        pass


def test_encoder_identity_covers_all_settings():
    base = identity_of_encoder(ENCODER)
    for options in (
        {"crf": 20},
        {"preset": "fast"},
        {"codec": "x265"},
        {"pixel_format": "yuv444p"},
    ):
        assert identity_of_encoder(make_encoder(video(), **options)) != base
    assert identity_of_encoder(make_encoder(video(), size=(32, 24))) != base
    assert identity_of_encoder(make_encoder(video())) == base


def test_encoder_identity_names_each_setting_as_messages_show_it():
    encoder = make_encoder(video(), size=(64, 48), pixel_format="yuv444p")
    assert identity_of_encoder(encoder) == {
        "codec": "libx264",
        "output size": "64x48",
        "pixel format": "yuv444p",
        "encoder options": json.dumps([list(option) for option in encoder.options]),
        "colours": str(encoder.frame_format.colour),
        "pixel aspect ratio": "None",
        "PyAV version": av.__version__,
    }


WORKER = """
import sys
sys.path[:0] = [sys.argv[3]]
from tests.video.videos import video, frames, make_encoder
from tests.video.test_segments import IDENTITY, do
from upscale.video.segments import SegmentStore
from pathlib import Path
import tests.video.test_segments as own
own.ENCODER = make_encoder(video(), codec=sys.argv[2])
print("ready", flush=True)
with SegmentStore(Path(sys.argv[1]), own.LONG, IDENTITY) as store:
    do(store)
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
def test_resumed_run_has_the_same_frames_after_kills(codec, tmp_path):
    # In a folder of its own: work with the same settings would be taken over.
    whole, broken = tmp_path / "whole" / "out.mkv", tmp_path / "broken.mkv"
    whole.parent.mkdir()
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
    assert any(0 < count < len(split_into_segments(LONG)) for count in finished), (
        "no kill came midway"
    )
    assert "done" in start(broken, codec).communicate()[0]
    with (
        SegmentStore(whole, LONG, IDENTITY) as first,
        SegmentStore(broken, LONG, IDENTITY) as second,
    ):
        assert first.pending == second.pending == ()
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
def test_run_resumes_after_a_full_disk(tmp_path):
    """A file size limit simulates the full disk: writing fails in the same places."""
    output = tmp_path / "out.mkv"
    with SegmentStore(output, LONG, IDENTITY) as store:
        do(store, 1)
        size = (store.folder / "seg-000000.mkv").stat().st_size
    command = [sys.executable, "-c", LIMITED + WORKER, str(output), "x264"]
    command += [str(Path(__file__).parents[2]), str(size // 2)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "OutputError" in run.stderr
    assert "cannot be written" in run.stderr
    with SegmentStore(output, LONG, IDENTITY) as store:
        assert [each.number for each in store.pending] == list(range(1, 10))
        do(store)
        assert len(decoded(store)) == len(LONG)
