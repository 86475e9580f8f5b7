"""Drives that break, or run full, while a file is read: never taken for damage of the file."""

from __future__ import annotations

import errno
import io
import tempfile
from pathlib import Path

import numpy as np
import pytest

from upscale.errors import DamagedImageError, ImageError
from upscale.images import Image, encode_file, read_file

FORMATS = ("jpeg", "png", "tiff", "gif", "webp", "bmp")
PIXELS = np.random.default_rng(1).integers(0, 256, (90, 120, 3)).astype(np.uint8)


class Broken(io.FileIO):
    """A file that cannot be read beyond a place."""

    def __init__(self, path: Path, limit: int, code: int) -> None:
        super().__init__(path)
        self._limit, self._code = limit, code

    def readinto(self, buffer: bytearray) -> int:
        room = self._limit - self.tell()
        if room <= 0:
            raise OSError(self._code, "Input/output error")
        return super().readinto(memoryview(buffer)[:room])

    def read(self, size: int = -1) -> bytes:
        data = bytearray(max(self._limit, 1) if size < 0 else size)
        return bytes(data[: self.readinto(data)])

    def readall(self) -> bytes:
        self.read()
        raise OSError(self._code, "Input/output error")


@pytest.mark.parametrize("keep_damaged", [True, False])
@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE])
@pytest.mark.parametrize("format", FORMATS)
def test_file_on_a_broken_drive_is_not_damaged(format, code, keep_damaged, tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(encode_file(Image(PIXELS), format))
    size = path.stat().st_size
    for limit in (size // 3, size - 9):
        monkeypatch.setattr(
            Path, "open", lambda self, *_, n=limit: io.BufferedReader(Broken(self, n, code))
        )
        with pytest.raises(ImageError) as caught:
            read_file(path, keep_damaged=keep_damaged)
        assert not isinstance(caught.value, DamagedImageError)
        assert "a: cannot be read (Input/output error)" in str(caught.value)
        monkeypatch.undo()


def test_file_that_needs_a_temporary_one_is_not_missing(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encode_file(Image(PIXELS), "png"))

    def refuse(*_args: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("imagecodecs.png_decode", refuse)
    assert tempfile.gettempdir()
    with pytest.raises(ImageError, match=r"a\.png: cannot be read \(No usable temporary"):
        read_file(path)
