"""Names, suffixes, detection and limits of the registered image formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from upscale.errors import OutputError
from upscale.images.codecs.registry import Codec, Traits, codecs
from upscale.images.pixels.light import LINEAR, REC_709


def format_of(suffix_or_name: str) -> str:
    """Return the writable format of a suffix or file name.

    Args:
        suffix_or_name: A suffix with or without its dot, or a file name, in any case.

    Raises:
        OutputError: No writable format has this suffix.

    Example:
        >>> format_of("photo.JPG")
        'jpeg'
    """
    name = format_named(suffix_or_name)
    if name is None or codecs()[name].traits is None:
        shown = ascii(suffix_or_name)[1:-1]
        choices = ", ".join(writable_traits())
        raise OutputError(f"'{shown}' is not an image format that can be written; use {choices}")
    return name


def format_named(name: str) -> str | None:
    """Return the format of a file name by its suffix; None for other suffixes.

    Args:
        name: A file name or a suffix.

    Example:
        >>> format_named("texture.tga")
        'tga'
    """
    suffix = name.rpartition(".")[2].lower()
    return next(
        (name for name, codec in codecs().items() if suffix in (name, *codec.suffixes)), None
    )


def writable_codec(format: str) -> tuple[Codec, Traits]:
    """Return the codec and the traits of a format that can be written.

    Args:
        format: Name of the format, or a suffix.

    Raises:
        OutputError: The format cannot be written.
    """
    codec = codecs()[format_of(format)]
    assert codec.traits is not None
    return codec, codec.traits


def writable_traits() -> Mapping[str, Traits]:
    """Return the traits of all formats that can be written, by name."""
    return {name: codec.traits for name, codec in codecs().items() if codec.traits is not None}


def suffix_of(format: str) -> str:
    """Return the usual suffix of a writable format, with its dot.

    Args:
        format: Name of the format.

    Raises:
        OutputError: The format cannot be written.

    Example:
        >>> suffix_of("jpeg")
        '.jpg'
    """
    return f".{writable_codec(format)[0].suffixes[0]}"


def first_suffix(format: str) -> str:
    """Return the usual suffix of a format, also of one that is only read, without a dot.

    Args:
        format: Name of the format.

    Example:
        >>> first_suffix("jpeg"), first_suffix("psd")
        ('jpg', 'psd')
    """
    return codecs()[format].suffixes[0]


def can_write(format: str) -> bool:
    """Return whether a format can be written.

    Args:
        format: Name of the format.

    Example:
        >>> can_write("png"), can_write("psd")
        (True, False)
    """
    return format in writable_traits()


def is_lossy(format: str) -> bool:
    """Return whether files of a format have a quality.

    Args:
        format: Name of a format that can be written.

    Raises:
        OutputError: The format cannot be written.

    Example:
        >>> is_lossy("jpeg"), is_lossy("png")
        (True, False)
    """
    return writable_codec(format)[1].lossy


def label_of(format: str) -> str:
    """Return the name of a format for messages.

    Args:
        format: Name of the format.

    Example:
        >>> label_of("jpeg2000")
        'JPEG 2000'
    """
    return codecs()[format].label


def is_spelling(suffix: str, format: str) -> bool:
    """Return whether a suffix is usual for files written in a format.

    Args:
        suffix: The suffix, with or without its dot; `.mpo` is not usual, since such files hold two
            images.
        format: Name of the format.

    Example:
        >>> is_spelling(".jpeg", "jpeg"), is_spelling(".mpo", "jpeg")
        (True, False)
    """
    if format_named(suffix) != format:
        return False
    return suffix.lower().removeprefix(".") not in codecs()[format].foreign_suffixes


def is_image_name(path: Path) -> bool:
    """Return whether a path has a suffix of a format that can be read.

    Args:
        path: The path; the file need not exist.

    Example:
        >>> is_image_name(Path("photo.webp")), is_image_name(Path("notes.txt"))
        (True, False)
    """
    return bool(path.suffix) and format_named(path.suffix) is not None


def sniff(start: bytes) -> str | None:
    r"""Detect the format of a file from its content.

    Args:
        start: The first `SNIFF_BYTES` bytes of the file.

    Example:
        >>> sniff(b"\x89PNG\r\n\x1a\n")
        'png'
    """
    return next(
        (name for name, codec in codecs().items() if codec.sniff and codec.sniff(start)), None
    )


def detect(start: bytes, name: str | None) -> str | None:
    """Detect the format of a file from its content, or by its suffix if nothing else identifies it.

    Args:
        start: The first `SNIFF_BYTES` bytes of the file.
        name: File name, where there is one.
    """
    detected = sniff(start)
    if detected is None and name is not None:
        named = format_named(name)
        return named if named is not None and codecs()[named].sniff is None else None
    return detected


def can_hold(
    format: str,
    *,
    alpha: bool,
    depth: int,
    width: int,
    height: int,
    frames: int = 1,
    animated: bool = False,
    cicp: tuple[int, int] | None = None,
) -> str | None:
    """Return why a format cannot hold an image, in a few words; None when it can.

    A greater depth than the format's is no reason: the samples are rounded (see `losses`).

    Args:
        format: Name of the format.
        alpha: Whether the image has transparency.
        depth: Bits per sample: 8, 16 or 32.
        width: Width in pixels.
        height: Height in pixels.
        frames: Number of frames or pages.
        animated: Whether they are frames of an animation rather than pages.
        cicp: Colour space as in `Metadata.cicp`, where no profile outranks it.

    Raises:
        OutputError: The format cannot be written.

    Example:
        >>> can_hold("jpeg", alpha=True, depth=8, width=640, height=480)
        'JPEG cannot hold transparency'
    """
    codec, traits = writable_codec(format)
    sequence, sequence_name = ("animation", "an animation") if animated else ("pages", "pages")
    reasons = (
        (depth not in (8, 16, 32), f"{depth} bits per sample are not supported"),
        (alpha and traits.alpha == "none", f"{codec.label} cannot hold transparency"),
        (
            max(width, height) > traits.max_side,
            f"{codec.label} is limited to {traits.max_side} px per side",
        ),
        (frames > 1 and traits.frames != sequence, f"{codec.label} cannot hold {sequence_name}"),
        (
            cicp is not None and not _can_name(cicp, depth, traits),
            f"{codec.label} cannot name its colour space (H.273: {cicp})",
        ),
    )
    reason = next((reason for applies, reason in reasons if applies), None)
    return reason or (codec.check_size(width, height) if codec.check_size else None)


def _can_name(cicp: tuple[int, int], depth: int, traits: Traits) -> bool:
    """Return whether a format can state a colour space, or its values can be converted."""
    if "cicp" in traits.carries:
        return True
    is_scene_light = depth == 32 and cicp[1] == LINEAR
    return is_scene_light and (traits.is_linear or cicp[0] == REC_709)
