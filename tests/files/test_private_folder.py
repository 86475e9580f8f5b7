from __future__ import annotations

import os
import stat

import pytest

from upscale.errors import OutputError
from upscale.files import private_folder
from upscale.files.private_folder import check_regular_files, make_private_folder

posix = pytest.mark.skipif(os.name != "posix", reason="owners and permissions of POSIX")
as_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can")


@posix
@pytest.mark.parametrize("umask", [0o002, 0o022, 0])
def test_new_folder_is_for_its_owner_only_whatever_the_umask(tmp_path, umask):
    old = os.umask(umask)
    try:
        make_private_folder(tmp_path / "above" / "own")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "above" / "own").stat().st_mode) == 0o700
    make_private_folder(tmp_path / "above" / "own")
    assert list((tmp_path / "above" / "own").iterdir()) == []


@posix
def test_folder_that_others_cannot_write_to_is_accepted(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own").chmod(0o755)
    make_private_folder(tmp_path / "own")


@posix
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777, 0o702])
def test_folder_that_others_can_write_to_is_refused(tmp_path, mode):
    (tmp_path / "own").mkdir()
    (tmp_path / "own").chmod(mode)
    with pytest.raises(OutputError, match=r"can be written by other users.*remove it"):
        make_private_folder(tmp_path / "own")
    assert list((tmp_path / "own").iterdir()) == []


@posix
def test_drive_without_permissions_is_accepted(tmp_path, monkeypatch):
    """A drive such as exFAT shows the same permissions for every file, whatever is asked for."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own").chmod(0o777)
    real = os.fstat

    def loose(descriptor: int) -> os.stat_result:
        values = list(real(descriptor))
        values[stat.ST_MODE] = stat.S_IFREG | 0o777
        return os.stat_result(values)

    monkeypatch.setattr(private_folder.os, "fstat", loose)
    make_private_folder(tmp_path / "own")


@posix
def test_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OutputError, match="is a link; remove it"):
        make_private_folder(tmp_path / "link")


def test_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="exists and is not a folder"):
        make_private_folder(tmp_path / "file")


@as_root
def test_folder_of_another_user_is_refused(tmp_path):
    (tmp_path / "own").mkdir(mode=0o700)
    os.chown(tmp_path / "own", 65534, 65534)
    with pytest.raises(OutputError, match="belongs to another user"):
        make_private_folder(tmp_path / "own")


@posix
@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_own_names_must_be_regular_files(tmp_path, kind):
    own = tmp_path / "manifest.json"
    if kind == "link":
        own.symlink_to("nowhere")
    elif kind == "fifo":
        os.mkfifo(own)
    else:
        own.mkdir()
    check_regular_files(tmp_path, lambda name: name == "journal.jsonl")
    with pytest.raises(OutputError, match=r"manifest\.json: is a .*remove its folder"):
        check_regular_files(tmp_path, lambda name: name == "manifest.json")
