"""Errors of decoders as messages of one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from upscale.errors import DamagedImageError, DependencyError, ImageError
from upscale.files.system_errors import raise_system_error
from upscale.images.codecs.base import MalformedError, UnsupportedError

_T = TypeVar("_T")


def guarded(name: str, work: Callable[[], _T]) -> _T:
    """Run a decoder, and map its exceptions to messages of one line.

    Args:
        name: Name of the file for messages.
        work: The decoder.

    Raises:
        DamagedImageError: The file is damaged or cut off.
        ImageError: The file is of a kind that is not supported, or needs too much memory.
        DependencyError: The decoder needs a package that is not installed.
        OSError: The drive is broken, or another limit of the system is reached.
    """
    try:
        return work()
    except MalformedError as error:
        raise DamagedImageError(f"{name}: {error}; use an undamaged copy") from error
    except UnsupportedError as error:
        raise ImageError(f"{name}: {error}; {error.advice}") from error
    except DependencyError as error:
        raise DependencyError(f"{name}: {error}") from error
    except MemoryError:
        raise ImageError(f"{name}: needs more memory than there is") from None
    except ImportError:
        raise  # the installation is broken, not the file
    except Exception as error:
        raise_system_error(error)  # a broken drive, not a damaged file
        # Decoders raise a dozen kinds of errors, which all mean "damaged" to a user.
        reason = "is cut off" if "truncated" in str(error).lower() else "is damaged"
        raise DamagedImageError(f"{name}: {reason}; use an undamaged copy") from error


def salvaged(name: str, strict: Callable[[], _T], salvage: Callable[[], _T] | None) -> _T:
    """Run a decoder, and where the file is damaged one that reads what it can.

    Args:
        name: Name of the file for messages.
        strict: Decoder of undamaged files.
        salvage: Decoder of damaged files, or None.

    Raises:
        DamagedImageError: Nothing can be read. The message is that of the first decoder.
        ImageError: The file is of a kind that is not supported, or needs too much memory.
        DependencyError: The decoder needs a package that is not installed.
    """
    try:
        return guarded(name, strict)
    except DamagedImageError:
        if salvage is None:
            raise
        try:
            return guarded(name, salvage)
        except (DamagedImageError, DependencyError):
            pass
        raise
