"""A still picture in memory: pixels, alpha, and what travels beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEFAULT_MAX_PIXELS = 500_000_000
"""Width times height above which a picture is refused before it is decoded."""

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
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture, upright.

    Attributes:
        pixels: (H, W, C), C = 1 (grey) or 3 (RGB), uint8, uint16, or float32 in [0, 1].
        alpha: (H, W) of the same type, not multiplied into the pixels; None when opaque.
        metadata: What travels beside the pixels.
        format: The format it was read from: jpeg, png, webp, tiff or bmp.
    """

    pixels: Pixels
    alpha: Pixels | None
    metadata: Metadata
    format: str

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
        """Bits a sample: 8, 16 or 32."""
        return self.pixels.dtype.itemsize * 8

    def samples(self) -> Pixels:
        """Pixels and alpha as stored together: (H, W, 1 to 4)."""
        return self.pixels if self.alpha is None else np.dstack((self.pixels, self.alpha))
