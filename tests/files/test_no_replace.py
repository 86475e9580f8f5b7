from __future__ import annotations

import pytest

from upscale.files import no_replace
from upscale.files.no_replace import rename_to_free_name


def test_file_gets_a_free_name_and_keeps_its_own_if_the_name_is_taken(tmp_path):
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "taken").write_bytes(b"precious")
    try:
        assert rename_to_free_name(tmp_path / "a", tmp_path / "taken") is False
        pytest.skip("neither the system nor the drive can do this")
    except FileExistsError:
        pass
    assert (tmp_path / "taken").read_bytes() == b"precious"
    assert rename_to_free_name(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"new" and not (tmp_path / "a").exists()
    with pytest.raises(FileNotFoundError):
        rename_to_free_name(tmp_path / "a", tmp_path / "c")


@pytest.mark.skipif(no_replace.os.name == "nt", reason="Windows always can")
def test_system_without_the_call_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(no_replace, "_system_call", lambda: None)
    (tmp_path / "a").touch()
    assert not rename_to_free_name(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").exists()
