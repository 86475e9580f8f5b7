"""Still images and sequences of them in memory: pixels, alpha, and what travels beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEFAULT_MAX_PIXELS = 500_000_000
"""Width times height above which an image is refused before it is decoded."""

Pixels = NDArray[Any]
"""uint8, uint16, or float32 in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says about its pixels, as the bytes it says it in. None where it says nothing.

    Attributes:
        icc: An ICC profile that fits the pixels.
        exif: An EXIF block that starts with its TIFF header, without the `Exif` prefix of JPEG.
        xmp: An XMP packet.
        dpi: Horizontal and vertical pixels per inch, both above 0.
        iptc: An IPTC-IIM block: captions and keywords of press agencies and archives.
        comment: A remark in plain text.
        cicp: Colour primaries and transfer function by their numbers in ITU-T H.273, where the
            file names them so; an ICC profile outranks them.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    iptc: bytes | None = None
    comment: str | None = None
    cicp: tuple[int, int] | None = None

    @property
    def colour_numbers(self) -> tuple[int, int] | None:
        """`cicp`, where no profile outranks it."""
        return self.cicp if self.icc is None else None


def stripped(metadata: Metadata) -> Metadata:
    """Metadata without what says who made the image, where and with what.

    Colours and resolution stay: without them it would look different.
    """
    return replace(metadata, exif=None, xmp=None, iptc=None, comment=None)


@dataclass(frozen=True, slots=True)
class Origin:
    """How the file that an image was read from had stored it.

    Attributes:
        format: Name of the format, as `jpeg`.
        bits: Bits a sample, where they are fewer than those of the array's type (10 in a uint16).
        quality: Of a JPEG, the least libjpeg quality 1..100 that is as fine.
        lossless: Whether a format that can be either had stored it without loss.
        notes: What was converted or left out while it was read.
    """

    format: str
    bits: int | None = None
    quality: int | None = None
    lossless: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """An image, upright.

    Attributes:
        pixels: (H, W, C), C = 1 (grey) or 3 (RGB), uint8, uint16, or float32 in [0, 1].
        alpha: (H, W) of the same type, not multiplied into the pixels; None when opaque.
        metadata: What travels beside the pixels.
        origin: How its file had stored it.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    metadata: Metadata = field(default_factory=Metadata)
    origin: Origin = field(default_factory=lambda: Origin("png"))

    def __post_init__(self) -> None:
        """Refuse shapes and types that no code after this expects."""
        if self.pixels.ndim != 3 or self.pixels.shape[2] not in (1, 3) or 0 in self.pixels.shape:
            raise ValueError(f"pixels must be (H, W, 1 or 3), not {self.pixels.shape}")
        if self.pixels.dtype.name not in ("uint8", "uint16", "float32"):
            raise ValueError(f"pixels must be uint8, uint16 or float32, not {self.pixels.dtype}")
        if self.alpha is not None and (
            self.alpha.shape != self.pixels.shape[:2] or self.alpha.dtype != self.pixels.dtype
        ):
            raise ValueError("alpha must have the height, width and type of the pixels")

    @property
    def width(self) -> int:
        """Pixels across."""
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        """Pixels down."""
        return self.pixels.shape[0]

    @property
    def depth(self) -> int:
        """Bits a sample of the array: 8, 16 or 32."""
        return self.pixels.dtype.itemsize * 8

    @property
    def bits(self) -> int:
        """Bits a sample that carry something: those of the origin, where it had fewer."""
        return self.origin.bits or self.depth

    def samples(self) -> Pixels:
        """Pixels and alpha as stored together: (H, W, 1 to 4)."""
        return self.pixels if self.alpha is None else np.dstack((self.pixels, self.alpha))


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame of an animation, as the viewer sees it whole, or one page of a document.

    Attributes:
        image: All frames of an animation have one size; pages need not.
        seconds: How long it is shown; None for a page.
    """

    image: Image
    seconds: Fraction | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ImageSequence:
    """An animation, or the pages of a document, read or computed frame by frame.

    Attributes:
        frames: Starts anew from the first frame at each call.
        count: The number of frames.
        plays: How often an animation is shown; 0 is for ever.
        animated: Frames follow each other in time; otherwise they are pages.
        format: The format it was read from.
    """

    frames: Callable[[], Iterator[Frame]]
    count: int
    plays: int
    animated: bool
    format: str
