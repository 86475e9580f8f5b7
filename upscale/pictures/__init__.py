"""Pictures, from and to files: pixels, alpha, depth, metadata, frames. No torch here."""

from __future__ import annotations

from upscale.pictures.alpha import extend_colour
from upscale.pictures.encoding import Encoding
from upscale.pictures.formats import (
    SNIFF_BYTES,
    Format,
    can_hold,
    can_write,
    format_named,
    format_of,
    is_picture_name,
    is_spelling,
    kept_depth,
    label_of,
    sniff,
    suffix_of,
)
from upscale.pictures.losses import losses
from upscale.pictures.parts import remove_leftovers
from upscale.pictures.picture import (
    DEFAULT_MAX_PIXELS,
    Frame,
    Metadata,
    Origin,
    Picture,
    Sequence,
    stripped,
)
from upscale.pictures.read import read_file, read_picture, read_size
from upscale.pictures.write import (
    check_encoding,
    encode_file,
    write_file,
)

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "SNIFF_BYTES",
    "Encoding",
    "Format",
    "Frame",
    "Metadata",
    "Origin",
    "Picture",
    "Sequence",
    "can_hold",
    "can_write",
    "check_encoding",
    "encode_file",
    "extend_colour",
    "format_named",
    "format_of",
    "is_picture_name",
    "is_spelling",
    "kept_depth",
    "label_of",
    "losses",
    "read_file",
    "read_picture",
    "read_size",
    "remove_leftovers",
    "sniff",
    "stripped",
    "suffix_of",
    "write_file",
]
