"""From sets of images to one HTML page that needs nothing else: no server, no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an image, as a browser shows it.

    Attributes:
        label: What tells it from the other versions.
        content: A file that browsers show as it is.
        media_type: Of the content, as `image/png`.
        size: Width and height of the upright image in pixels.
        note: What else is to be said of it, as the seconds it took.
    """

    label: str
    content: bytes
    media_type: str
    size: tuple[int, int]
    note: str = ""


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Versions of one image, in the order in which they are offered."""

    name: str
    versions: tuple[Version, ...]


def page_parts(title: str, sets: Iterable[ImageSet]) -> Iterator[bytes]:
    """Yield a page in UTF-8, a set at a time: no more than one set has to be in memory.

    The page may run its own script and style and show the images that it carries, nothing else:
    its Content-Security-Policy names the two by their hashes, so that no name of a file, whatever
    it holds, can become code.
    """
    style, script = resource("page.css"), resource("page.js")
    frame = Template(resource("page.html")).substitute(
        policy=escape(_policy(style, script)),
        title=escape(title),
        style=style,
        script=script,
        sets=_PLACE,
    )
    # The title is escaped, so that only the frame itself can hold the mark.
    before, _, after = frame.partition(_PLACE)
    yield encoded(before)
    for one in sets:
        yield from _set_parts(one)
    yield encoded(after)


_PLACE = "<!-- sets -->"


def resource(name: str) -> str:
    """Return a text that lies beside this module."""
    return files("upscale.compare").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """A Content-Security-Policy that allows this style, this script and embedded images."""
    return (
        f"default-src 'none'; img-src data:; style-src {source_hash(style)}; "
        f"script-src {source_hash(script)}; base-uri 'none'; form-action 'none'"
    )


def source_hash(text: str) -> str:
    """Return what a Content-Security-Policy names a style or a script by."""
    digest = hashlib.sha256(encoded(text)).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _set_parts(one: ImageSet) -> Iterator[bytes]:
    yield encoded(f'<section data-name="{escape(one.name)}">\n')
    for version in one.versions:
        width, height = version.size
        yield encoded(
            f'<img alt="{escape(version.label)}" data-note="{escape(version.note)}" '
            f'width="{width}" height="{height}" src="data:{escape(version.media_type)};base64,'
        )
        yield base64.b64encode(version.content)
        yield b'">\n'
    yield b"</section>\n"


def encoded(text: str) -> bytes:
    """UTF-8; halves of characters, which names of files can hold, become question marks."""
    return text.encode("utf-8", "replace")
