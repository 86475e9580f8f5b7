"""The page of the app: one document with its own style and script, which loads nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from upscale.compare.templates import source_hash


@dataclass(frozen=True, slots=True)
class Page:
    """The page.

    Attributes:
        content: HTML in UTF-8; the same for everybody, all data comes as JSON.
        policy: Content-Security-Policy, which allows the style and the script by their hashes.
    """

    content: bytes
    policy: str


@cache
def app_page() -> Page:
    """Return the page of the app."""
    style, script = _read("page.css"), _read("page.js")
    html = _read("page.html").replace("{{ style }}", style).replace("{{ script }}", script)
    policy = [
        "default-src 'none'",
        f"script-src {source_hash(script)}",
        f"style-src {source_hash(style)}",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "frame-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return Page(html.encode(), "; ".join(policy))


def _read(name: str) -> str:
    return files("upscale.app").joinpath(name).read_text(encoding="utf-8")
