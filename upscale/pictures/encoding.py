"""How pictures are encoded, as far as a user has a say in it."""

from __future__ import annotations

from dataclasses import dataclass

from upscale.pictures.picture import Picture

DEFAULT_QUALITY = 95


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a picture is encoded.

    Attributes:
        quality: 1..100 for formats that lose; None is 95, or for a JPEG that becomes a JPEG that
            of the file it came from, where that is higher.
        lossless: Keep every pixel, in formats that can; None does so for what came from a lossless
            file of the same format.
    """

    quality: int | None = None
    lossless: bool | None = None

    def for_picture(self, picture: Picture, format: str) -> Settled:
        """Answer the open questions by the file that the picture came from."""
        own = picture.origin if picture.origin.format == format else None
        lossless = self.lossless
        if lossless is None:
            lossless = own is not None and own.lossless and self.quality is None
        finer = (own and own.quality) or 0
        return Settled(self.quality or max(DEFAULT_QUALITY, finer), lossless)


@dataclass(frozen=True, slots=True)
class Settled:
    """How one picture is encoded: quality 1..100, and whether without loss instead."""

    quality: int
    lossless: bool
