"""What is lost when a picture is written in a format that holds less than it has."""

from __future__ import annotations

from upscale.pictures import exif, jpeg
from upscale.pictures.formats import traits_of
from upscale.pictures.picture import Picture
from upscale.pictures.profiles import is_srgb

_FIELDS = {
    "exif": "EXIF",
    "xmp": "XMP",
    "iptc": "IPTC",
    "dpi": "resolution",
    "comment": "comment",
}


def losses(picture: Picture, format: str) -> tuple[str, ...]:
    """What a format loses of a picture that it can hold in the main, a clause each.

    Raises:
        OutputError: It cannot be written.
    """
    traits, found = traits_of(format), list[str]()
    if picture.bits > traits.depth:
        stored = "floating-point" if picture.depth == 32 else f"{picture.bits}-bit"
        found.append(f"{stored} samples were rounded to the {traits.depth} bits of {traits.label}")
    if not traits.lossy and not traits.lossless:
        found.append(f"its colours were reduced to the 256 of {traits.label}")
    profile = picture.metadata.icc
    if profile is not None and "icc" not in traits.carries and not is_srgb(profile):
        found.append(f"its colours were converted to sRGB, as {traits.label} holds no profile")
    if dropped := _dropped(picture, format):
        found.append(f"{traits.label} has no place for its {', '.join(dropped)}")
    return tuple(found)


def _dropped(picture: Picture, format: str) -> list[str]:
    """The names of metadata that is left out."""
    metadata, carries = picture.metadata, traits_of(format).carries
    fits = jpeg.holds(metadata) if format == "jpeg" else {}
    kept = {field for field in carries if fits.get(field, True)}
    if "exif" in kept and exif.resolution_of(metadata.exif):
        kept.add("dpi")
    return [
        name
        for field, name in _FIELDS.items()
        if getattr(metadata, field) is not None and field not in kept
    ]
