"""HTML templates: self-contained pages whose texts are escaped, rendered piece by piece."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, FunctionLoader
from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an image, in a format that browsers support.

    Attributes:
        label: Name that distinguishes it from the other versions.
        content: Content of the image file.
        media_type: Media type of the content, for example `image/png`.
        size: Width and height in pixels after applying the orientation.
        note: Further information, for example the computation time.
    """

    label: str
    content: bytes
    media_type: str
    size: tuple[int, int]
    note: str = ""

    @property
    def base64(self) -> Markup:
        """The content in base64, which needs no escaping."""
        return Markup(base64.b64encode(self.content).decode("ascii"))


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Versions of one image, in the order in which a page offers them."""

    name: str
    versions: tuple[Version, ...]


def read_resource(name: str) -> str:
    """Return the text of a file beside this module."""
    return files("upscale.compare").joinpath(name).read_text(encoding="utf-8")


_ENVIRONMENT = Environment(
    autoescape=True,
    loader=FunctionLoader(read_resource),
    keep_trailing_newline=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(name: str, *, script: str | None = None, **values: object) -> Iterator[bytes]:
    """Yield the pieces of a page in UTF-8; iterators among the values are consumed lazily.

    A Content-Security-Policy allows the page's own style and script, by their hashes, and embedded
    images, and nothing else. Characters that UTF-8 cannot encode, which file names can contain,
    become question marks.

    Args:
        name: Name of the template, `page` or `report`.
        script: JavaScript of the page; None for a page that must not run any.
        values: Variables of the template.
    """
    style = read_resource(f"{name}.css")
    policy = ["default-src 'none'", "img-src data:", f"style-src {source_hash(style)}"]
    if script is not None:
        policy.append(f"script-src {source_hash(script)}")
    pieces = _ENVIRONMENT.get_template(f"{name}.html").generate(
        policy="; ".join([*policy, "base-uri 'none'", "form-action 'none'"]),
        style=Markup(style),
        script=Markup(script or ""),
        **values,
    )
    return (piece.encode("utf-8", "replace") for piece in pieces)


def source_hash(text: str) -> str:
    """Return the source expression that allows an inline style or script in a policy.

    Args:
        text: The style or script, exactly as the page has it.

    Example:
        >>> source_hash("")
        "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
