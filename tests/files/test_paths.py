from __future__ import annotations

from pathlib import Path

import pytest

from upscale.files.paths import expand_user


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert expand_user(Path("~/net.pth")) == tmp_path / "net.pth"
    assert expand_user(Path("net.pth")) == Path("net.pth")


def test_path_of_an_unknown_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", fail)
    assert expand_user(Path("~nouser/net.pth")) == Path("~nouser/net.pth")
