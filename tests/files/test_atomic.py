from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from upscale.errors import OutputError
from upscale.files.atomic import (
    check_target_free,
    remove_stale_temporaries,
    replace_file,
    replace_text,
    temporary_file,
    write_atomically,
)

NAMES = ["photo.png", "with space.png", "Grüße 图片 🐺.png", "two\nlines.png", "n" * 240 + ".png"]
posix = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")


def write(target: Path, content: bytes = b"new", *, overwrite: bool = False) -> None:
    write_atomically(target, lambda file: file.write(content), overwrite=overwrite)


def error_of(target: Path, *, overwrite: bool = False) -> str:
    with pytest.raises(OutputError) as caught:
        write(target, overwrite=overwrite)
    assert str(caught.value).isprintable()
    return str(caught.value)


class Recorder:
    """Records the order of write, flush, fsync and rename; each step checks the one before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
        self.steps: list[str] = []
        self._content = content
        self._real_fsync, real_link, real_replace = os.fsync, os.link, Path.replace

        def link(*paths) -> None:
            self.steps.append("rename")
            real_link(*paths)

        def replace(path: Path, target: Path) -> Path:
            self.steps.append("rename")
            return real_replace(path, target)

        monkeypatch.setattr(os, "fsync", self._fsync)
        monkeypatch.setattr(os, "link", link)
        monkeypatch.setattr(Path, "replace", replace)

    def write(self, file) -> None:
        file.write(self._content)
        self.steps.append("write")

    def _fsync(self, descriptor: int) -> None:
        # What is still in Python's buffer is not in the file yet: flush comes before fsync.
        assert os.fstat(descriptor).st_size == len(self._content)
        self.steps.append("fsync")
        self._real_fsync(descriptor)


@pytest.mark.parametrize("overwrite", [True, False])
def test_content_is_on_the_disk_before_the_rename(tmp_path, monkeypatch, overwrite):
    recorder = Recorder(monkeypatch, b"content")
    write_atomically(tmp_path / "a", recorder.write, overwrite=overwrite)
    assert recorder.steps == ["write", "fsync", "rename"]
    assert (tmp_path / "a").read_bytes() == b"content"


def test_replacing_flushes_before_the_rename(tmp_path, monkeypatch):
    recorder = Recorder(monkeypatch, b"content")
    replace_file(tmp_path / "a", recorder.write)
    assert recorder.steps == ["write", "fsync", "rename"]


def test_replaced_text_has_plain_line_ends_and_leaves_no_temporary(tmp_path):
    target = tmp_path / "new" / "facts.json"
    replace_text(target, "old")
    replace_text(target, "Grüße\n")
    assert target.read_bytes() == "Grüße\n".encode()
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_works_and_nothing_else_is_left(tmp_path, name):
    target = tmp_path / name
    write(target)
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]
    assert "exists already" in error_of(target)


def test_missing_folders_are_created(tmp_path):
    target = tmp_path / "a" / "b" / "c.png"
    write(target)
    assert target.read_bytes() == b"new"


def test_relative_targets_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("plain"))
    write(Path("plain"), b"newer", overwrite=True)
    assert (tmp_path / "plain").read_bytes() == b"newer"


def test_existing_file_is_kept_without_overwrite(tmp_path):
    target = tmp_path / "a.png"
    target.write_bytes(b"precious")
    assert "--overwrite" in error_of(target)
    assert target.read_bytes() == b"precious" and list(tmp_path.iterdir()) == [target]
    write(target, overwrite=True)
    assert target.read_bytes() == b"new" and list(tmp_path.iterdir()) == [target]


def no_links(*_args):
    raise OSError(errno.EPERM, "Operation not permitted")


def limit_drive(monkeypatch: pytest.MonkeyPatch, drive: str) -> None:
    """Take hard links, and renaming without replacing, from the drive."""
    if drive != "links":
        monkeypatch.setattr(os, "link", no_links)
    if drive == "neither":
        monkeypatch.setattr("upscale.files.atomic.rename_to_free_name", lambda *_: False)


DRIVES = ["links", "free names", "neither"]


@pytest.mark.parametrize("drive", DRIVES)
def test_file_that_appears_during_the_write_is_kept(tmp_path, monkeypatch, drive):
    target = tmp_path / "a.png"
    limit_drive(monkeypatch, drive)
    real = os.fsync

    def slow(descriptor):
        target.write_bytes(b"precious")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    assert "exists already" in error_of(target)
    assert target.read_bytes() == b"precious" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("drive", DRIVES[1:])
def test_filesystems_without_hard_links_work(tmp_path, monkeypatch, drive):
    limit_drive(monkeypatch, drive)
    target = tmp_path / "a.png"
    write(target)
    assert target.read_bytes() == b"new" and list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
def test_a_kill_during_the_rename_leaves_no_empty_file_without_hard_links(tmp_path):
    script = (
        "import os, signal, sys, upscale.files.atomic as own\n"
        "from pathlib import Path\n"
        "def none(*_): raise OSError(1, 'no links here')\n"
        "os.link = none\n"
        "Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "own.write_atomically(Path(sys.argv[1]), lambda file: file.write(b'new'))\n"
    )
    target = tmp_path / "a.png"
    subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert target.read_bytes() == b"new"


@posix
@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("through_link", [True, False])
@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_special_files_are_not_replaced(kind, through_link, overwrite, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    special = Path("special.png")
    if kind == "fifo":
        os.mkfifo(special)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(special))
    elif os.geteuid() == 0:
        os.mknod(special, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    else:
        pytest.skip("only root makes devices")
    before = special.lstat()
    target = Path("link.png") if through_link else special
    if through_link:
        target.symlink_to(special)
    words = {"fifo": "is a named pipe", "socket": "is a socket", "device": "is a device"}
    assert words[kind] in error_of(target, overwrite=overwrite)
    assert words[kind] in error_of(Path("new") / ".." / target, overwrite=overwrite)
    with pytest.raises(OSError, match=words[kind]):
        replace_file(special, lambda file: file.write(b"new"))
    assert special.lstat() == before


@posix
def test_special_file_that_appears_during_the_write_is_not_replaced(tmp_path):
    target = tmp_path / "a.png"

    def write_late(file) -> None:
        file.write(b"new")
        os.mkfifo(target)

    with pytest.raises(OutputError, match="is a named pipe"):
        write_atomically(target, write_late, overwrite=True)
    assert target.is_fifo()


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_replaced_file_keeps_its_permissions(tmp_path, mode):
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    target.chmod(mode)
    modes = []

    def write_and_look(file) -> None:
        file.write(b"new")
        modes.append(stat.S_IMODE(os.fstat(file.fileno()).st_mode))

    write_atomically(target, write_and_look, overwrite=True)
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert modes[0] & 0o077 == 0, "nobody else can read the unfinished file"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root changes owners")
def test_replaced_file_keeps_its_owner(tmp_path):
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    os.chown(target, 1234, 4321)
    write(target, overwrite=True)
    assert (target.stat().st_uid, target.stat().st_gid) == (1234, 4321)


@posix
def test_a_group_that_cannot_be_kept_is_not_swapped_for_another(tmp_path, monkeypatch):
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    target.chmod(0o664)
    real = os.stat_result

    def refuse(*_args) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)
    status = list(target.lstat())
    status[stat.ST_GID] += 1
    monkeypatch.setattr("upscale.files.atomic._status_of_replaced", lambda _: real(status))
    write(target, overwrite=True)
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_failure_leaves_the_folder_as_it_was(tmp_path, monkeypatch, failure, overwrite, step):
    target = tmp_path / "a.png"
    if overwrite:
        target.write_bytes(b"precious")

    def fail(*_args, **_options):
        raise failure

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        limit_drive(monkeypatch, "neither")
        monkeypatch.setattr(Path, "replace", fail)
    expected = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else OutputError
    with pytest.raises(expected) as caught:
        write(target, overwrite=overwrite)
    if expected is OutputError:
        assert "No space left" in str(caught.value) and str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == ([target] if overwrite else [])
    assert not overwrite or target.read_bytes() == b"precious"


def test_failed_write_removes_the_folders_that_it_created(tmp_path):
    def fail(_file):
        raise MemoryError

    with pytest.raises(MemoryError):
        write_atomically(tmp_path / "new" / "deep" / "a.png", fail)
    assert list(tmp_path.iterdir()) == []


def test_impossible_targets_are_refused(tmp_path):
    (tmp_path / "file").touch()
    assert "folder" in error_of(tmp_path)
    assert "folder" in error_of(tmp_path, overwrite=True)
    error_of(tmp_path / "file" / "a.png")
    error_of(tmp_path / "file" / "deep" / "a.png", overwrite=True)
    error_of(tmp_path / ("n" * 300))


def test_target_is_checked_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    check_target_free(tmp_path / "new", overwrite=False)
    check_target_free(tmp_path / "file", overwrite=True)
    with pytest.raises(OutputError, match="exists already"):
        check_target_free(tmp_path / "file", overwrite=False)


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path, umask):
    old = os.umask(umask)
    try:
        write(tmp_path / "a.png")
        (tmp_path / "plain").touch()
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.png", "plain")]
    assert modes == [0o666 & ~umask] * 2


@posix
def test_overwriting_a_link_replaces_what_it_points_to(tmp_path):
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "a.png", tmp_path / "link.png"
    real.write_bytes(b"old")
    link.symlink_to(real)
    error_of(link)
    write(link, overwrite=True)
    assert link.is_symlink() and real.read_bytes() == b"new"


@posix
def test_dangling_link_is_an_existing_name(tmp_path):
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "nowhere.png")
    assert "exists already" in error_of(link)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_folder_that_cannot_be_written_is_refused():
    assert "cannot be written" in error_of(Path("/proc/a.png"))


@posix
def test_only_temporaries_of_killed_runs_are_removed(tmp_path):
    stale, foreign = tmp_path / ".upscale-0123456789abcdef.part", tmp_path / ".upscale-notes.part"
    for path in (stale, foreign):
        path.touch()
    with temporary_file(tmp_path) as (in_use, _):
        remove_stale_temporaries(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([foreign, in_use])
    assert list(tmp_path.iterdir()) == [foreign]
    remove_stale_temporaries(tmp_path / "missing")


def test_temporary_is_created_anew_when_another_run_removed_it_before_the_lock(
    tmp_path, monkeypatch
):
    removed: list[Path] = []

    def lock_late(file) -> None:
        if not removed:
            removed.append(Path(file.name))
            removed[0].unlink()

    monkeypatch.setattr("upscale.files.atomic.lock", lock_late)
    with temporary_file(tmp_path) as (path, _):
        assert path.exists() and path != removed[0]
