"""Write an image: whole or not at all, and never over a file by accident."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from upscale.errors import OutputError
from upscale.files.atomic import write_atomically
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale.images import animation_write
from upscale.images.codecs import (
    avif_writer,
    bmp,
    gif,
    heif,
    jpeg,
    jxl,
    png,
    tiff_writer,
    webp,
)
from upscale.images.codecs.formats import Format, can_hold, format_of, traits_of
from upscale.images.encoding import Encoding, ResolvedEncoding
from upscale.images.image import Frame, Image, ImageSequence, Metadata
from upscale.images.metadata import exif
from upscale.images.metadata.icc import in_srgb
from upscale.images.metadata.thumbnail import thumbnail
from upscale.images.pixels.depth import in_depth

_DEFAULT = Encoding()


def encode_file(
    content: Image | ImageSequence, format: str, encoding: Encoding = _DEFAULT
) -> bytes:
    """Encode an image, an animation or pages; samples deeper than the format holds are rounded.

    Raises:
        OutputError: The format cannot hold them, or the encoding is impossible.
    """
    target = io.BytesIO()
    _encode(content, format, encoding, target)
    return target.getvalue()


def write_file(
    content: Image | ImageSequence,
    target: Path,
    *,
    format: str,
    encoding: Encoding = _DEFAULT,
    overwrite: bool = False,
) -> None:
    """Encode what `read_file` reads, and let it appear under its name, whole.

    Missing folders are made. Of a sequence few frames are in memory at any time; their times,
    number and plays are kept.

    Args:
        content: What to write.
        target: The file; its suffix does not matter.
        format: A format that can be written.
        encoding: See `Encoding`.
        overwrite: Replace an existing file. Without it, one that appears meanwhile is kept too.

    Raises:
        OutputError: See `encode_file`; or the file exists, or cannot be written.
        ImageError: What walking the frames of a sequence raises.
    """

    def write(file: BinaryIO) -> None:
        try:
            _encode(content, format, encoding, file)
        except OutputError as error:
            raise OutputError(f"{printable(target)}: {error}") from error

    write_atomically(target, write, overwrite=overwrite)


def check_encoding(format: str, encoding: Encoding) -> None:
    """Refuse what an encoding asks of a format that does not have it.

    Raises:
        OutputError: The quality is out of range, or the format has nothing lossless.
    """
    quality, traits = encoding.quality, traits_of(format)
    if quality is not None and not 1 <= quality <= 100:
        raise OutputError(f"quality {quality} is out of range; use 1 to 100")
    if encoding.lossless and not traits.lossless:
        raise OutputError(f"{traits.label} cannot be lossless; choose another format")


def _encode(
    content: Image | ImageSequence, format: str, encoding: Encoding, target: BinaryIO
) -> None:
    """Encode into an open file."""
    name = format_of(format)
    check_encoding(name, encoding)
    with _one_line_errors(name):
        if isinstance(content, Image):
            prepared = _prepared(content, name)
            _ENCODERS[name](prepared, target, encoding.for_image(content, name))
        else:
            _sequence_encoder(content, name)(_each_prepared(content, name), target, encoding)


def _sequence_encoder(sequence: ImageSequence, name: Format) -> _SequenceEncoder:
    encode, traits = _SEQUENCE_ENCODERS.get(name), traits_of(name)
    if encode is None or traits.frames != ("animation" if sequence.animated else "pages"):
        held = "an animation" if sequence.animated else "several pages"
        raise OutputError(f"{traits.label} cannot hold {held}; choose another format")
    return encode


def _each_prepared(sequence: ImageSequence, name: Format) -> ImageSequence:
    """The same frames, each prepared when its turn comes."""

    def frames() -> Iterator[Frame]:
        for frame in sequence.frames():
            yield replace(frame, image=_prepared(frame.image, name))

    return replace(sequence, frames=frames)


def _check(image: Image, name: Format) -> None:
    reason = can_hold(
        name,
        alpha=image.alpha is not None,
        depth=image.depth,
        width=image.width,
        height=image.height,
        cicp=image.metadata.colour_numbers,
    )
    if reason:
        raise OutputError(f"{reason}; choose another format")


@contextmanager
def _one_line_errors(name: Format) -> Generator[None]:
    """Turn what encoders raise into one line; a full disk keeps its own."""
    try:
        yield
    except MemoryError:
        raise OutputError(f"encoding {name} needs more memory than there is") from None
    except (ValueError, RuntimeError) as error:
        raise OutputError(f"cannot encode {name} ({one_line(error)})") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise OutputError(f"cannot encode {name} ({one_line(error)})") from error


def _prepared(image: Image, name: Format) -> Image:
    """The image in a depth and colours that the format has, its metadata true to its size."""
    _check(image, name)
    if "icc" not in traits_of(name).carries:
        image = in_srgb(image)
    depth = next(size for size in (8, 16, 32) if size >= traits_of(name).depth)
    alpha = None if image.alpha is None else in_depth(image.alpha, depth)
    metadata = _current(image)
    return replace(image, pixels=in_depth(image.pixels, depth), alpha=alpha, metadata=metadata)


def _current(image: Image) -> Metadata:
    """Metadata whose size and thumbnail are those of the image."""
    metadata, block = image.metadata, image.metadata.exif
    if block is not None:
        block = exif.resized(block, image.width, image.height)
        if exif.has_thumbnail(block):
            block = exif.with_thumbnail(block, thumbnail(image))
    packet = metadata.xmp and exif.resized_xmp(metadata.xmp, image.width, image.height)
    return replace(metadata, exif=block, xmp=packet)


_Encoder = Callable[[Image, BinaryIO, ResolvedEncoding], None]
_SequenceEncoder = Callable[[ImageSequence, BinaryIO, Encoding], None]
_ENCODERS: Mapping[Format, _Encoder] = {
    "jpeg": jpeg.encode,
    "png": lambda image, target, _: png.encode(image, target),
    "webp": webp.encode,
    "tiff": lambda image, target, _: tiff_writer.encode([image], target),
    "bmp": lambda image, target, _: bmp.encode(image, target),
    "gif": lambda image, target, _: gif.encode(image, target),
    "avif": avif_writer.encode,
    "heic": heif.encode,
    "jxl": jxl.encode,
}
_SEQUENCE_ENCODERS: Mapping[Format, _SequenceEncoder] = {
    "png": lambda animation, target, _: animation_write.write_png(animation, target),
    "webp": animation_write.write_webp,
    "avif": animation_write.write_avif,
    "gif": lambda animation, target, _: animation_write.write_gif(animation, target),
    "tiff": lambda pages, target, _: tiff_writer.encode(
        (page.image for page in pages.frames()), target, pages.count
    ),
}
