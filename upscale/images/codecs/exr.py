"""OpenEXR: the colour of the first part, through the package OpenEXR.

Values are linear light. Colour is stored multiplied by alpha, and divided by it while it is in
memory.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from upscale.files.printable import printable
from upscale.images.codecs import exr_header
from upscale.images.codecs.base import (
    Header,
    MalformedError,
    Raster,
    UnsupportedError,
    optional_package,
)
from upscale.images.codecs.exr_header import Head
from upscale.images.codecs.native_messages import caught_messages
from upscale.images.codecs.registry import Codec, Traits, register, starts_with
from upscale.images.encoding import ResolvedEncoding
from upscale.images.image import Image, Metadata
from upscale.images.pixels.light import LINEAR, REC_709

_ZIP = 3
_LOSSY = frozenset({5, 6, 7, 8, 9})
_LARGEST_HALF = 65504
_MOST_BITS_OF_HALF = 8
"""Bits per sample of images that half floats hold in linear light."""

_CLOSE = 2e-3

_PRIMARIES = {
    REC_709: (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329),
    9: (0.708, 0.292, 0.17, 0.797, 0.131, 0.046, 0.3127, 0.329),
    12: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329),
}
"""Chromaticities by their numbers in ITU-T H.273."""


@dataclass(frozen=True, slots=True)
class OpenExr:
    """How an OpenEXR file stores its pixels.

    Attributes:
        is_half: Whether samples have 16 bits.
        compression: Number of the compression.
        chromaticities: Coordinates x and y of red, green, blue and white; None for those of Rec.
            709.
    """

    is_half: bool
    compression: int
    chromaticities: tuple[float, ...] | None = None


def read_header(file: BinaryIO) -> Header:
    """Read size, channels and primaries.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: It holds no colours.
    """
    head = exr_header.read(file)
    names = _colours(head)
    kinds = {channel.kind for channel in head.channels if channel.name in names}
    is_half = kinds == {exr_header.HALF}
    return Header(
        head.width,
        head.height,
        metadata=Metadata(cicp=(_number_of(head.chromaticities) or REC_709, LINEAR)),
        notes=tuple(_notes(head, names)),
        storage=OpenExr(is_half, head.compression, head.chromaticities),
    )


def decode(file: BinaryIO) -> Raster:
    """Decode the colour of the first part.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: It holds no colours.
        DependencyError: The package OpenEXR is not installed.
    """
    names = _colours(exr_header.read(file))
    file.seek(0)
    package = _package()
    # The package prints what is damaged, and returns pixels all the same.
    with caught_messages(lambda line: b"EXR_ERR" in line) as messages:
        # A copy, because the package closes the file.
        planes = package.File(io.BytesIO(file.read()), True).channels(0)
    if messages:
        raise MalformedError("is damaged")
    samples = np.dstack([np.asarray(planes[name].pixels, np.float32) for name in names])
    if names[-1] != "A":
        return Raster.of(samples)
    colour, alpha = samples[..., :-1], np.ascontiguousarray(samples[..., -1])
    # Light without opacity, such as a glow, cannot be divided.
    divisor = np.where(alpha > 0, alpha, 1)[..., None]
    lost = (alpha <= 0) & (colour != 0).any(2)
    note = "light where its alpha is 0 was left out"
    return Raster(
        np.ascontiguousarray(colour / divisor), alpha, notes=(note,) if bool(lost.any()) else ()
    )


def encode(image: Image, target: BinaryIO, encoding: ResolvedEncoding) -> None:
    """Encode floats in linear light.

    Samples are half floats if those of the source were, or had 8 bits, and if no value is too
    large.

    Raises:
        DependencyError: The package OpenEXR is not installed.
    """
    del encoding
    package = _package()
    source = image.origin.storage if isinstance(image.origin.storage, OpenExr) else None
    samples = image.pixels
    if image.alpha is not None:
        samples = np.dstack((image.pixels * image.alpha[..., None], image.alpha))
    samples = samples.astype(_kind(image, samples, source))
    names = ("R", "G", "B") if image.pixels.shape[2] == 3 else ("Y",)
    names = names if image.alpha is None else (*names, "A")
    channels = {name: np.ascontiguousarray(samples[..., i]) for i, name in enumerate(names)}
    compression = _ZIP if source is None or source.compression in _LOSSY else source.compression
    header: dict[str, Any] = {
        "compression": package.Compression(compression),
        "type": package.scanlineimage,
        "chromaticities": _chromaticities(image, source),
    }
    content = io.BytesIO()
    package.File(header, channels).write(content)
    target.write(content.getbuffer())


def _kind(image: Image, samples: NDArray[Any], source: OpenExr | None) -> type[np.generic]:
    had_half = source.is_half if source is not None else image.bits <= _MOST_BITS_OF_HALF
    fits = float(np.abs(samples).max()) <= _LARGEST_HALF
    return np.float16 if had_half and fits else np.float32


def _chromaticities(image: Image, source: OpenExr | None) -> tuple[float, ...]:
    if source is not None and source.chromaticities is not None:
        return source.chromaticities
    numbers = image.metadata.colour_numbers or (REC_709, LINEAR)
    return _PRIMARIES.get(numbers[0], _PRIMARIES[REC_709])


def _number_of(chromaticities: tuple[float, ...] | None) -> int | None:
    """Return the number of primaries in ITU-T H.273; None for others."""
    if chromaticities is None:
        return REC_709
    for number, known in _PRIMARIES.items():
        if np.allclose(chromaticities, known, atol=_CLOSE):
            return number
    return None


def _colours(head: Head) -> tuple[str, ...]:
    """Return the names of the channels that are read: colour or grey, and alpha.

    Raises:
        UnsupportedError: There are none.
    """
    usable = {channel.name for channel in head.channels if not channel.is_subsampled}
    if {"R", "G", "B"} <= usable:
        colours: tuple[str, ...] = ("R", "G", "B")
    elif "Y" in usable and not {"RY", "BY"} & {channel.name for channel in head.channels}:
        colours = ("Y",)
    else:
        raise UnsupportedError("has no channels R, G and B, or Y")
    return (*colours, "A") if "A" in usable else colours


def _notes(head: Head, names: tuple[str, ...]) -> list[str]:
    """Return clauses that say what is left out."""
    others = [channel.name for channel in head.channels if channel.name not in names]
    notes: list[str] = []
    if others:
        notes.append(f"its channels {', '.join(map(printable, others))} were left out")
    if head.has_parts:
        notes.append("parts after the first were left out")
    if head.is_windowed:
        notes.append("its display window was left out: all stored pixels are shown")
    if head.attributes:
        notes.append(f"its attributes {', '.join(map(printable, head.attributes))} were left out")
    if _number_of(head.chromaticities) is None:
        notes.append("its primaries are kept in OpenEXR only; elsewhere they count as Rec. 709")
    return notes


def _package() -> Any:  # noqa: ANN401
    return optional_package("OpenEXR", "OpenEXR", "OpenEXR", "hdr")


register(
    Codec(
        name="exr",
        label="OpenEXR",
        suffixes=("exr",),
        sniff=starts_with(exr_header.MAGIC),
        read_header=read_header,
        decode=decode,
        traits=Traits(depth=32, alpha="full", is_linear=True),
        encode=encode,
        rank=22,
    )
)
