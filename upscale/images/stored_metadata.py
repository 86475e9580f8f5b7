"""Metadata in the fields that a format has: what has another place moves there."""

from __future__ import annotations

from dataclasses import replace

from upscale.images.codecs.registry import Codec
from upscale.images.image import Image, Metadata
from upscale.images.metadata import exif, photoshop, xmp
from upscale.images.metadata.calibration import is_linear
from upscale.images.metadata.claims import without_headroom
from upscale.images.metadata.texts import in_exif, names

_FIELD_NAMES = {
    "exif": "EXIF",
    "xmp": "XMP",
    "iptc": "IPTC",
    "dpi": "resolution",
    "comment": "comment",
    "modified": "time of modification",
    "density_ratio": "pixel aspect ratio",
}


def reason_for_srgb(image: Image, codec: Codec) -> str | None:
    """Return why the colours of an image become sRGB in a format; None where its profile is kept.

    Args:
        image: The image to write.
        codec: Codec of a format that can be written.
    """
    traits, profile = codec.traits, image.metadata.icc
    assert traits is not None
    if profile is None:
        return None
    if "icc" not in traits.carries:
        return f"as {codec.label} holds no profile"
    if image.pixels.shape[2] == 1 and not traits.grey:
        return f"as {codec.label} holds no profile for greyscale"
    # Only where the gamma of a PNG states it: a profile is the choice of a person.
    if not traits.lossless and is_linear(image.metadata.calibration, profile):
        return f"as {codec.label} loses what is dark in linear light"
    return None


def stored_metadata(metadata: Metadata, codec: Codec) -> tuple[Metadata, list[str]]:
    """Return metadata as a format stores it, and the names of what it has no place for.

    Args:
        metadata: Metadata of an image.
        codec: Codec of a format that can be written.
    """
    assert codec.traits is not None
    kept = set(codec.traits.carries)
    moved, lost = metadata, list[str]()
    if "texts" not in kept:
        moved, lost = _with_texts_in_exif(metadata, codec)
    if "calibration" not in kept:
        lost += _lost_colours(moved)
        moved = replace(moved, calibration=None)
    if "gain_map" not in kept and moved.gain_map is not None:
        lost.append("gain map")
        moved = replace(moved, gain_map=None)
    moved = _with_true_claims(moved)
    if "photoshop" not in kept:
        lost += photoshop.names(moved.photoshop)
        moved = replace(moved, photoshop=())
    if codec.oversized is not None:
        kept -= set(codec.oversized(moved))
    if "exif" in kept and exif.resolution_of(moved.exif):
        kept.add("dpi")
    dropped = [
        name
        for field, name in _FIELD_NAMES.items()
        if getattr(moved, field) is not None and field not in kept
    ]
    return moved, dropped + lost


def _with_texts_in_exif(metadata: Metadata, codec: Codec) -> tuple[Metadata, list[str]]:
    """Move texts and the time of modification to EXIF, as far as that has room and tags."""
    texts, modified = metadata.texts, metadata.modified
    bare = replace(metadata, texts=(), modified=None)
    assert codec.traits is not None
    if "exif" not in codec.traits.carries:
        left_out = names(texts)
        return bare, left_out if modified is None else [*left_out, _FIELD_NAMES["modified"]]

    def fits(block: bytes) -> bool:
        oversized = codec.oversized(replace(bare, exif=block)) if codec.oversized else ()
        return "exif" not in oversized

    block, left_out = in_exif(texts, modified, metadata.exif, fits)
    return replace(bare, exif=block), left_out


def _lost_colours(metadata: Metadata) -> list[str]:
    """Return the names of remarks on colours that no profile replaces."""
    calibration, lost = metadata.calibration, list[str]()
    if calibration is None:
        return lost
    is_replaced = metadata.icc or metadata.cicp or calibration.intent is not None
    if calibration.chromaticities is not None and not is_replaced:
        lost.append("primaries (cHRM)")
    if calibration.mastering_display or calibration.light_level:
        lost.append("HDR mastering data")
    return lost


def _with_true_claims(metadata: Metadata) -> Metadata:
    """Return metadata that announce no other parts of the file than there are."""
    if metadata.gain_map is not None:
        packet = xmp.with_true_claims(metadata.xmp, len(metadata.gain_map.data))
        return replace(metadata, xmp=packet)
    packet = xmp.with_true_claims(metadata.xmp, None)
    return replace(metadata, xmp=packet, exif=without_headroom(metadata.exif))
