"""Reading and writing images: pixels, alpha, bit depth, metadata, animations; without torch."""

from __future__ import annotations

from upscale.files.atomic import remove_stale_temporaries
from upscale.images.codecs.registry import SNIFF_BYTES
from upscale.images.conversion_losses import losses
from upscale.images.encoding import Encoding, TextureEncoding
from upscale.images.formats import (
    can_hold,
    can_write,
    first_suffix,
    format_named,
    format_of,
    is_image_name,
    is_lossy,
    is_spelling,
    label_of,
    sniff,
    suffix_of,
)
from upscale.images.image import (
    DEFAULT_MAX_PIXELS,
    Frame,
    Image,
    ImageSequence,
    Metadata,
    Origin,
    stripped,
)
from upscale.images.pixels.alpha import extend_colour
from upscale.images.read import UNNAMED, own_format_reason, read_file, read_image, read_size
from upscale.images.write import (
    check_encoding,
    encode_file,
    write_file,
)

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "SNIFF_BYTES",
    "UNNAMED",
    "Encoding",
    "Frame",
    "Image",
    "ImageSequence",
    "Metadata",
    "Origin",
    "TextureEncoding",
    "can_hold",
    "can_write",
    "check_encoding",
    "encode_file",
    "extend_colour",
    "first_suffix",
    "format_named",
    "format_of",
    "is_image_name",
    "is_lossy",
    "is_spelling",
    "label_of",
    "losses",
    "own_format_reason",
    "read_file",
    "read_image",
    "read_size",
    "remove_stale_temporaries",
    "sniff",
    "stripped",
    "suffix_of",
    "write_file",
]
