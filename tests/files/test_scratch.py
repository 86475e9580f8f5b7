from __future__ import annotations

import os

import pytest

from upscale.errors import OutputError
from upscale.files.scratch import ScratchFolder


def folders(base):
    (parent,) = base.iterdir()
    return {path for path in parent.iterdir() if path.is_dir()}


def test_folders_of_living_processes_stay_and_others_are_removed(tmp_path):
    living = ScratchFolder("test", tmp_path)
    (living.path / "file").write_bytes(b"1")
    killed = living.path.parent.with_name("killed")
    (killed / "files").mkdir(parents=True)
    (killed / "files" / "left").write_bytes(b"2")
    other = ScratchFolder("test", tmp_path)
    assert folders(tmp_path) == {living.path.parent, other.path.parent}
    assert (living.path / "file").exists() and not list(other.path.iterdir())
    other.remove()
    living.remove()
    assert folders(tmp_path) == set()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions of POSIX")
def test_a_folder_that_others_can_change_is_refused(tmp_path):
    ScratchFolder("test", tmp_path).remove()
    (parent,) = tmp_path.iterdir()
    parent.chmod(0o777)
    with pytest.raises(OutputError, match="can be written by other users"):
        ScratchFolder("test", tmp_path)
