from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from upscale.files.regular import NotRegularError, create_anew, open_regular

posix = pytest.mark.skipif(os.name != "posix", reason="special files of POSIX")


def test_regular_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    with open_regular(tmp_path / "a") as file:
        assert file.read() == b"content"
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "missing")


@posix
def test_a_pipe_a_link_and_a_folder_are_refused_without_waiting(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("link", "a symbolic link"), ("pipe", "a named pipe"), ("", "a folder")):
        with pytest.raises(NotRegularError, match=f"is {kind}, not a regular file"):
            open_regular(tmp_path / name)


@posix
def test_a_pipe_that_takes_the_place_of_a_file_does_not_block(tmp_path, monkeypatch):
    (tmp_path / "a").touch()
    regular = (tmp_path / "a").lstat()
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(Path, "lstat", lambda _: regular)
    with pytest.raises(NotRegularError, match="named pipe"):
        open_regular(tmp_path / "pipe")


@posix
def test_file_created_anew_replaces_a_link_and_not_its_target(tmp_path):
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "a").symlink_to(tmp_path / "victim")
    create_anew(tmp_path / "a")
    status = (tmp_path / "a").lstat()
    assert stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) & 0o077 == 0
    assert (tmp_path / "victim").read_bytes() == b"precious"
