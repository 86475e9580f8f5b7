"""Write a picture: whole or not at all, and never over a file by accident."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from upscale.errors import OutputError
from upscale.pictures import bmp, jpeg, png, tiff_write, webp
from upscale.pictures.formats import Format, can_hold, format_of, kept_depth
from upscale.pictures.names import shown
from upscale.pictures.picture import Picture, Pixels

_NO_LINKS = {
    errno.EPERM,
    errno.EACCES,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.EXDEV,
    errno.EINVAL,
}
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
        raise OutputError(f"cannot encode {name} ({_one_line(error)})") from error


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
    if os.path.isdir(target):  # noqa: PTH112 -- Path.is_dir raises for names that are too long.
        raise OutputError(f"{shown(target)}: is a folder; give a file name")
    if not overwrite and os.path.lexists(target):
        raise _exists(target)
    try:
        data = encode_picture(picture, format, quality=quality)
    except OutputError as error:
        raise OutputError(f"{shown(target)}: {error}") from error
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = _one_line(error)
        raise OutputError(f"{shown(target)}: its folder cannot be made ({reason})") from error
    try:
        _publish(data, target, overwrite)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError as error:
        raise OutputError(f"{shown(target)}: cannot be written ({_one_line(error)})") from error


def _exists(target: Path) -> OutputError:
    return OutputError(f"{shown(target)}: exists already; pass --overwrite to replace it")


def _one_line(error: Exception) -> str:
    """What an error says, on one line."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__


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


def _publish(data: bytes, target: Path, overwrite: bool) -> None:
    """Write beside the target under a name of its own, then give it the target's name."""
    place = Path(os.path.realpath(target)) if overwrite else target
    temporary = place.parent / f".upscale-{secrets.token_hex(8)}.part"
    try:
        # Exclusive, and with the permissions that the umask leaves to any new file.
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            temporary.replace(place)
        else:
            _rename_to_new(temporary, place)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _rename_to_new(temporary: Path, target: Path) -> None:
    """Give a file a second name that must be new; FileExistsError when it is not."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
        _reserve_and_replace(temporary, target)


def _reserve_and_replace(temporary: Path, target: Path) -> None:
    """The same on a filesystem without hard links: an empty file holds the name meanwhile."""
    with target.open("xb"):
        pass
    try:
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise
