"""Read a picture: find out what the content is, check it, decode it, turn it upright."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TypeVar

from upscale.errors import PictureError
from upscale.pictures import bmp, exif, jpeg, png, tiff, webp
from upscale.pictures.decoded import Header, MalformedError, Raster, UnsupportedError
from upscale.pictures.formats import Format, foreign_kind, sniff
from upscale.pictures.names import shown
from upscale.pictures.picture import DEFAULT_MAX_PIXELS, Picture

_T = TypeVar("_T")
_READABLE = "JPEG, PNG, WebP, TIFF or BMP"
_HEADERS: Mapping[Format, Callable[[BinaryIO], Header]] = {
    "jpeg": jpeg.read_header,
    "png": png.read_header,
    "webp": webp.read_header,
    "tiff": tiff.read_header,
    "bmp": bmp.read_header,
}
# Size and orientation; only these two formats spread the rest over the whole file.
_SHAPES = {**_HEADERS, "png": png.read_shape, "tiff": tiff.read_shape}
_DECODERS: Mapping[Format, Callable[[bytes], Raster]] = {
    "jpeg": jpeg.decode,
    "png": png.decode,
    "webp": webp.decode,
    "tiff": tiff.decode,
    "bmp": bmp.decode,
}


def read_picture(source: Path | bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Picture:
    """Read a picture and turn it upright as its EXIF orientation says.

    The content decides the format, not the name. 8-bit samples stay uint8, 16-bit ones uint16 and
    floats float32; grey stays one channel; palettes become RGB and CMYK becomes sRGB.

    Args:
        source: A file, or its content.
        max_pixels: The most that width times height may be; checked before anything is decoded.

    Raises:
        PictureError: No picture, damaged, cut off, too large, animated, or not readable.
    """
    with _opened(source) as (name, file):
        data = file.read()
    kind = _format(name, data)
    header = _guarded(name, lambda: _HEADERS[kind](io.BytesIO(data)))
    if header.width * header.height > max_pixels:
        raise PictureError(
            f"{name}: {header.width}x{header.height} is more than the limit of {max_pixels} "
            "pixels; raise the limit if you trust the file"
        )
    if header.frames > 1:
        raise PictureError(
            f"{name}: holds {header.frames} frames or pages, which is not supported; "
            "extract the one you want"
        )
    raster = _guarded(name, lambda: _DECODERS[kind](data))
    return _guarded(name, lambda: _upright(header, raster, kind))


def read_size(source: Path | bytes) -> tuple[int, int]:
    """Width and height of the upright picture; of a file, only its headers are read.

    Raises:
        PictureError: No picture, damaged, cut off, or not readable.
    """
    with _opened(source) as (name, file):
        kind = _format(name, file.read(16))
        file.seek(0)
        header = _guarded(name, lambda: _SHAPES[kind](file))
    if header.orientation >= 5:
        return header.height, header.width
    return header.width, header.height


@contextmanager
def _opened(source: Path | bytes) -> Generator[tuple[str, BinaryIO]]:
    """The name for messages, and the content as a file to read in any order."""
    if isinstance(source, bytes):
        yield "the picture", io.BytesIO(source)
        return
    name = shown(source)
    try:
        with source.open("rb") as file:
            mode = source.stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
                raise PictureError(f"{name}: is not a file; give a picture file")
            yield name, file if stat.S_ISREG(mode) else io.BytesIO(file.read())
    except FileNotFoundError:
        raise PictureError(f"{name}: does not exist; check the name") from None
    except IsADirectoryError:
        raise PictureError(f"{name}: is a folder; give a picture file") from None
    except PermissionError:
        raise PictureError(f"{name}: cannot be opened; you lack the permission") from None
    except MemoryError:
        raise PictureError(f"{name}: needs more memory than there is") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PictureError(f"{name}: cannot be read ({reason}); check the file") from error


def _format(name: str, data: bytes) -> Format:
    """The format of the content, of which the first 16 bytes are enough."""
    if not data:
        raise PictureError(f"{name}: is empty; it holds no picture")
    kind = sniff(data[:16])
    if kind is not None:
        return kind
    other = foreign_kind(data[:16])
    what = f"{other} is not supported" if other else "is not a picture"
    raise PictureError(f"{name}: {what}; give {_READABLE}")


def _upright(header: Header, raster: Raster, kind: Format) -> Picture:
    """Apply the orientation and say in the metadata that it is applied."""
    height, width = raster.pixels.shape[:2]
    if (width, height) != (header.width, header.height):
        raise MalformedError("is damaged")
    turned, metadata = header.orientation, header.metadata
    if turned != 1:
        metadata = replace(
            metadata,
            exif=exif.reset_orientation(metadata.exif),
            xmp=exif.reset_xmp_orientation(metadata.xmp),
        )
    if turned >= 5 and metadata.dpi:
        metadata = replace(metadata, dpi=metadata.dpi[::-1])
    if not raster.keeps_profile:
        metadata = replace(metadata, icc=None)
    alpha = None if raster.alpha is None else exif.upright(raster.alpha, turned)
    return Picture(exif.upright(raster.pixels, turned), alpha, metadata, kind)


def _guarded(name: str, work: Callable[[], _T]) -> _T:
    """Run a decoder; whatever it raises on hostile content becomes one line.

    Raises:
        PictureError: The work failed.
    """
    try:
        return work()
    except MalformedError as error:
        raise PictureError(f"{name}: {error}; use an undamaged copy") from error
    except UnsupportedError as error:
        raise PictureError(f"{name}: {error}; convert it to plain RGB first") from error
    except MemoryError:
        raise PictureError(f"{name}: needs more memory than there is") from None
    except Exception as error:
        # The decoders raise a dozen kinds of errors, and none is more than "damaged" to a user.
        reason = "is cut off" if "truncated" in str(error).lower() else "is damaged"
        raise PictureError(f"{name}: {reason}; use an undamaged copy") from error
