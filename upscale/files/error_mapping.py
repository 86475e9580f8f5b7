"""What the operating system says of an input file, in one line."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from upscale.errors import UpscaleError
from upscale.files.printable import printable


@contextmanager
def map_os_errors(
    path: Path,
    kind: type[UpscaleError],
    wanted: str,
    *,
    others: tuple[type[Exception], ...] = (OSError, ValueError),
    told: str = "cannot be read",
) -> Generator[None]:
    """Turn errors about a file into those that a user can act on.

    Args:
        path: The file.
        kind: Raised instead.
        wanted: What the file should be, as "a video".
        others: Errors of no special meaning.
        told: What is said of the file then, before the reason.

    Raises:
        UpscaleError: Of that kind: the file does not exist, is a folder, or cannot be read.
    """
    name = printable(path)
    try:
        yield
    except FileNotFoundError:
        raise kind(f"{name}: does not exist; check the name") from None
    except IsADirectoryError:
        raise kind(f"{name}: is a folder; give {wanted}") from None
    except PermissionError:
        raise kind(f"{name}: cannot be opened; you lack the permission") from None
    except MemoryError:
        raise kind(f"{name}: needs more memory than there is") from None
    except others as error:
        reason = getattr(error, "strerror", None) or error
        raise kind(f"{name}: {told} ({reason}); check the file") from error
