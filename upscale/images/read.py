"""Reading images: detect the format, check the size, decode, and turn upright."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from upscale.errors import DependencyError, ImageError
from upscale.files.error_mapping import map_os_errors
from upscale.files.printable import printable
from upscale.images.codecs.base import (
    Header,
    MalformedError,
    Raster,
    StoredFrame,
    UnsupportedError,
)
from upscale.images.codecs.registry import SNIFF_BYTES, Codec, codecs
from upscale.images.formats import detect, foreign_kind
from upscale.images.image import DEFAULT_MAX_PIXELS, Frame, Image, ImageSequence, Origin
from upscale.images.metadata import exif, xmp
from upscale.images.pixels.orientation import swaps_sides, upright

_T = TypeVar("_T")


def read_file(
    source: Path | bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Image | ImageSequence:
    """Read an image, an animation or the pages of a document.

    The format is detected from the content, not the suffix. 8-bit samples become uint8, 16-bit
    samples uint16, floats float32; grey stays one channel; palettes become RGB; CMYK and Lab become
    sRGB. Images are turned upright by their EXIF orientation. Frames and pages are decoded when the
    sequence is iterated.

    Args:
        source: An image file, or its content.
        max_pixels: Largest width times height, checked before anything is decoded.

    Raises:
        ImageError: The file is not an image, damaged, cut off, too large, or cannot be read. The
            frames of a sequence raise it, too.
        DependencyError: The format needs a package that is not installed.

    Example:
        >>> import numpy as np
        >>> from upscale.images import Image, encode_file
        >>> content = encode_file(Image(np.zeros((4, 6, 3), np.uint8)), "png")
        >>> read_file(content).pixels.shape
        (4, 6, 3)
    """
    with _opened(source) as (name, file):
        codec = _detected_codec(name, file, source)
        header = _guarded(name, lambda: codec.read_header(file))
        _check_pixels(name, header, max_pixels)
        if header.frames > 1 and codec.decode_frames is not None:
            return ImageSequence(
                lambda: _frames(source, codec, max_pixels),
                header.frames,
                header.plays,
                codec.traits is None or codec.traits.frames == "animation",
                codec.name,
            )
        file.seek(0)
        raster = _guarded(name, lambda: codec.decode(file))
    return _guarded(name, lambda: _upright(header, raster, codec.name))


def read_image(source: Path | bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image:
    """Read a file with a single image; see `read_file`.

    Args:
        source: An image file, or its content.
        max_pixels: Largest width times height, checked before anything is decoded.

    Raises:
        ImageError: The file has several frames or pages, or cannot be read.
        DependencyError: The format needs a package that is not installed.

    Example:
        >>> import numpy as np
        >>> from upscale.images import Image, encode_file
        >>> read_image(encode_file(Image(np.zeros((4, 6, 3), np.uint8)), "bmp")).origin.format
        'bmp'
    """
    content = read_file(source, max_pixels=max_pixels)
    if isinstance(content, Image):
        return content
    name = "the image" if isinstance(source, bytes) else printable(source)
    raise ImageError(f"{name}: holds {content.count} frames or pages; extract the one you need")


def read_size(source: Path | bytes) -> tuple[int, int]:
    """Read width and height of the upright image; of a file, only the headers are read.

    Args:
        source: An image file, or its content.

    Raises:
        ImageError: The file is not an image, damaged, cut off, or cannot be read.

    Example:
        >>> import numpy as np
        >>> from upscale.images import Image, encode_file
        >>> read_size(encode_file(Image(np.zeros((4, 6, 3), np.uint8)), "webp"))
        (6, 4)
    """
    with _opened(source) as (name, file):
        codec = _detected_codec(name, file, source)
        header = _guarded(name, lambda: (codec.read_shape or codec.read_header)(file))
    if swaps_sides(header.orientation):
        return header.height, header.width
    return header.width, header.height


def _frames(source: Path | bytes, codec: Codec, max_pixels: int) -> Iterator[Frame]:
    """Decode the frames of a sequence."""
    assert codec.decode_frames is not None
    with _opened(source) as (name, file):
        frames = codec.decode_frames(file)
        while (frame := _guarded(name, lambda: next(frames, None))) is not None:
            _check_pixels(name, frame.header, max_pixels)
            yield _guarded(name, partial(_frame, frame, codec.name))


def _frame(frame: StoredFrame, format: str) -> Frame:
    return Frame(_upright(frame.header, frame.decode(), format), frame.seconds)


def _check_pixels(name: str, header: Header, limit: int) -> None:
    if header.width * header.height > limit:
        raise ImageError(
            f"{name}: {header.width}x{header.height} is more than the limit of {limit} "
            "pixels; raise the limit if you trust the file"
        )


@contextmanager
def _opened(source: Path | bytes) -> Generator[tuple[str, BinaryIO]]:
    """Return a name for messages, and the content as a seekable file."""
    if isinstance(source, bytes):
        yield "the image", io.BytesIO(source)
        return
    name = printable(source)
    with map_os_errors(source, ImageError, "an image file"), source.open("rb") as file:
        mode = source.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise ImageError(f"{name}: is not a file; give an image file")
        yield name, file if stat.S_ISREG(mode) else io.BytesIO(file.read())


def _detected_codec(name: str, file: BinaryIO, source: Path | bytes) -> Codec:
    start = file.read(SNIFF_BYTES)
    file.seek(0)
    if not start:
        raise ImageError(f"{name}: is empty; give an image file")
    format = detect(start, source.name if isinstance(source, Path) else None)
    if format is not None:
        return codecs()[format]
    kind = foreign_kind(start)
    problem = f"{kind} is not supported" if kind else "is not an image"
    raise ImageError(f"{name}: {problem}; give an image, for example JPEG, PNG, TIFF or WebP")


def _upright(header: Header, raster: Raster, format: str) -> Image:
    """Apply the orientation, and reset it in the metadata."""
    height, width = raster.pixels.shape[:2]
    if (width, height) != (header.width, header.height):
        raise MalformedError("is damaged")
    orientation, metadata, notes = header.orientation, header.metadata, header.notes
    metadata = replace(metadata, dpi=metadata.dpi or exif.resolution_of(metadata.exif))
    if orientation != 1:
        metadata = replace(
            metadata,
            exif=exif.reset_orientation(metadata.exif),
            xmp=xmp.reset_orientation(metadata.xmp),
        )
    if swaps_sides(orientation) and metadata.dpi:
        metadata = replace(metadata, dpi=metadata.dpi[::-1])
    if not raster.keeps_profile:
        metadata = replace(metadata, icc=None, cicp=None)
        notes = (*notes, "its colours were converted to sRGB")
    alpha = None if raster.alpha is None else upright(raster.alpha, orientation)
    origin = Origin(format, header.bits, header.quality, header.lossless, notes)
    origin = replace(origin, texture=header.texture)
    return Image(upright(raster.pixels, orientation), alpha, metadata, origin)


def _guarded(name: str, work: Callable[[], _T]) -> _T:
    """Run a decoder, and map its exceptions to messages of one line.

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
        # Decoders raise a dozen kinds of errors, which all mean "damaged" to a user.
        reason = "is cut off" if "truncated" in str(error).lower() else "is damaged"
        raise ImageError(f"{name}: {reason}; use an undamaged copy") from error
