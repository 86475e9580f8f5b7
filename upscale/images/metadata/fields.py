"""Metadata that are more than a block of bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """A text with a keyword.

    Attributes:
        keyword: Keyword such as `Title` or `parameters`.
        text: The text.
        language: Language as in `en-GB`; empty where none is stated.
        translated: Keyword in that language.

    Example:
        >>> Text("Title", "Harbour at dawn").keyword
        'Title'
    """

    keyword: str
    text: str
    language: str = ""
    translated: str = ""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What PNG states of colours beside a profile; profiles and numbers outrank it.

    Attributes:
        gamma: Exponent from light to stored values, in 1/100000: 45455 is 1/2.2.
        chromaticities: Coordinates x and y of white, red, green and blue, in 1/100000.
        intent: Rendering intent of sRGB; None where the file does not say that it is sRGB.
        mastering_display: Content of an mDCV chunk.
        light_level: Content of a cLLI chunk.

    Example:
        >>> Calibration(gamma=100000).gamma
        100000
    """

    gamma: int | None = None
    chromaticities: tuple[int, ...] | None = None
    intent: int | None = None
    mastering_display: bytes | None = None
    light_level: bytes | None = None


@dataclass(frozen=True, slots=True)
class GainMap:
    """A JPEG that says how much brighter each part of the image is on an HDR display.

    Attributes:
        data: The JPEG file, whose metadata say how it is applied.
        announcement: Content of the segment in which the image announces it by ISO 21496-1;
            empty where only XMP does.

    Example:
        >>> GainMap(b"...").announcement
        b''
    """

    data: bytes
    announcement: bytes = b""


@dataclass(frozen=True, slots=True)
class Resource:
    """A Photoshop image resource.

    Attributes:
        number: Number of its kind.
        name: Name as stored; only paths have one.
        data: Content.

    Example:
        >>> Resource(1035, b"", b"https://example.com").number
        1035
    """

    number: int
    name: bytes
    data: bytes
