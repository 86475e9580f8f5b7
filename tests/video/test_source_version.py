from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from upscale.errors import VideoError
from upscale.video.source_version import SourceVersion, state_of_source


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "in.mp4"
    path.write_bytes(bytes(3 << 20))
    return path


def version(path: Path) -> SourceVersion:
    return SourceVersion(path, state_of_source(path))


def change(path: Path, place: int) -> None:
    """Change one byte, and restore the size and the times that programs can set."""
    status = path.stat()
    with path.open("rb+") as file:
        file.seek(place)
        file.write(b"x")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_identity_is_the_size_and_the_content(source):
    digest = hashlib.sha256(bytes(3 << 20)).hexdigest()
    assert version(source).identity == {"source size": "3145728", "source content": digest}


@pytest.mark.parametrize("place", [0, 1_500_000, (3 << 20) - 1])
def test_every_byte_counts_and_the_time_does_not(source, place):
    before = version(source).identity
    os.utime(source, (1, 1))
    assert version(source).identity == before
    change(source, place)
    after = version(source).identity
    assert {key for key in before if before[key] != after[key]} == {"source content"}


@pytest.mark.skipif(os.name == "nt", reason="Windows does not record changes of that kind")
@pytest.mark.parametrize("place", [0, 1_500_000])
def test_change_during_the_run_is_noticed(source, place):
    own = version(source)
    own.check()
    change(source, place)
    with pytest.raises(VideoError, match=r"in\.mp4: has changed since the run began.*restart"):
        own.check()


def test_larger_source_is_noticed_and_a_touched_one_is_the_same(source):
    own = version(source)
    os.utime(source, (1, 1))
    own.check()
    with source.open("ab") as file:
        file.write(b"x")
    with pytest.raises(VideoError, match="has changed"):
        own.check()


def test_change_between_planning_and_the_run_is_noticed(source):
    state = state_of_source(source)
    with source.open("ab") as file:
        file.write(b"x")
    with pytest.raises(VideoError, match="has changed since the run began; run the same command"):
        SourceVersion(source, state)


def test_missing_source_is_a_one_line_error(source):
    state = state_of_source(source)
    own = version(source)
    source.unlink()
    own.check()
    for action in (lambda: state_of_source(source), lambda: SourceVersion(source, state)):
        with pytest.raises(VideoError, match=r"in\.mp4: cannot be read \(.*No such file"):
            action()
