"""Images, animations and documents in memory: pixels, alpha and metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscale.images.metadata.fields import Calibration, GainMap, Resource, Text

DEFAULT_MAX_PIXELS = 500_000_000
"""Width times height above which an image is rejected before it is decoded."""

Pixels = NDArray[Any]
"""Array of uint8, uint16, or float32 in 0..1."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata of an image as raw blocks; None where the file has none.

    Attributes:
        icc: ICC profile of the pixels.
        exif: EXIF block from its TIFF header on, without the `Exif` prefix of JPEG.
        xmp: XMP packet.
        dpi: Horizontal and vertical pixels per inch, both above 0.
        iptc: IPTC-IIM block with captions and keywords.
        comment: Comment in plain text.
        cicp: Colour primaries and transfer function by their numbers in ITU-T H.273; an ICC
            profile outranks them.
        texts: Texts by keyword, as in PNG: author, copyright, generation parameters and others.
        modified: Time of the last change in UTC, as in PNG.
        calibration: Gamma, primaries and other remarks on colours, as in PNG; where they differ
            from sRGB and nothing outranks them, `icc` says the same.
        gain_map: Gain map for HDR displays, turned like the image.
        photoshop: Photoshop resources that stay true, such as a copyright flag.
        density_ratio: Pixels per unit across and down, where only their ratio is known and pixels
            are not square.

    Example:
        >>> Metadata(dpi=(300, 300)).dpi
        (300, 300)
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    iptc: bytes | None = None
    comment: str | None = None
    cicp: tuple[int, int] | None = None
    texts: tuple[Text, ...] = ()
    modified: datetime | None = None
    calibration: Calibration | None = None
    gain_map: GainMap | None = None
    photoshop: tuple[Resource, ...] = ()
    density_ratio: tuple[float, float] | None = None

    @property
    def colour_numbers(self) -> tuple[int, int] | None:
        """Value of `cicp`; None where a profile outranks it."""
        return self.cicp if self.icc is None else None


def stripped(metadata: Metadata) -> Metadata:
    """Remove metadata about people, places and equipment; colour and resolution stay.

    Args:
        metadata: Metadata of an image.

    Example:
        >>> stripped(Metadata(comment="At home", dpi=(72, 72))) == Metadata(dpi=(72, 72))
        True
    """
    return Metadata(
        icc=metadata.icc,
        dpi=metadata.dpi,
        cicp=metadata.cicp,
        calibration=metadata.calibration,
        density_ratio=metadata.density_ratio,
    )


@dataclass(frozen=True, slots=True)
class Origin:
    """Properties of the file that an image was read from.

    Attributes:
        format: Name of the format, for example `jpeg`.
        bits: Bits per sample where they are fewer than those of the array's type (10 in uint16).
        quality: Lowest libjpeg quality 1..100 whose quantisation is as fine, or that damages an
            image as much as the file's; JPEG and WebP only.
        lossless: Whether the file was lossless, in a format that can be both.
        notes: Clauses that say what was converted or left out when it was read.
        damage: Clauses that say what is missing, where the file is damaged and was read all the
            same.
        size: Width and height of the upright image in pixels, which positions in the metadata
            refer to; None where there is no file.
        storage: How the pixels were stored, in a type of the format's codec; None if it keeps
            nothing of that.

    Example:
        >>> Origin("jpeg", quality=90).quality
        90
    """

    format: str
    bits: int | None = None
    quality: int | None = None
    lossless: bool = False
    notes: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    storage: object = None


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """An upright image.

    Attributes:
        pixels: Array of shape (H, W, 1) for grey or (H, W, 3) for RGB, uint8, uint16, or float32
            in 0..1.
        alpha: Array of shape (H, W) and the same type, not premultiplied; None when opaque.
        metadata: Metadata of the image.
        origin: Properties of the file that it was read from.

    Raises:
        ValueError: The arrays have another shape or type.

    Example:
        >>> import numpy as np
        >>> image = Image(np.zeros((2, 3, 3), np.uint8))
        >>> image.width, image.height, image.depth
        (3, 2, 8)
    """

    pixels: Pixels
    alpha: Pixels | None = None
    metadata: Metadata = field(default_factory=Metadata)
    origin: Origin = field(default_factory=lambda: Origin("png"))

    def __post_init__(self) -> None:
        """Check shapes and types."""
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
        """Width in pixels."""
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.pixels.shape[0]

    @property
    def depth(self) -> int:
        """Bits per sample of the array: 8, 16 or 32."""
        return self.pixels.dtype.itemsize * 8

    @property
    def bits(self) -> int:
        """Significant bits per sample: those of the origin where it had fewer."""
        return self.origin.bits or self.depth

    def samples(self) -> Pixels:
        """Return pixels and alpha in one array of shape (H, W, 1 to 4)."""
        return self.pixels if self.alpha is None else np.dstack((self.pixels, self.alpha))


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One composed frame of an animation, or one page of a document.

    Attributes:
        image: The image; all frames of an animation have the same size, pages need not.
        seconds: Duration of the frame; None for a page.

    Example:
        >>> import numpy as np
        >>> Frame(Image(np.zeros((2, 2, 3), np.uint8)), Fraction(1, 25)).seconds
        Fraction(1, 25)
    """

    image: Image
    seconds: Fraction | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ImageSequence:
    """An animation or the pages of a document, read or computed frame by frame.

    Attributes:
        frames: Function that yields the frames from the first on, each time it is called.
        count: Number of frames.
        plays: Number of times that an animation is shown; 0 is forever.
        animated: Whether it is an animation; otherwise the frames are pages.
        format: Name of the format that it was read from.
        damage: Clauses that say what is missing, once all frames have been read.

    Example:
        >>> import numpy as np
        >>> black = Frame(Image(np.zeros((2, 2, 3), np.uint8)), Fraction(1, 2))
        >>> blink = ImageSequence(lambda: iter([black, black]), 2, 0, animated=True, format="gif")
        >>> sum(frame.seconds for frame in blink.frames())
        Fraction(1, 1)
    """

    frames: Callable[[], Iterator[Frame]]
    count: int
    plays: int
    animated: bool
    format: str
    damage: tuple[str, ...] = ()
