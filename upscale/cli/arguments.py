"""Checks and changes of the command line before it is parsed."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from upscale.cli.commands import all_commands, find_command
from upscale.errors import UsageError
from upscale.files.printable import printable

HELP_OPTIONS = ("-h", "--help")

_MIN_SIMILARITY = 0.65
"""Ratio of difflib from which a word is taken for a mistyped command."""

_OTHER_NAMES: Mapping[str, str] = {
    "list": "models",
    "info": "models info",
    "download": "models pull",
    "pull": "models pull",
    "check": "doctor",
    "finetune": "train",
    "movie": "video",
    "clip": "video",
    "version": "--version",
    "image": "",
    "photo": "",
    "picture": "",
    "folder": "",
    "batch": "",
}
"""Names that users try instead of a command, with the right one; empty for the default command."""


def is_windows() -> bool:
    """Return whether the shells of this system leave patterns such as `*.jpg` to programs."""
    return os.name == "nt"


def expand_patterns(arguments: Iterable[str]) -> list[str]:
    """Replace patterns by the files that match them; one without a match stays.

    Args:
        arguments: Words of the command line.
    """
    words: list[str] = []
    for word in arguments:
        is_name = word.startswith("-") or not glob.has_magic(word) or os.path.lexists(word)
        matches = [] if is_name else glob.glob(word, recursive=True)  # noqa: PTH207 -- as typed
        words += sorted(matches) or [word]
    return words


def spell_out_help(arguments: Sequence[str]) -> list[str]:
    """Turn `help` and `help COMMAND` into the option `--help`, unless a file has that name."""
    if not arguments or arguments[0] != "help" or os.path.lexists("help"):
        return list(arguments)
    return [*(word for word in arguments[1:] if word != "help"), "--help"]


def check_command_name(word: str) -> None:
    """Check that the first word is not a mistyped command.

    Raises:
        UsageError: It is not a file, but similar to a command.
    """
    is_name = word.replace("-", "").replace("_", "").isalnum()
    if not is_name or word.startswith("-") or os.path.lexists(word) or find_command(word):
        return
    known = {**{name: name for name in all_commands()}, **_OTHER_NAMES, "help": "--help"}
    similar = get_close_matches(word.lower(), known, 1, _MIN_SIMILARITY)
    if not similar:
        return
    command = f"upscale {known[similar[0]]}".rstrip()
    if not known[similar[0]]:
        raise UsageError(f"{word}: no such command or file; images need none: upscale FILE")
    raise UsageError(f"{word}: no such command or file; did you mean `{command}`?")


def check_addresses(arguments: Iterable[str]) -> None:
    """Check that no word is an address; nothing is fetched from the internet.

    Raises:
        UsageError: A word is an address such as `https://example.com/clip.mp4`.
    """
    for word in arguments:
        if word.lower().startswith(("http://", "https://", "ftp://", "file://")):
            name = printable(word)
            raise UsageError(f"{name}: addresses are not fetched; download the file first")
