"""Map errors of the system and of libraries to one-line messages."""

from __future__ import annotations

import textwrap
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from upscale.errors import UpscaleError
from upscale.files.printable import printable
from upscale.files.system_errors import is_system_error

_MAX_CHARACTERS = 160


def one_line(error: BaseException) -> str:
    r"""Return the message of an error on one line, without its closing punctuation.

    Args:
        error: Any error; the name of its class is returned where it has no message.

    Example:
        >>> one_line(ValueError("bad header:\n  magic number\n"))
        'bad header: magic number'
    """
    reason = getattr(error, "strerror", None)  # of OSError and FFmpeg, without number and path
    text = reason if isinstance(reason, str) and reason else str(error)
    line = textwrap.shorten(text, _MAX_CHARACTERS, placeholder="…").rstrip(" .:")
    return line or type(error).__name__


@contextmanager
def map_os_errors(
    path: Path,
    kind: type[UpscaleError],
    expected: str,
    *,
    errors: tuple[type[Exception], ...] = (OSError, ValueError),
    problem: str = "cannot be read",
) -> Generator[None]:
    """Raise errors about an input file again as errors that name the file and the remedy.

    Args:
        path: The input file.
        kind: Class of the errors to raise.
        expected: Name of the right kind of file, for example "a video".
        errors: Further errors to map, which have no message of their own.
        problem: Message for those, to which the reason is added.

    Raises:
        UpscaleError: An error of class `kind`.
    """
    name = printable(path)
    try:
        yield
    except FileNotFoundError as error:
        if is_system_error(error):
            raise kind(f"{name}: {problem} ({one_line(error)})") from error
        raise kind(f"{name}: does not exist; check the name") from None
    except IsADirectoryError:
        raise kind(f"{name}: is a folder; give {expected}") from None
    except PermissionError:
        raise kind(f"{name}: permission denied; check the file's permissions") from None
    except MemoryError:
        raise kind(f"{name}: needs more memory than there is; close other programs") from None
    except errors as error:
        raise kind(f"{name}: {problem} ({one_line(error)}); check the file") from error
