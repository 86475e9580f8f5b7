"""How images are encoded, as far as a user has a say in it."""

from __future__ import annotations

from dataclasses import dataclass

from upscale.images.image import Image

DEFAULT_QUALITY = 95


@dataclass(frozen=True, slots=True)
class Encoding:
    """How an image is encoded.

    Attributes:
        quality: 1..100 for formats that lose; None is 95, or for a JPEG that becomes a JPEG that
            of the file it came from, where that is higher.
        lossless: Keep every pixel, in formats that can; None does so for what came from a lossless
            file of the same format.
    """

    quality: int | None = None
    lossless: bool | None = None

    def for_image(self, image: Image, format: str) -> ResolvedEncoding:
        """Answer the open questions by the file that the image came from."""
        own = image.origin if image.origin.format == format else None
        lossless = self.lossless
        if lossless is None:
            lossless = own is not None and own.lossless and self.quality is None
        finer = (own and own.quality) or 0
        return ResolvedEncoding(self.quality or max(DEFAULT_QUALITY, finer), lossless)


@dataclass(frozen=True, slots=True)
class ResolvedEncoding:
    """How one image is encoded: quality 1..100, and whether without loss instead."""

    quality: int
    lossless: bool
