"""What is lost when an image is written in a format that holds less than it has."""

from __future__ import annotations

from upscale.images.codecs import jpeg
from upscale.images.codecs.formats import traits_of
from upscale.images.image import Image
from upscale.images.metadata import exif
from upscale.images.metadata.icc import is_srgb

_FIELDS = {
    "exif": "EXIF",
    "xmp": "XMP",
    "iptc": "IPTC",
    "dpi": "resolution",
    "comment": "comment",
}


def losses(image: Image, format: str) -> tuple[str, ...]:
    """What a format loses of an image that it can hold in the main, a clause each.

    Raises:
        OutputError: It cannot be written.
    """
    traits, found = traits_of(format), list[str]()
    if image.bits > traits.depth:
        stored = "floating-point" if image.depth == 32 else f"{image.bits}-bit"
        found.append(f"{stored} samples were rounded to the {traits.depth} bits of {traits.label}")
    if not traits.lossy and not traits.lossless:
        found.append(f"its colours were reduced to the 256 of {traits.label}")
    profile = image.metadata.icc
    if profile is not None and "icc" not in traits.carries and not is_srgb(profile):
        found.append(f"its colours were converted to sRGB, as {traits.label} holds no profile")
    if dropped := _dropped(image, format):
        found.append(f"{traits.label} has no place for its {', '.join(dropped)}")
    return tuple(found)


def _dropped(image: Image, format: str) -> list[str]:
    """The names of metadata that is left out."""
    metadata, carries = image.metadata, traits_of(format).carries
    fits = jpeg.holds(metadata) if format == "jpeg" else {}
    kept = {field for field in carries if fits.get(field, True)}
    if "exif" in kept and exif.resolution_of(metadata.exif):
        kept.add("dpi")
    return [
        name
        for field, name in _FIELDS.items()
        if getattr(metadata, field) is not None and field not in kept
    ]
