"""JPEG in torch with one quality per image: the levels of libjpeg-turbo's defaults.

8-bit levels, integer quantisation tables, chroma halved on both axes (4:2:0) and upscaled by a
triangle filter, blocks at the edge filled by repetition, and the "slow integer" cosine transform.
That transform is linear except for the rounding after each of its passes, so it is four products
with one matrix of integers. float32 holds all but the largest sums exactly: about one level in
20,000 differs by one, and only in noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from upscale_training.degradation.operations import Jpeg

LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""ITU T.81, table K.1: one vertical frequency per row."""

CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * 8,) * 4),
)
"""ITU T.81, table K.2."""

TO_YCC = ((19595, 38470, 7471), (-11058, -21710, 32768), (32768, -27439, -5329))
TO_RGB = ((65536, 0, 91881), (65536, -22553, -46802), (65536, 116130, 0))
"""Matrices of libjpeg in units of 2^-16."""

COSINES = (
    (8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260),
    (10703, 4433, -4433, -10703),
    (9633, -2259, -11362, -6436),
    (8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633),
    (4433, -10704, 10704, -4433),
    (2260, -6436, 9633, -11363),
)
"""Left halves of libjpeg's cosines in units of 2^-13, one frequency per row. The right halves
mirror them, with the opposite sign in odd rows. (Sums of twelve constants of the butterflies.)"""

BLOCK = 8

NARROW = 4
"""Width up to which the chroma of an image is repeated instead of filtered."""


