from __future__ import annotations

import errno

import pytest
from av.error import err_check

from upscale.errors import OutputError
from upscale.files.system_errors import is_system_error, raise_system_error

NAMES = ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EMFILE", "ENFILE", "EROFS")


@pytest.mark.parametrize("name", [name for name in NAMES if hasattr(errno, name)])
def test_errors_of_python_and_ffmpeg_are_recognised(name):
    code = getattr(errno, name)
    assert is_system_error(OSError(code, "x"))
    with pytest.raises(Exception) as caught:
        err_check(-code)
    assert is_system_error(caught.value)
    try:
        raise OutputError("cannot be written") from caught.value
    except OutputError as error:
        assert is_system_error(error)
        with pytest.raises(OutputError):
            raise_system_error(error)


def test_other_errors_are_not(tmp_path):
    for error in (FileNotFoundError(errno.ENOENT, "x"), ValueError("x"), KeyError("x")):
        assert not is_system_error(error)
        raise_system_error(error)
