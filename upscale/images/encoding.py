"""Encoding options of output files."""

from __future__ import annotations

from dataclasses import dataclass, field

from upscale.images.image import Image

DEFAULT_QUALITY = 95


@dataclass(frozen=True, slots=True)
class TextureEncoding:
    """Encoding options of textures, which only DDS has.

    Attributes:
        layout: `bc1`, `bc3`, `bc4`, `bc5`, `bc7` or `rgba8`; None for that of the source.
        mipmaps: Whether smaller copies follow the image; None to do as the source.
        normal_map: Whether colours are directions, of which mipmaps hold the mean direction.

    Example:
        >>> Encoding(texture=TextureEncoding("bc5", normal_map=True)).texture.layout
        'bc5'
    """

    layout: str | None = None
    mipmaps: bool | None = None
    normal_map: bool = False


@dataclass(frozen=True, slots=True)
class Encoding:
    """Encoding options as a user sets them.

    Attributes:
        quality: Quality 1..100 of lossy formats. None is 95, or the quality of the source where a
            JPEG of higher quality becomes a JPEG.
        lossless: Whether to keep every pixel, in formats that can. None keeps lossless what came
            from a lossless file of the same format.
        texture: Options of textures.

    Example:
        >>> import numpy as np
        >>> Encoding(quality=80).for_image(Image(np.zeros((2, 2, 3), np.uint8)), "jpeg")
        ResolvedEncoding(quality=80, lossless=False)
    """

    quality: int | None = None
    lossless: bool | None = None
    texture: TextureEncoding = TextureEncoding()

    def for_image(self, image: Image, format: str) -> ResolvedEncoding:
        """Resolve open options by the file that an image came from.

        Args:
            image: The image to encode.
            format: Name of the output format.
        """
        source = image.origin if image.origin.format == format else None
        lossless = self.lossless
        if lossless is None:
            lossless = source is not None and source.lossless and self.quality is None
        source_quality = (source and format == "jpeg" and source.quality) or 0
        quality = self.quality or max(DEFAULT_QUALITY, source_quality)
        return ResolvedEncoding(quality, lossless, self.texture)


@dataclass(frozen=True, slots=True)
class ResolvedEncoding:
    """Encoding options of one image.

    Attributes:
        quality: Quality 1..100.
        lossless: Whether to keep every pixel instead.
        texture: Options of textures.
    """

    quality: int
    lossless: bool
    texture: TextureEncoding = field(default_factory=TextureEncoding, repr=False)
