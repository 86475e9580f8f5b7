from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from upscale.errors import OutputError
from upscale.images import read_image, write, write_file

NAMES = ["photo.png", "with space.png", "Grüße 图片 🐺.png", "two\nlines.png", "n" * 240 + ".png"]
posix = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")


def refusal(image, target, **options):
    with pytest.raises(OutputError) as caught:
        write_file(image, target, **{"format": "png", **options})
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_any_name_works_and_nothing_else_is_left(noise, tmp_path, name):
    image, target = noise(), tmp_path / name
    write_file(image, target, format="png")
    assert np.array_equal(read_image(target).pixels, image.pixels)
    assert list(tmp_path.iterdir()) == [target]
    assert "exists already" in refusal(image, target)


def test_missing_folders_are_made(noise, tmp_path):
    target = tmp_path / "a" / "b" / "c.png"
    write_file(noise(), target, format="png")
    assert read_image(target).width == 53


def test_relative_targets_work(noise, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_file(noise(), Path("plain.png"), format="png")
    write_file(noise(), Path("plain.png"), format="bmp", overwrite=True)
    assert read_image(tmp_path / "plain.png").origin.format == "bmp"


def test_an_existing_file_is_kept_without_overwrite(noise, tmp_path):
    target = tmp_path / "a.png"
    target.write_bytes(b"precious")
    assert "--overwrite" in refusal(noise(), target)
    assert target.read_bytes() == b"precious" and list(tmp_path.iterdir()) == [target]
    write_file(noise(), target, format="png", overwrite=True)
    assert read_image(target).width == 53 and list(tmp_path.iterdir()) == [target]


def no_links(*_args):
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_kept(noise, tmp_path, monkeypatch, links):
    target = tmp_path / "a.png"
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    real = os.fsync

    def slow(descriptor):
        target.write_bytes(b"precious")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    assert "exists already" in refusal(noise(), target)
    assert target.read_bytes() == b"precious" and list(tmp_path.iterdir()) == [target]


def test_filesystems_without_hard_links_work(noise, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", no_links)
    target = tmp_path / "a.png"
    write_file(noise(), target, format="png")
    assert read_image(target).width == 53 and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_failure_leaves_things_as_they_were(
    noise, tmp_path, monkeypatch, failure, overwrite, step
):
    target = tmp_path / "a.png"
    if overwrite:
        target.write_bytes(b"precious")

    def fail(*_args, **_options):
        raise failure

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(os, "link", no_links)
        monkeypatch.setattr(Path, "replace", fail)
    expected = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else OutputError
    with pytest.raises(expected) as caught:
        write_file(noise(), target, format="png", overwrite=overwrite)
    if expected is OutputError:
        assert "No space left" in str(caught.value) and str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == ([target] if overwrite else [])
    assert not overwrite or target.read_bytes() == b"precious"


@pytest.mark.parametrize("failure", [MemoryError(), OSError("encoder\nerror -2")])
def test_an_encoder_that_fails_touches_nothing(noise, tmp_path, monkeypatch, failure):
    def fail(*_args):
        raise failure

    monkeypatch.setattr(write, "_ENCODERS", {"png": fail})
    assert "a.png" in refusal(noise(), tmp_path / "new" / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_what_a_format_cannot_hold_names_the_file(noise, tmp_path):
    message = refusal(noise(alpha=True), tmp_path / "a.jpg", format="jpeg")
    assert "a.jpg" in message and "transparency" in message
    assert list(tmp_path.iterdir()) == []


def test_targets_that_cannot_be_are_refused(noise, tmp_path):
    (tmp_path / "file").touch()
    assert "folder" in refusal(noise(), tmp_path)
    assert "folder" in refusal(noise(), tmp_path, overwrite=True)
    refusal(noise(), tmp_path / "file" / "a.png")
    refusal(noise(), tmp_path / "file" / "deep" / "a.png", overwrite=True)
    refusal(noise(), tmp_path / ("n" * 300))


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(noise, tmp_path, umask):
    old = os.umask(umask)
    try:
        write_file(noise(), tmp_path / "a.png", format="png")
        (tmp_path / "plain").touch()
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.png", "plain")]
    assert modes == [0o666 & ~umask] * 2


@posix
def test_overwriting_a_link_changes_what_it_points_to(noise, tmp_path):
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "a.png", tmp_path / "link.png"
    real.write_bytes(b"old")
    link.symlink_to(real)
    refusal(noise(), link)
    write_file(noise(), link, format="png", overwrite=True)
    assert link.is_symlink() and read_image(real).width == 53


@posix
def test_a_dangling_link_is_an_existing_name(noise, tmp_path):
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "nowhere.png")
    assert "exists already" in refusal(noise(), link)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_folder_that_cannot_be_written_is_refused(noise):
    assert "cannot be written" in refusal(noise(), Path("/proc/a.png"))
