"""Still pictures, from and to files: pixels, alpha, depth and metadata. No torch here."""

from __future__ import annotations

from upscale.pictures.alpha import extend_colour
from upscale.pictures.formats import can_hold, format_of, is_picture_name, kept_depth, suffix_of
from upscale.pictures.picture import DEFAULT_MAX_PIXELS, Metadata, Picture
from upscale.pictures.read import read_picture, read_size
from upscale.pictures.write import encode_picture, write_picture

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "Metadata",
    "Picture",
    "can_hold",
    "encode_picture",
    "extend_colour",
    "format_of",
    "is_picture_name",
    "kept_depth",
    "read_picture",
    "read_size",
    "suffix_of",
    "write_picture",
]
