"""Chromium without a window, as several tests need it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
"""The path of the browser; empty if none is installed."""


def command(profile: Path, *arguments: str) -> list[str]:
    """Return the command line that opens a page in a fresh profile.

    Root may give threads real-time priority, and Chromium does. On few cores they starve the other
    tests until the browser is killed, so that the command drops this right.
    """
    setpriv = shutil.which("setpriv")
    as_root = setpriv is not None and os.getuid() == 0
    return [
        *([str(setpriv), "--bounding-set=-sys_nice"] if as_root else []),
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--hide-scrollbars",
        "--force-color-profile=srgb",
        f"--user-data-dir={profile}",
        *arguments,
    ]
