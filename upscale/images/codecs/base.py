"""What the decoders of the single formats hand to `read`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from upscale.images.image import Metadata, Pixels


class MalformedError(ValueError):
    """The content cannot be read; the message completes '<file> ...'."""


class UnsupportedError(ValueError):
    """The content is whole but of a kind that is not read; the message completes '<file> ...'."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known before any pixel is decoded.

    Attributes:
        width: Pixels across, as stored.
        height: Pixels down, as stored.
        orientation: EXIF orientation 1..8, how to turn the stored pixels upright.
        frames: Frames of an animation or pages of a document.
        plays: How often an animation is shown; 0 is for ever.
        metadata: As stored.
        bits: Bits a sample, where they are fewer than those of the decoded array's type.
        quality: Of a JPEG, the least libjpeg quality 1..100 that is as fine.
        lossless: Whether a format that can be either stores it without loss.
        notes: What reading leaves out.
    """

    width: int
    height: int
    orientation: int = 1
    frames: int = 1
    plays: int = 1
    metadata: Metadata = field(default_factory=Metadata)
    bits: int | None = None
    quality: int | None = None
    lossless: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Raster:
    """Decoded samples, not yet upright.

    Attributes:
        pixels: (H, W, 1 or 3), uint8, uint16 or float32.
        alpha: (H, W) of the same type, or None.
        keeps_profile: False when the colours were converted to sRGB; the file's profile is wrong
            then.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    keeps_profile: bool = True

    @classmethod
    def of(cls, samples: Pixels) -> Raster:
        """Grey or RGB from (H, W) or (H, W, 1 to 4), where an even last channel is alpha."""
        samples = samples.reshape(*samples.shape[:2], -1)
        if samples.shape[2] % 2:
            return cls(np.ascontiguousarray(samples))
        colour, alpha = samples[..., :-1], samples[..., -1]
        return cls(np.ascontiguousarray(colour), np.ascontiguousarray(alpha))


@dataclass(frozen=True, slots=True)
class Still:
    """One frame of an animation, composed as a viewer shows it, or one page of a document.

    Attributes:
        header: Known before `decode` is called.
        decode: Its samples; to be called before the next one is asked for.
        seconds: How long it is shown; None for a page.
    """

    header: Header
    decode: Callable[[], Raster]
    seconds: Fraction | None = None
