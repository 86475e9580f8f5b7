"""What is known of an image before any network has seen it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscale.selection.compression import compression_of
from upscale.selection.drawing import shares_of
from upscale.selection.noise import colour_noise_of, luma_noise_of
from upscale.selection.patches import Patch, patches_of
from upscale.selection.spectrum import sharpness_of

LOSSLESS = 100
"""Quality of an image without traces of lossy compression."""

# Strength of the grid of a JPEG, and the quality to expect if it cannot be measured.
_JPEG_GRID, _USUAL_QUALITY = 0.25, 75
_MAX_PALETTE, _MAX_GREYS = 256, 64
# Neighbours of a palette image that differ although it is none of large areas.
_DITHERED = 0.2
# A colour as one number; equal red, green and blue are a multiple of the second.
_PACKED, _GREY_KEY = np.array([65536, 256, 1]), 65536 + 256 + 1
# Below this deviation of luma noise, colour noise says nothing.
_FLOOR = 0.15


@dataclass(frozen=True, slots=True)
class Traits:
    """Measurements of an image, or the medians of those of several frames.

    Attributes:
        quality: JPEG quality of the file or of what its pixels were before; 100 without traces.
        grid: Strength of the grid of blocks.
        luma_noise: Deviation of fine detail in the plainest blocks, in levels 0..255.
        colour_noise: Deviation of fine detail that differs between channels; 0 if grey.
        chroma_loss: Natural logarithm of luma's over chroma's finest detail; 0 if grey.
        sharpness: Power of the finest detail over that of middle detail, in decades.
        palette: 1 if the image has few colours and is dithered, else 0.
        drawing: 1 if it is a drawing, else 0.
        crisp: 1 if edges of a drawing are as sharp as pixels allow, else 0.
    """

    quality: float
    grid: float
    luma_noise: float
    colour_noise: float
    chroma_loss: float
    sharpness: float
    palette: float
    drawing: float
    crisp: float


def traits_of(pixels: NDArray[Any], quality: int | None) -> Traits:
    """Measure an image.

    Args:
        pixels: Image of shape (H, W, C), uint8, uint16, or float32 in 0..1.
        quality: JPEG quality of its file; None if it is not lossy or unknown.
    """
    patches = patches_of(pixels)
    compression = compression_of(patches)
    before = LOSSLESS if compression.grid < _JPEG_GRID else _USUAL_QUALITY
    luma, colour = luma_noise_of(patches), colour_noise_of(patches)
    shares = shares_of(patches)
    loss = 0.0 if colour is None else float(np.log((luma + _FLOOR) / (colour + _FLOOR)))
    return Traits(
        min(quality or LOSSLESS, compression.quality or before),
        compression.grid,
        luma,
        colour or 0.0,
        loss,
        sharpness_of(patches),
        float(_is_dithered(patches)),
        float(shares.is_drawing),
        float(shares.is_crisp),
    )


def median_of(traits: Sequence[Traits]) -> Traits:
    """Return the median of each trait over several frames.

    Args:
        traits: Traits of one frame or more.
    """
    names = Traits.__slots__
    return Traits(*(float(np.median([getattr(each, name) for each in traits])) for name in names))


def _is_dithered(patches: Sequence[Patch]) -> bool:
    """Return whether patches together have few colours, but much change between neighbours."""
    colours: set[int] = set()
    changes: list[float] = []
    for patch in patches:
        levels = np.rint(patch).astype(np.int64)
        keys = levels[..., 0] * _GREY_KEY if levels.shape[2] == 1 else levels @ _PACKED
        colours.update(np.unique(keys).tolist())
        changes.append(float((np.diff(keys, axis=1) != 0).mean()) if keys.shape[1] > 1 else 0.0)
    is_grey = all(colour % _GREY_KEY == 0 for colour in colours)
    size = sum(patch.shape[0] * patch.shape[1] for patch in patches)
    most = _MAX_GREYS if is_grey else _MAX_PALETTE
    return len(colours) <= most and size > 8 * most and float(np.median(changes)) > _DITHERED