def jpeg(images: Tensor, operations: Sequence[Jpeg]) -> Tensor:
    """Compress and decompress each image at its own quality.

    Args:
        images: Tensor of shape (N, 3, H, W), RGB; clipped to [0, 1] and rounded to 8 bits first.
        operations: N qualities, rounded and clipped to 1 to 100.

    Returns:
        Tensor of shape (N, 3, H, W), 8-bit levels in [0, 1].
    """
    height, width = images.shape[-2:]
    qualities = images.new_tensor([each.quality for each in operations])
    levels = (images * 255).round().clamp_(0, 255)
    luma, chroma = _to_ycc(levels)
    luma = _coded(_filled(luma), tables(LUMA_TABLE, qualities))[..., :height, :width]
    chroma = _coded(_halved(chroma), tables(CHROMA_TABLE, qualities))
    chroma = chroma[..., : -(-height // 2), : -(-width // 2)]
    return _to_rgb(luma, _doubled(chroma)[..., :height, :width]) / 255


def jpeg_together(images: Sequence[Tensor], operations: Sequence[Jpeg]) -> list[Tensor]:
    """Do the work of `jpeg` for images of different sizes with as few calls as for one.

    Images are extended to a common size. Blocks do not depend on each other, so only the edges of
    the halved chroma need care.

    Args:
        images: N tensors of shape (1, 3, H, W), whose sizes may differ, wider than `NARROW`.
        operations: N qualities.

    Returns:
        N tensors of shape (1, 3, H, W).
    """
    sizes = [(image.shape[-2], image.shape[-1]) for image in images]
    height, width = (
        -(-max(sides) // (2 * BLOCK)) * 2 * BLOCK for sides in zip(*sizes, strict=True)
    )
    canvas = torch.cat(
        [
            F.pad(image, (0, width - own[1], 0, height - own[0]), mode="replicate")
            for image, own in zip(images, sizes, strict=True)
        ]
    )
    qualities = canvas.new_tensor([each.quality for each in operations])
    levels = (canvas * 255).round().clamp_(0, 255)
    luma, chroma = _to_ycc(levels)
    luma = _coded(luma, tables(LUMA_TABLE, qualities))
    rows = _repeated_edge([own[0] for own in sizes], height, canvas.device)[:, None, :, None]
    columns = _repeated_edge([own[1] for own in sizes], width, canvas.device)[:, None, None, :]
    chroma = torch.take_along_dim(_halved(chroma), rows, -2)
    chroma = _coded(chroma, tables(CHROMA_TABLE, qualities))
    chroma = torch.take_along_dim(torch.take_along_dim(chroma, rows, -2), columns, -1)
    result = _to_rgb(luma, _doubled(chroma)) / 255
    return [result[index : index + 1, :, : own[0], : own[1]] for index, own in enumerate(sizes)]


def _repeated_edge(sides: Sequence[int], side: int, device: torch.device) -> Tensor:
    """Return positions (N, side / 2) in halved planes: from the edge of an image on, its last."""
    last = np.array([(own - 1) // 2 for own in sides])
    places = np.minimum(np.arange(side // 2), last[:, None])
    return torch.from_numpy(places).to(device, non_blocking=True)


def tables(base: tuple[tuple[int, ...], ...], qualities: Tensor) -> Tensor:
    """Return quantisation tables (N, 8, 8) as libjpeg computes them from qualities (N,)."""
    quality = qualities.round().clamp(1, 100)
    scale = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    table = torch.tensor(base, dtype=qualities.dtype, device=qualities.device)
    return ((table * scale[:, None, None] + 50) / 100).floor().clamp(1, 255)


def across(blocks: Tensor, matrix: Tensor) -> Tensor:
    """Multiply each row of eight in (..., W) by a matrix."""
    return (blocks.reshape(-1, BLOCK) @ matrix.T).view(blocks.shape)


def down(blocks: Tensor, matrix: Tensor) -> Tensor:
    """Multiply each column of eight in (..., H, W) by a matrix."""
    return (matrix @ blocks.reshape(-1, BLOCK, blocks.shape[-1])).view(blocks.shape)


def in_blocks(planes: Tensor) -> Tensor:
    """View (N, C, H, W) as (N, C, H / 8, 8, W / 8, 8)."""
    count, channels, height, width = planes.shape
    return planes.view(count, channels, height // BLOCK, BLOCK, width // BLOCK, BLOCK)


def _coded(planes: Tensor, table: Tensor) -> Tensor:
    """Code and decode samples (N, C, H, W) in [0, 255] with tables (N, 8, 8)."""
    cosines = _cosines(planes.device)
    values = _rounded(across(planes - 128, cosines / 2**11))
    values = _rounded(down(values, cosines / 2**15))  # eight times the coefficients
    blocks, table = in_blocks(values), table[:, None, None, :, None, :]
    blocks.div_(table * 8)
    blocks.add_(blocks.sign().mul_(0.5)).trunc_().mul_(table)  # halves away from zero
    values = _rounded(down(values, cosines.T / 2**11))
    return _rounded(across(values, cosines.T / 2**18)).add_(128).clamp_(0, 255)


def _rounded(values: Tensor) -> Tensor:
    """Round in place, halves up."""
    return values.add_(0.5).floor_()


@lru_cache(maxsize=4)
def _cosines(device: torch.device) -> Tensor:
    left = torch.tensor(COSINES, dtype=torch.float32)
    right = left.flip(1)
    right[1::2] *= -1
    return torch.cat([left, right], 1).to(device)


def mixed(matrix: Tensor, images: Tensor) -> Tensor:
    """Multiply the channels of (N, 3, H, W) by a matrix."""
    return (matrix @ images.flatten(2)).view(images.shape)


def _to_ycc(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Return luma (N, 1, H, W) and chroma (N, 2, H, W) around 128, which rounds halves down."""
    planes = mixed(levels.new_tensor(TO_YCC) / 65536, levels)
    return _rounded(planes[:, :1]), planes[:, 1:].add_(127.5).ceil_()


def _to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    planes = torch.cat([luma, chroma - 128], 1)
    return _rounded(mixed(luma.new_tensor(TO_RGB) / 65536, planes)).clamp_(0, 255)


def _filled(planes: Tensor) -> Tensor:
    """Pad to whole blocks by repeating the last row and column."""
    height, width = planes.shape[-2:]
    return F.pad(planes, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")


def _halved(chroma: Tensor) -> Tensor:
    """Return means of 2x2, with halves rounded down and up in turn, padded to whole blocks.

    Columns are repeated before halving and rows after it, as in libjpeg.
    """
    height, width = chroma.shape[-2:]
    wide = F.pad(chroma, (0, -width % (2 * BLOCK), 0, height % 2), mode="replicate")
    means = F.avg_pool2d(wide, 2)
    means[..., 0::2].add_(0.25)
    means[..., 1::2].add_(0.5)
    return _filled(means.floor_())


def _doubled(chroma: Tensor) -> Tensor:
    """Double the size with 3/4 of the nearest sample and 1/4 of the next on each axis.

    Samples of images up to `NARROW` pixels wide are repeated, as in libjpeg.
    """
    if chroma.shape[-1] <= NARROW // 2:
        return chroma.repeat_interleave(2, -1).repeat_interleave(2, -2)
    edged = F.pad(chroma, (1, 1, 1, 1), mode="replicate")
    upper, middle, lower = edged[..., :-2, :], edged[..., 1:-1, :], edged[..., 2:, :]
    rows = torch.stack([3 * middle + upper, 3 * middle + lower], -2).flatten(-3, -2)
    left, centre, right = rows[..., :-2], rows[..., 1:-1], rows[..., 2:]
    even, odd = 3 * centre + left + 8, 3 * centre + right + 7
    return torch.stack([even, odd], -1).flatten(-2).div_(16).floor_()
