"""Read a file: find out what the content is, check it, decode it, turn it upright."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from upscale.errors import DependencyError, ImageError
from upscale.files.error_mapping import map_os_errors
from upscale.files.printable import printable
from upscale.images import animation
from upscale.images.codecs import (
    apng_reader,
    avif,
    bmp,
    gif_reader,
    heif,
    jpeg,
    jpeg2000,
    jxl,
    others,
    png,
    pnm,
    tiff,
    webp,
)
from upscale.images.codecs.base import Header, MalformedError, Raster, Still, UnsupportedError
from upscale.images.codecs.formats import (
    SNIFF_BYTES,
    Format,
    foreign_kind,
    format_named,
    sniff,
    traits_of,
)
from upscale.images.image import DEFAULT_MAX_PIXELS, Frame, Image, ImageSequence, Origin
from upscale.images.metadata import exif

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Reader:
    """How one format is read; `shape` gives size and orientation alone, where that is quicker."""

    header: Callable[[BinaryIO], Header]
    decode: Callable[[BinaryIO], Raster]
    frames: Callable[[BinaryIO], Iterator[Still]] | None = None
    shape: Callable[[BinaryIO], Header] | None = None


_READERS: Mapping[Format, _Reader] = {
    "jpeg": _Reader(jpeg.read_header, jpeg.decode),
    "png": _Reader(png.read_header, png.decode, apng_reader.frames, png.read_shape),
    "webp": _Reader(webp.read_header, webp.decode, animation.webp_frames),
    "tiff": _Reader(tiff.read_header, tiff.decode, tiff.decode_pages, tiff.read_shape),
    "bmp": _Reader(bmp.read_header, bmp.decode),
    "gif": _Reader(
        gif_reader.read_header,
        gif_reader.decode,
        gif_reader.frames,
        gif_reader.read_shape,
    ),
    "avif": _Reader(avif.read_header, avif.decode, animation.avif_frames),
    "heic": _Reader(heif.read_header, heif.decode),
    "jxl": _Reader(jxl.read_header, jxl.decode, shape=jxl.read_shape),
    "jpeg2000": _Reader(jpeg2000.read_header, jpeg2000.decode),
    "pnm": _Reader(pnm.read_header, pnm.decode),
    "tga": _Reader(others.read_tga, others.decode_tga),
    "qoi": _Reader(others.read_qoi, others.decode_qoi),
    "ico": _Reader(others.read_ico, others.decode_ico),
    "psd": _Reader(others.read_psd, others.decode_psd),
    "dds": _Reader(others.read_dds, others.decode_dds),
}


_UNSIGNED = (".tga",)


def read_file(
    source: Path | bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Image | ImageSequence:
    """Read what a file holds: an image, or several in a sequence that decodes as it is walked.

    The content decides the format, not the name. 8-bit samples stay uint8, 16-bit ones uint16 and
    floats float32; grey stays one channel; palettes become RGB; CMYK and Lab become sRGB. Images
    are turned upright as their EXIF orientation says.

    Args:
        source: A file, or its content.
        max_pixels: The most that width times height may be; checked before anything is decoded.

    Raises:
        ImageError: No image, damaged, cut off, too large, or not readable. The frames of a
            sequence raise it, too.
        DependencyError: The format needs a package that is not installed.
    """
    with _opened(source) as (name, file):
        kind = _format(name, file, source)
        header = _guarded(name, lambda: _READERS[kind].header(file))
        _check_pixels(name, header, max_pixels)
        if header.frames > 1 and _READERS[kind].frames is not None:
            return ImageSequence(
                lambda: _frames(source, kind, max_pixels),
                header.frames,
                header.plays,
                traits_of(kind).frames == "animation",
                kind,
            )
        file.seek(0)
        raster = _guarded(name, lambda: _READERS[kind].decode(file))
    return _guarded(name, lambda: _upright(header, raster, kind))


def read_image(source: Path | bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image:
    """Read a file that holds one image; see `read_file`.

    Raises:
        ImageError: See `read_file`; or it holds several.
    """
    found = read_file(source, max_pixels=max_pixels)
    if isinstance(found, Image):
        return found
    name = "the image" if isinstance(source, bytes) else printable(source)
    raise ImageError(f"{name}: holds {found.count} frames or pages; extract the one you want")


def read_size(source: Path | bytes) -> tuple[int, int]:
    """Width and height of the upright image; of a file, only its headers are read.

    Raises:
        ImageError: No image, damaged, cut off, or not readable.
    """
    with _opened(source) as (name, file):
        reader = _READERS[_format(name, file, source)]
        header = _guarded(name, lambda: (reader.shape or reader.header)(file))
    if header.orientation >= 5:
        return header.height, header.width
    return header.width, header.height


def _frames(source: Path | bytes, kind: Format, max_pixels: int) -> Iterator[Frame]:
    """Walk the frames of a sequence."""
    decode = _READERS[kind].frames
    assert decode is not None
    with _opened(source) as (name, file):
        stills = decode(file)
        while (still := _guarded(name, lambda: next(stills, None))) is not None:
            _check_pixels(name, still.header, max_pixels)
            yield _guarded(name, partial(_frame, still, kind))


def _frame(still: Still, kind: Format) -> Frame:
    return Frame(_upright(still.header, still.decode(), kind), still.seconds)


def _check_pixels(name: str, header: Header, limit: int) -> None:
    if header.width * header.height > limit:
        raise ImageError(
            f"{name}: {header.width}x{header.height} is more than the limit of {limit} "
            "pixels; raise the limit if you trust the file"
        )


@contextmanager
def _opened(source: Path | bytes) -> Generator[tuple[str, BinaryIO]]:
    """The name for messages, and the content as a file to read in any order."""
    if isinstance(source, bytes):
        yield "the image", io.BytesIO(source)
        return
    name = printable(source)
    with map_os_errors(source, ImageError, "an image file"), source.open("rb") as file:
        mode = source.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise ImageError(f"{name}: is not a file; give an image file")
        yield name, file if stat.S_ISREG(mode) else io.BytesIO(file.read())


def _format(name: str, file: BinaryIO, source: Path | bytes) -> Format:
    """The format of the content; of the name, where a format has no other sign."""
    start = file.read(SNIFF_BYTES)
    file.seek(0)
    if not start:
        raise ImageError(f"{name}: is empty; it holds no image")
    kind = sniff(start)
    if kind is None and isinstance(source, Path) and source.suffix.lower() in _UNSIGNED:
        kind = format_named(source.name)
    if kind is not None and kind in _READERS:
        return kind
    other = foreign_kind(start)
    what = f"{other} is not supported" if other else "is not an image"
    raise ImageError(f"{name}: {what}; give one, as JPEG, PNG, TIFF or WebP")


def _upright(header: Header, raster: Raster, kind: Format) -> Image:
    """Apply the orientation and say in the metadata that it is applied."""
    height, width = raster.pixels.shape[:2]
    if (width, height) != (header.width, header.height):
        raise MalformedError("is damaged")
    turned, metadata, notes = header.orientation, header.metadata, header.notes
    metadata = replace(metadata, dpi=metadata.dpi or exif.resolution_of(metadata.exif))
    if turned != 1:
        metadata = replace(
            metadata,
            exif=exif.reset_orientation(metadata.exif),
            xmp=exif.reset_xmp_orientation(metadata.xmp),
        )
    if turned >= 5 and metadata.dpi:
        metadata = replace(metadata, dpi=metadata.dpi[::-1])
    if not raster.keeps_profile:
        metadata = replace(metadata, icc=None, cicp=None)
        notes = (*notes, "its colours were converted to sRGB")
    alpha = None if raster.alpha is None else exif.upright(raster.alpha, turned)
    origin = Origin(kind, header.bits, header.quality, header.lossless, notes)
    return Image(exif.upright(raster.pixels, turned), alpha, metadata, origin)


def _guarded(name: str, work: Callable[[], _T]) -> _T:
    """Run a decoder; whatever it raises on hostile content becomes one line.

    Raises:
        ImageError: The work failed.
        DependencyError: It needs a package that is not installed.
    """
    try:
        return work()
    except MalformedError as error:
        raise ImageError(f"{name}: {error}; use an undamaged copy") from error
    except UnsupportedError as error:
        raise ImageError(f"{name}: {error}; convert it to plain RGB first") from error
    except DependencyError as error:
        raise DependencyError(f"{name}: {error}") from error
    except MemoryError:
        raise ImageError(f"{name}: needs more memory than there is") from None
    except Exception as error:
        # The decoders raise a dozen kinds of errors, and none is more than "damaged" to a user.
        reason = "is cut off" if "truncated" in str(error).lower() else "is damaged"
        raise ImageError(f"{name}: {reason}; use an undamaged copy") from error
