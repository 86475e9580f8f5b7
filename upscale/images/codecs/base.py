"""Types and helpers that the codecs share with the functions that read and write files."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from upscale.errors import DependencyError
from upscale.images.image import Metadata, Pixels


class MalformedError(ValueError):
    """The content is damaged; the message completes "<file> ..."."""


class UnsupportedError(ValueError):
    """The content is of a kind that is not supported; the message completes "<file> ...".

    Attributes:
        advice: Imperative clause for the user, for example "export it as PNG first".
    """

    def __init__(self, problem: str, advice: str = "convert it to plain RGB first") -> None:
        """Store the problem and the advice."""
        super().__init__(problem)
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Header:
    """Properties of a file that are known before any pixel is decoded.

    Attributes:
        width: Stored width in pixels.
        height: Stored height in pixels.
        orientation: EXIF orientation 1..8 of the stored pixels; 1 is upright.
        frames: Number of frames of an animation or pages of a document.
        plays: Number of times that an animation is shown; 0 is forever.
        metadata: Metadata as stored.
        bits: Bits per sample where they are fewer than those of the decoded array's type.
        quality: Lowest libjpeg quality 1..100 whose quantisation is as fine, or that damages an
            image as much as the file's; JPEG and WebP only.
        lossless: Whether the pixels are stored losslessly, in a format that can do both.
        notes: Clauses that say what was left out.
        damage: Clauses that say what is missing, where only a part could be read.
        has_alpha: Whether there is transparency, in formats that are written without.
        has_floats: Whether samples are floats, in formats that are not written with floats.
        storage: How the pixels are stored, for the same codec to write them so; see `Origin`.
        decoded_pixels: Width times height that the decoder makes, where it may be more.
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
    damage: tuple[str, ...] = ()
    has_alpha: bool = False
    has_floats: bool = False
    storage: object = None
    decoded_pixels: int = 0


@dataclass(frozen=True, slots=True)
class Raster:
    """Decoded samples in their stored orientation.

    Attributes:
        pixels: Array of shape (H, W, 1 or 3), uint8, uint16 or float32.
        alpha: Array of shape (H, W) and the same type; None when opaque.
        keeps_profile: Whether the file's profile still applies; False after a conversion to sRGB.
        notes: Clauses that say what was converted or left out.
        damage: Clauses that say what is missing, where only a part could be read.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    keeps_profile: bool = True
    notes: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()

    @classmethod
    def of(cls, samples: Pixels) -> Raster:
        """Split samples into colour and alpha.

        Args:
            samples: Array of shape (H, W) or (H, W, 1 to 4); the last of 2 or 4 channels is alpha.
        """
        samples = samples.reshape(*samples.shape[:2], -1)
        if samples.shape[2] % 2:
            return cls(np.ascontiguousarray(samples))
        colour, alpha = samples[..., :-1], samples[..., -1]
        return cls(np.ascontiguousarray(colour), np.ascontiguousarray(alpha))


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """One composed frame of an animation, or one page of a document.

    Attributes:
        header: Properties known before `decode` is called.
        decode: Function that decodes the samples; call it before the next frame is requested.
        seconds: Duration of the frame; None for a page.
    """

    header: Header
    decode: Callable[[], Raster]
    seconds: Fraction | None = None


def rows_missing(first: int, height: int) -> str:
    """Return a clause about the rows from the first missing one on.

    Args:
        first: Number of the first missing row, from 0.
        height: Number of rows of the image.

    Example:
        >>> rows_missing(24, 96)
        'the last 72 of 96 rows are missing'
    """
    if height - first == 1:
        return f"the last of {height} rows is missing"
    return f"the last {height - first} of {height} rows are missing"


def optional_package(name: str, purpose: str, package: str, extra: str) -> Any:  # noqa: ANN401
    """Import a package that is not installed with `upscale` itself.

    Args:
        name: Name to import.
        purpose: Subject of the error message, for example "HEIC".
        package: Name of the package on PyPI.
        extra: Extra of `upscale` that installs it.

    Raises:
        DependencyError: The package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DependencyError(
            f"{purpose} needs the package {package}; run: pip install 'upscale[{extra}]'"
        ) from error
