"""Write a picture: whole or not at all, and never over a file by accident."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from upscale.errors import OutputError
from upscale.pictures import bmp, jpeg, png, tiff_write, webp
from upscale.pictures.formats import Format, can_hold, format_of, kept_depth
from upscale.pictures.names import shown
from upscale.pictures.picture import Picture, Pixels
from upscale.pictures.publish import one_line, publish, refuse_existing

_BAND_SAMPLES = 4 * 1024 * 1024


def encode_picture(picture: Picture, format: str, *, quality: int | None = None) -> bytes:
    """Encode a picture; samples deeper than the format holds are rounded.

    Args:
        picture: What to encode.
        format: jpeg, png, webp, tiff or bmp.
        quality: 1..100 for jpeg and webp (95 when None); lossless formats ignore it.

    Raises:
        OutputError: The format cannot hold the picture, or the quality is out of range.
    """
    name = format_of(format)
    if quality is not None and not 1 <= quality <= 100:
        raise OutputError(f"quality {quality} is out of range; use 1 to 100")
    reason = can_hold(
        name,
        alpha=picture.alpha is not None,
        depth=picture.depth,
        width=picture.width,
        height=picture.height,
    )
    if reason:
        raise OutputError(f"{reason}; choose another format")
    try:
        return _encode(_in_depth(picture, kept_depth(name, picture.depth)), name, quality)
    except MemoryError:
        raise OutputError(f"encoding {name} needs more memory than there is") from None
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot encode {name} ({one_line(error)})") from error


def write_picture(
    picture: Picture,
    target: Path,
    *,
    format: str,
    quality: int | None = None,
    overwrite: bool = False,
) -> None:
    """Encode a picture and let it appear under its name, whole. Missing folders are made.

    Args:
        picture: What to write.
        target: The file; its suffix does not matter.
        format: jpeg, png, webp, tiff or bmp.
        quality: See `encode_picture`.
        overwrite: Replace an existing file. Without it, one that appears meanwhile is kept too.

    Raises:
        OutputError: See `encode_picture`; or the file exists, or cannot be written.
    """
    refuse_existing(target, overwrite=overwrite)
    try:
        data = encode_picture(picture, format, quality=quality)
    except OutputError as error:
        raise OutputError(f"{shown(target)}: {error}") from error
    publish(target, lambda file: _write_all(file, data), overwrite=overwrite)


def _write_all(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _encode(picture: Picture, name: Format, quality: int | None) -> bytes:
    """Dispatch to the format."""
    match name:
        case "jpeg":
            return jpeg.encode(picture, quality)
        case "png":
            return png.encode(picture)
        case "webp":
            return webp.encode(picture, quality)
        case "tiff":
            return tiff_write.encode(picture)
        case "bmp":
            return bmp.encode(picture)


def _in_depth(picture: Picture, depth: int) -> Picture:
    """The picture with at most `depth` (8 or 16, or 32) bits a sample."""
    if picture.depth <= depth:
        return picture
    alpha = None if picture.alpha is None else _rounded(picture.alpha, depth)
    return replace(picture, pixels=_rounded(picture.pixels, depth), alpha=alpha)


def _rounded(samples: Pixels, depth: int) -> Pixels:
    """Samples rounded to 8 or 16 bits, a band at a time; what is no number becomes 0."""
    kind = np.uint8 if depth == 8 else np.uint16
    full = float(np.iinfo(kind).max)
    result = np.empty(samples.shape, kind)
    rows = max(1, _BAND_SAMPLES // samples[0].size)
    for top in range(0, len(samples), rows):
        band = samples[top : top + rows]
        if band.dtype == np.uint16:
            # 65535 / 255 is odd, so that halves do not occur.
            result[top : top + rows] = (band.astype(np.uint32) + 128) // 257
        else:
            clean = np.nan_to_num(band.astype(np.float64), nan=0.0).clip(0, 1)
            result[top : top + rows] = np.rint(clean * full)
    return result
