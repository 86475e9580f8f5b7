"""Losses: what a format cannot store of an image, reported to the user."""

from __future__ import annotations

from upscale.images.encoding import Encoding
from upscale.images.formats import writable_codec
from upscale.images.image import Image
from upscale.images.metadata.icc import is_linear_srgb, is_srgb
from upscale.images.pixels.light import is_scene_light
from upscale.images.stored_metadata import reason_for_srgb, stored_metadata

_DEFAULT = Encoding()


def losses(image: Image, format: str, encoding: Encoding = _DEFAULT) -> tuple[str, ...]:
    """Return what a format loses of an image that it can hold otherwise, one clause each.

    Args:
        image: The image to write.
        format: Name of the output format.
        encoding: Encoding options.

    Raises:
        OutputError: The format cannot be written.
        DependencyError: The encoding needs a package that is not installed.

    Example:
        >>> import numpy as np
        >>> losses(Image(np.zeros((2, 2, 3), np.uint16)), "jpeg")
        ('16-bit samples were rounded to the 8 bits of JPEG',)
    """
    codec, traits = writable_codec(format)
    label, clauses = codec.label, list[str]()
    if image.bits > traits.depth:
        stored = "floating-point" if image.depth == 32 else f"{image.bits}-bit"
        clauses.append(f"{stored} samples were rounded to the {traits.depth} bits of {label}")
    if not traits.lossy and not traits.lossless:
        clauses.append(f"its colours were reduced to the 256 of {label}")
    profile, reason = image.metadata.icc, reason_for_srgb(image, codec)
    keeps_values = traits.is_linear and profile is not None and is_linear_srgb(profile)
    if profile is not None and reason is not None and not (keeps_values or is_srgb(profile)):
        clauses.append(f"its colours were converted to sRGB, {reason}")
    if is_scene_light(image) and traits.depth < 32:
        clauses.append("its linear light was given the curve of sRGB, and cut off at white")
    _, dropped = stored_metadata(image.metadata, codec)
    if dropped:
        clauses.append(f"{label} has no place for its {', '.join(dropped)}")
    if codec.remarks is not None:
        clauses += codec.remarks(image, encoding.for_image(image, codec.name))
    return tuple(clauses)
