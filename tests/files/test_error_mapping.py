from __future__ import annotations

from pathlib import Path

import pytest

from upscale.errors import ImageError
from upscale.files.error_mapping import map_os_errors, one_line


def message_of(error: Exception) -> str:
    with (
        pytest.raises(ImageError) as caught,
        map_os_errors(Path("a\nb.png"), ImageError, "an image file"),
    ):
        raise error
    return str(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError(2, "No such file"), "does not exist; check the name"),
        (IsADirectoryError(21, "Is a directory"), "is a folder; give an image file"),
        (PermissionError(13, "Permission denied"), "permission denied"),
        (MemoryError(), "needs more memory"),
        (OSError(5, "Input/output error"), "cannot be read (Input/output error); check the file"),
        (ValueError("bad\nheader."), "cannot be read (bad header); check the file"),
    ],
)
def test_errors_name_the_file_and_the_remedy_on_one_line(error, expected):
    message = message_of(error)
    assert message.startswith("a\\nb.png: ") and expected in message and message.isprintable()


def test_other_errors_pass_through():
    with pytest.raises(KeyError), map_os_errors(Path("a"), ImageError, "an image file"):
        raise KeyError("bug")


def test_one_line_shortens_long_messages_and_names_the_class_of_empty_ones():
    assert one_line(RuntimeError()) == "RuntimeError"
    assert one_line(OSError(28, "No space left on device")) == "No space left on device"
    line = one_line(ValueError("word " * 100))
    assert len(line) <= 160 and line.endswith("word…")
