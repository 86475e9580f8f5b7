"""Name the key of a recipe in errors about the file or folder that it names."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from upscale.errors import UpscaleError
from upscale.files.printable import printable


@contextmanager
def named(keys: Mapping[str, str | Path | None]) -> Generator[None]:
    """Put a key before the message of an error, and say how to set it.

    Args:
        keys: Files and folders by the dotted keys that name them. An error belongs to the file that
            its message begins with, or else to the first one.

    Raises:
        UpscaleError: The error of the block, with the key.

    Example:
        >>> from upscale.errors import TrainingError
        >>> with named({"data.sources.0.path": Path("photos")}):
        ...     raise TrainingError("photos: is no folder")
        Traceback (most recent call last):
        upscale.errors.TrainingError: data.sources.0.path: photos: is no folder \
(--set data.sources.0.path=PATH)
    """
    try:
        yield
    except UpscaleError as error:
        key = _key_of(str(error), keys)
        raise type(error)(f"{key}: {error} (--set {key}=PATH)") from error


def _key_of(message: str, keys: Mapping[str, str | Path | None]) -> str:
    found = {
        key: name
        for key, path in keys.items()
        if path is not None and message.startswith(name := printable(Path(path)))
    }
    return max(found, key=lambda key: len(found[key]), default=next(iter(keys)))
