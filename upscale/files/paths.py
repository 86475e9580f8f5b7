"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path


def expand_user(path: Path) -> Path:
    """Return a path with `~` or `~user` at its start replaced by the home folder.

    Args:
        path: Any path; that of a user who does not exist is returned as it is, as in a shell.

    Example:
        >>> expand_user(Path("~no-such-user/net.pth")).name
        'net.pth'
    """
    try:
        return path.expanduser()
    except RuntimeError:
        return path
