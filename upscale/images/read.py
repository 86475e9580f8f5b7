"""Reading images: detect the format, check the size, decode, and turn upright."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from upscale.errors import DamagedImageError, ImageError
from upscale.files.error_mapping import map_os_errors
from upscale.files.printable import printable
from upscale.images.codecs.base import Header, MalformedError, Raster, StoredFrame
from upscale.images.codecs.registry import SNIFF_BYTES, Codec, codecs
from upscale.images.decoder_errors import guarded, salvaged
from upscale.images.foreign_kinds import NOT_AN_IMAGE, PROBE_BYTES, RAW, foreign_kind, is_raw_name
from upscale.images.formats import can_hold, detect
from upscale.images.image import DEFAULT_MAX_PIXELS, Frame, Image, ImageSequence, Origin
from upscale.images.metadata import exif, photoshop, xmp
from upscale.images.metadata.gain_map import turned
from upscale.images.metadata.placement import Placement
from upscale.images.partial_sequence import partial_frames
from upscale.images.pixels.orientation import swaps_sides, upright

_T = TypeVar("_T")

UNNAMED = "the image"
"""Name of content that comes from no file, in messages."""


def read_file(
    source: Path | bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS, keep_damaged: bool = False
) -> Image | ImageSequence:
    """Read an image, an animation or the pages of a document.

    The format is detected from the content, not the suffix. 8-bit samples become uint8, 16-bit
    samples uint16, floats float32; grey stays one channel; palettes become RGB; CMYK and Lab become
    sRGB. Images are turned upright by their EXIF orientation. Frames and pages are decoded when the
    sequence is iterated.

    Args:
        source: An image file, or its content.
        max_pixels: Largest width times height, checked before anything is decoded.
        keep_damaged: Read what can be decoded of a damaged file. `Origin.damage` of the image, or
            of the frames, says what is missing; it is empty for an undamaged file.

    Raises:
        DamagedImageError: The file is damaged or cut off. The frames of a sequence raise it, too.
        ImageError: The file is not an image, too large, or cannot be read.
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
        with _marked(may_be_kept=codec.salvage is not None and not keep_damaged):
            reading = _Reading(source, name, codec, max_pixels, keep_damaged)
            return _content(reading, file)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A file and how it is read."""

    source: Path | bytes
    name: str
    codec: Codec
    max_pixels: int
    keep_damaged: bool


def _content(reading: _Reading, file: BinaryIO) -> Image | ImageSequence:
    name, codec = reading.name, reading.codec
    salvage = codec.salvage if reading.keep_damaged else None
    header = salvaged(
        name,
        partial(_from_start, codec.read_header, file),
        salvage and salvage.read_header and partial(_from_start, salvage.read_header, file),
    )
    _check_pixels(name, header, reading.max_pixels)
    if header.frames > 1 and codec.decode_frames is not None:
        return ImageSequence(
            lambda: _frames(reading, header),
            header.frames,
            header.plays,
            codec.traits is None or codec.traits.frames == "animation",
            codec.name,
        )
    raster = salvaged(
        name,
        partial(_from_start, codec.decode, file),
        salvage and partial(_from_start, salvage.decode, file),
    )
    return guarded(name, lambda: _upright(header, raster, codec.name))


@contextmanager
def _marked(may_be_kept: bool) -> Generator[None]:
    """Add to errors of damaged files whether `keep_damaged` may read a part of them."""
    try:
        yield
    except DamagedImageError as error:
        error.may_be_kept = may_be_kept
        raise


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
    name = UNNAMED if isinstance(source, bytes) else printable(source)
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
        header = guarded(name, lambda: (codec.read_shape or codec.read_header)(file))
    if swaps_sides(header.orientation):
        return header.height, header.width
    return header.width, header.height


def own_format_reason(source: Path | bytes, size: tuple[int, int]) -> tuple[str, str] | None:
    """Return why an upscaled file cannot have the format of its source, and another format.

    Only headers are read, so a later reason, such as several pages, is not found.

    Args:
        source: An image file, or its content.
        size: Width and height of the upscaled image in pixels.

    Returns:
        A clause and the name of a format that can hold the image; None if its own can.

    Raises:
        ImageError: The file is not an image, damaged, cut off, or cannot be read.

    Example:
        >>> import numpy as np
        >>> from upscale.images import Image, encode_file
        >>> content = encode_file(Image(np.zeros((4, 6, 3), np.uint8)), "webp")
        >>> own_format_reason(content, (20_000, 30))
        ('20000x30: WebP is limited to 16383 px per side', 'png')
    """
    with _opened(source) as (name, file):
        codec = _detected_codec(name, file, source)
        if codec.traits is not None and not codec.reads_more:
            header = None
        else:
            header = guarded(name, lambda: codec.read_header(file))
    has_floats = header is not None and header.has_floats
    other = "tiff" if has_floats else "png"
    if codec.traits is None:
        return f"{codec.label} can only be read", other
    if has_floats and codec.traits.depth < 32:
        return f"{codec.label} is written without floats", other
    width, height = size
    if reason := can_hold(codec.name, alpha=False, depth=8, width=width, height=height):
        return f"{width}x{height}: {reason}", other
    if header is None:
        return None
    reason = can_hold(
        codec.name,
        alpha=header.has_alpha,
        depth=8,
        width=width,
        height=height,
        cicp=header.metadata.colour_numbers,
    )
    return (reason, other) if reason else None


def _from_start(read: Callable[[BinaryIO], _T], file: BinaryIO) -> _T:
    file.seek(0)
    return read(file)


def _frames(reading: _Reading, header: Header) -> Iterator[Frame]:
    """Decode the frames of a sequence."""
    codec, salvage = reading.codec, reading.codec.salvage
    decode_frames = codec.decode_frames
    if reading.keep_damaged and salvage is not None:
        decode_frames = salvage.decode_frames or decode_frames
    assert decode_frames is not None
    with _opened(reading.source) as (name, file):
        stored = decode_frames(file)
        read_next = partial(guarded, name, lambda: next(stored, None))
        decode = partial(_decoded, reading)
        if reading.keep_damaged:
            is_animation = codec.traits is None or codec.traits.frames == "animation"
            noun = "frame" if is_animation else "page"
            yield from partial_frames(noun, header, read_next, decode)
            return
        with _marked(may_be_kept=True):
            while (frame := read_next()) is not None:
                yield decode(frame)


def _decoded(reading: _Reading, stored: StoredFrame) -> Frame:
    name, format = reading.name, reading.codec.name
    _check_pixels(name, stored.header, reading.max_pixels)
    return guarded(
        name, lambda: Frame(_upright(stored.header, stored.decode(), format), stored.seconds)
    )


def _check_pixels(name: str, header: Header, limit: int) -> None:
    shown = header.width * header.height
    if max(shown, header.decoded_pixels) > limit:
        size = f"{header.width}x{header.height}" if shown > limit else f"{header.decoded_pixels}"
        raise ImageError(
            f"{name}: {size} is more than the limit of {limit} "
            "pixels; raise the limit if you trust the file"
        )


@contextmanager
def _opened(source: Path | bytes) -> Generator[tuple[str, BinaryIO]]:
    """Return a name for messages, and the content as a seekable file."""
    if isinstance(source, bytes):
        yield UNNAMED, io.BytesIO(source)
        return
    name = printable(source)
    with map_os_errors(source, ImageError, "an image file"), source.open("rb") as file:
        mode = source.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise ImageError(f"{name}: is not a file; give an image file")
        yield name, file if stat.S_ISREG(mode) else io.BytesIO(file.read())


def _detected_codec(name: str, file: BinaryIO, source: Path | bytes) -> Codec:
    start = file.read(SNIFF_BYTES)
    if not start:
        raise ImageError(f"{name}: is empty; give an image file")
    file_name = source.name if isinstance(source, Path) else None
    format = detect(start, file_name)
    if format == "tiff" and file_name is not None and is_raw_name(file_name):
        raise ImageError(f"{name}: {RAW.problem}; {RAW.advice}")
    if format is not None:
        file.seek(0)
        return codecs()[format]
    kind = foreign_kind(start + file.read(PROBE_BYTES - len(start))) or NOT_AN_IMAGE
    raise ImageError(f"{name}: {kind.problem}; {kind.advice}")


def _upright(header: Header, raster: Raster, format: str) -> Image:
    """Apply the orientation, and reset it in the metadata."""
    height, width = raster.pixels.shape[:2]
    if (width, height) != (header.width, header.height):
        raise MalformedError("is damaged")
    orientation, metadata = header.orientation, header.metadata
    notes = (*header.notes, *raster.notes)
    if metadata.dpi is None and metadata.density_ratio is None:
        metadata = replace(metadata, dpi=exif.resolution_of(metadata.exif))
    size = (height, width) if swaps_sides(orientation) else (width, height)
    if orientation != 1:
        resources = photoshop.without_paths(metadata.photoshop)
        if resources != metadata.photoshop:
            notes = (*notes, "its Photoshop paths were left out")
        placement = Placement(orientation, (width, height), size)
        metadata = replace(
            metadata,
            exif=exif.placed(exif.reset_orientation(metadata.exif), placement),
            xmp=xmp.placed(xmp.reset_orientation(metadata.xmp), placement),
            photoshop=resources,
        )
        try:
            gain_map = metadata.gain_map and turned(metadata.gain_map, orientation)
        except ValueError:
            gain_map, notes = None, (*notes, "its gain map, which is damaged, was left out")
        metadata = replace(metadata, gain_map=gain_map)
    if swaps_sides(orientation) and metadata.dpi:
        metadata = replace(metadata, dpi=metadata.dpi[::-1])
    if swaps_sides(orientation) and metadata.density_ratio:
        metadata = replace(metadata, density_ratio=metadata.density_ratio[::-1])
    if not raster.keeps_profile:
        metadata = replace(metadata, icc=None, cicp=None)
        notes = (*notes, "its colours were converted to sRGB")
    alpha = None if raster.alpha is None else upright(raster.alpha, orientation)
    damage = (*header.damage, *raster.damage)
    origin = Origin(
        format,
        bits=header.bits,
        quality=header.quality,
        lossless=header.lossless,
        notes=notes,
        damage=damage,
        size=size,
        storage=header.storage,
    )
    return Image(upright(raster.pixels, orientation), alpha, metadata, origin)
