"""Images for browsers: the file itself in a supported format, else an 8-bit PNG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from upscale.compare.templates import Version
from upscale.errors import ImageError
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale.images import (
    SNIFF_BYTES,
    Image,
    Metadata,
    encode_file,
    read_image,
    read_size,
    sniff,
)
from upscale.images.pixels.depth import in_depth

_BROWSER_MEDIA_TYPES: Mapping[str, str] = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "avif": "image/avif",
}


def version_of_file(path: Path, label: str) -> Version:
    """Return a file as it is if browsers support its format, else converted to PNG.

    Raises:
        ImageError: The file is not an image, is damaged, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            format = sniff(file.read(SNIFF_BYTES))
        media_type = None if format is None else _BROWSER_MEDIA_TYPES.get(format)
        if media_type is None:
            return version_of_image(read_image(path), label)
        return Version(label, path.read_bytes(), media_type, read_size(path))
    except OSError as error:
        raise ImageError(f"{printable(path)}: cannot be read ({one_line(error)})") from error


def version_of_image(image: Image, label: str, note: str = "") -> Version:
    """Return an image as 8-bit PNG; of the metadata, only the colour space is kept."""
    plain = replace(
        image,
        pixels=in_depth(image.pixels, 8),
        alpha=None if image.alpha is None else in_depth(image.alpha, 8),
        metadata=Metadata(icc=image.metadata.icc, cicp=image.metadata.cicp),
    )
    content = encode_file(plain, "png")
    return Version(label, content, "image/png", (image.width, image.height), note)
