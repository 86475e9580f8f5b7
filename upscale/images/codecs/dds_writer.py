"""Writing DDS textures: the layout, block compression and mipmaps."""

from __future__ import annotations

from dataclasses import replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from upscale.images.codecs import dds_blocks
from upscale.images.codecs.dds_layouts import LAYOUTS, Level, Texture, write
from upscale.images.encoding import ResolvedEncoding, TextureEncoding
from upscale.images.image import Image
from upscale.images.pixels.mipmaps import Content, mipmaps

_DATA = ("bc4", "bc5")
_MULTIPLE = 4


def encode(image: Image, target: BinaryIO, encoding: ResolvedEncoding) -> None:
    """Encode uint8 pixels and their mipmaps.

    Raises:
        DependencyError: A compressed layout needs a package that is not installed.
    """
    texture, samples = resolve(image, encoding), _samples(image)
    levels = [samples]
    if texture.mipmaps:
        levels += mipmaps(samples, _content(texture, encoding.texture))
    write(texture, [_level(level, texture.layout) for level in levels], target)


def resolve(image: Image, encoding: ResolvedEncoding) -> Texture:
    """Return how an image is to be stored.

    A DDS file keeps its layout, mipmaps and kind of header. Other images become BC7, or BC5 as
    normal maps without transparency, with mipmaps.
    """
    source, options = image.origin.storage, encoding.texture
    if not isinstance(source, Texture):
        is_flat = options.normal_map and image.alpha is None
        source = Texture("bc5" if is_flat else "bc7", mipmaps=True)
    kept = "bc3" if source.layout == "bc2" else source.layout
    layout = options.layout or ("rgba8" if encoding.lossless else kept)
    if layout in _DATA:
        source = replace(source, is_srgb=False)  # there is no such layout
    return replace(
        source,
        layout=layout if layout in LAYOUTS else "rgba8",
        mipmaps=source.mipmaps if options.mipmaps is None else options.mipmaps,
    )


def remarks(image: Image, encoding: ResolvedEncoding) -> tuple[str, ...]:
    """Return what the layout changes, one clause each.

    Raises:
        DependencyError: A compressed layout needs a package that is not installed.
    """
    texture, clauses = resolve(image, encoding), list[str]()
    layout, source = texture.layout, image.origin.storage
    if layout == "rgba8":
        return ()
    if layout not in _DATA:
        dds_blocks.encoder()
    name = layout.upper()
    if isinstance(source, Texture) and source.layout == "bc2" and layout == "bc3":
        clauses.append("BC2 was stored as BC3, which holds more levels of transparency")
    if image.width % _MULTIPLE or image.height % _MULTIPLE:
        clauses.append(f"its size is no multiple of {_MULTIPLE}, which Direct3D requires of {name}")
    if image.alpha is not None and layout in _DATA:
        clauses.append(f"{name} has no place for its transparency")
    if image.alpha is not None and layout == "bc1" and _is_soft(image.alpha):
        clauses.append("BC1 has two levels of transparency, to which its alpha was rounded")
    if image.pixels.shape[2] == 3 and layout == "bc4":
        clauses.append("BC4 has one channel, so only its red was stored")
    if layout == "bc5" and not encoding.texture.normal_map and bool(image.pixels[..., 2:].any()):
        clauses.append("BC5 has two channels, so its blue was not stored")
    return tuple(clauses)


def _is_soft(alpha: NDArray[np.uint8]) -> bool:
    full = np.iinfo(alpha.dtype).max if alpha.dtype.kind == "u" else 1
    return bool(((alpha > 0) & (alpha < full)).any())


def _content(texture: Texture, encoding: TextureEncoding) -> Content:
    if encoding.normal_map:
        return Content.NORMALS
    return Content.DATA if texture.layout in _DATA else Content.COLOUR


def _level(samples: NDArray[np.uint8], layout: str) -> Level:
    height, width = samples.shape[:2]
    if layout == "rgba8":
        return Level(width, height, samples.tobytes())
    return Level(width, height, dds_blocks.compressed(samples, layout))


def _samples(image: Image) -> NDArray[np.uint8]:
    """Return pixels and alpha as (H, W, 4)."""
    height, width = image.pixels.shape[:2]
    samples = np.full((height, width, 4), 255, np.uint8)
    samples[..., :3] = image.pixels
    if image.alpha is not None:
        samples[..., 3] = image.alpha
    return samples
