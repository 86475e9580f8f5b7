from __future__ import annotations

import os

import pytest

from upscale.app.workspace import Workspace
from upscale.errors import OutputError


def test_it_is_private_and_deleted_at_the_end(tmp_path):
    workspace = Workspace(tmp_path / "apps")
    (workspace.subfolder("uploads") / "photo.jpg").write_bytes(b"private")
    if os.name != "nt":
        assert workspace.folder.stat().st_mode & 0o077 == 0
    workspace.close()
    assert list((tmp_path / "apps").iterdir()) == []


def test_what_a_killed_server_left_is_deleted_and_a_running_one_is_spared(tmp_path):
    running = Workspace(tmp_path / "apps")
    killed = Workspace(tmp_path / "apps")
    (killed.folder / "photo.jpg").write_bytes(b"private")
    killed._lock.close()  # as the system does when the process dies
    Workspace(tmp_path / "apps").close()
    assert not killed.folder.exists()
    assert running.folder.exists()
    running.close()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_folder_that_others_can_write_to_is_refused(tmp_path):
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps").chmod(0o777)
    with pytest.raises(OutputError, match="other users"):
        Workspace(tmp_path / "apps")
