"""A disk that runs full while the streams of an output are planned.

A limit on the size of files stands for the full disk: writing fails in the same places.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import av.error
import pytest

from tests.video.videos import make_encoder, rich
from upscale.errors import OutputError
from upscale.video import streams
from upscale.video.probe import probe
from upscale.video.streams import plan_streams

if sys.platform == "win32":
    pytest.skip("there are no such limits there", allow_module_level=True)

import resource


@contextmanager
def limited_files(size: int) -> Generator[None]:
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4"])
def test_a_full_disk_never_drops_a_stream(name, tmp_path):
    video = probe(rich(tmp_path))
    encoder = make_encoder(video, name)
    work = tmp_path / "work"
    work.mkdir()
    whole = plan_streams(video, encoder, Path(name), work)
    outcomes: set[str] = set()
    # The last bytes are written when a file is closed, which must be noticed as well.
    for size in (*range(0, 3000, 250), *range(3000, 60_000, 1900)):
        try:
            with limited_files(size):
                found = plan_streams(video, encoder, Path(name), work)
        except OutputError as error:
            assert "cannot be written (File too large)" in str(error)
            assert str(error).isprintable()
            outcomes.add("refused")
            continue
        assert found == whole, f"{size} bytes"
        outcomes.add("planned")
    assert outcomes == {"refused", "planned"}
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EFBIG", "EIO", "EMFILE", "ENFILE", "EROFS"])
def test_errors_of_the_system_are_not_errors_of_the_container(code, tmp_path, monkeypatch):
    video = probe(rich(tmp_path))
    encoder = make_encoder(video, "out.mkv")
    number = getattr(av.error.errno, code)

    class Failing(streams.Muxer):
        def mux(self, packet: object) -> None:
            av.error.err_check(-number)

    monkeypatch.setattr(streams, "Muxer", Failing)
    with pytest.raises(OutputError) as caught:
        plan_streams(video, encoder, Path("out.mkv"), tmp_path)
    assert f"mux-test: cannot be written ({os.strerror(number)}); fix this" in str(caught.value)
