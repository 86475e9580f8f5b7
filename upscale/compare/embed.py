"""Pictures as browsers show them: a file's own bytes where they can, else an 8-bit PNG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from upscale.compare.page import Version
from upscale.errors import PictureError
from upscale.pictures import Metadata, Picture, encode_file, read_picture, read_size
from upscale.pictures.depth import in_depth
from upscale.pictures.formats import SNIFF_BYTES, Format, sniff
from upscale.pictures.names import shown
from upscale.pictures.publish import one_line

_SHOWN_BY_BROWSERS: Mapping[Format, str] = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "avif": "image/avif",
}


def version_of_file(path: Path, label: str) -> Version:
    """Return a file as a page shows it: with its own colours, profile and frames where it can.

    Raises:
        PictureError: It is no picture, is damaged, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            kind = sniff(file.read(SNIFF_BYTES))
        media_type = None if kind is None else _SHOWN_BY_BROWSERS.get(kind)
        if media_type is None:
            return version_of_picture(read_picture(path), label)
        return Version(label, path.read_bytes(), media_type, read_size(path))
    except OSError as error:
        raise PictureError(f"{shown(path)}: cannot be read ({one_line(error)})") from error


def version_of_picture(picture: Picture, label: str, note: str = "") -> Version:
    """Return pixels as a page shows them: an 8-bit PNG, of the metadata only with its colours."""
    plain = replace(
        picture,
        pixels=in_depth(picture.pixels, 8),
        alpha=None if picture.alpha is None else in_depth(picture.alpha, 8),
        metadata=Metadata(icc=picture.metadata.icc, cicp=picture.metadata.cicp),
    )
    content = encode_file(plain, "png")
    return Version(label, content, "image/png", (picture.width, picture.height), note)
