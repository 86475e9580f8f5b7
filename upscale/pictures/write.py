"""Write a picture: whole or not at all, and never over a file by accident."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from upscale.errors import OutputError
from upscale.pictures import (
    animation_write,
    avif_write,
    bmp,
    exif,
    gif,
    heif,
    jpeg,
    jxl,
    png,
    tiff_write,
    webp,
)
from upscale.pictures.depth import in_depth
from upscale.pictures.encoding import Encoding, Settled
from upscale.pictures.formats import Format, can_hold, format_of, traits_of
from upscale.pictures.names import shown
from upscale.pictures.picture import Frame, Metadata, Picture, Sequence
from upscale.pictures.profiles import in_srgb
from upscale.pictures.publish import one_line, publish
from upscale.pictures.thumbnail import thumbnail

_DEFAULT = Encoding()


def encode_file(content: Picture | Sequence, format: str, encoding: Encoding = _DEFAULT) -> bytes:
    """Encode a picture, an animation or pages; samples deeper than the format holds are rounded.

    Raises:
        OutputError: The format cannot hold them, or the encoding is impossible.
    """
    target = io.BytesIO()
    _encode(content, format, encoding, target)
    return target.getvalue()


def write_file(
    content: Picture | Sequence,
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
        PictureError: What walking the frames of a sequence raises.
    """

    def write(file: BinaryIO) -> None:
        try:
            _encode(content, format, encoding, file)
        except OutputError as error:
            raise OutputError(f"{shown(target)}: {error}") from error

    publish(target, write, overwrite=overwrite)


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


def _encode(content: Picture | Sequence, format: str, encoding: Encoding, target: BinaryIO) -> None:
    """Encode into an open file."""
    name = format_of(format)
    check_encoding(name, encoding)
    with _one_line_errors(name):
        if isinstance(content, Picture):
            prepared = _prepared(content, name)
            _ENCODERS[name](prepared, target, encoding.for_picture(content, name))
        else:
            _sequence_encoder(content, name)(_each_prepared(content, name), target, encoding)


def _sequence_encoder(sequence: Sequence, name: Format) -> _SequenceEncoder:
    encode, traits = _SEQUENCE_ENCODERS.get(name), traits_of(name)
    if encode is None or traits.frames != ("animation" if sequence.animated else "pages"):
        held = "an animation" if sequence.animated else "several pages"
        raise OutputError(f"{traits.label} cannot hold {held}; choose another format")
    return encode


def _each_prepared(sequence: Sequence, name: Format) -> Sequence:
    """The same frames, each prepared when its turn comes."""

    def frames() -> Iterator[Frame]:
        for frame in sequence.frames():
            yield replace(frame, picture=_prepared(frame.picture, name))

    return replace(sequence, frames=frames)


def _check(picture: Picture, name: Format) -> None:
    reason = can_hold(
        name,
        alpha=picture.alpha is not None,
        depth=picture.depth,
        width=picture.width,
        height=picture.height,
        cicp=picture.metadata.colour_numbers,
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


def _prepared(picture: Picture, name: Format) -> Picture:
    """The picture in a depth and colours that the format has, its metadata true to its size."""
    _check(picture, name)
    if "icc" not in traits_of(name).carries:
        picture = in_srgb(picture)
    depth = next(size for size in (8, 16, 32) if size >= traits_of(name).depth)
    alpha = None if picture.alpha is None else in_depth(picture.alpha, depth)
    metadata = _current(picture)
    return replace(picture, pixels=in_depth(picture.pixels, depth), alpha=alpha, metadata=metadata)


def _current(picture: Picture) -> Metadata:
    """Metadata whose size and thumbnail are those of the picture."""
    metadata, block = picture.metadata, picture.metadata.exif
    if block is not None:
        block = exif.resized(block, picture.width, picture.height)
        if exif.has_thumbnail(block):
            block = exif.with_thumbnail(block, thumbnail(picture))
    packet = metadata.xmp and exif.resized_xmp(metadata.xmp, picture.width, picture.height)
    return replace(metadata, exif=block, xmp=packet)


_Encoder = Callable[[Picture, BinaryIO, Settled], None]
_SequenceEncoder = Callable[[Sequence, BinaryIO, Encoding], None]
_ENCODERS: Mapping[Format, _Encoder] = {
    "jpeg": jpeg.encode,
    "png": lambda picture, target, _: png.encode(picture, target),
    "webp": webp.encode,
    "tiff": lambda picture, target, _: tiff_write.encode([picture], target),
    "bmp": lambda picture, target, _: bmp.encode(picture, target),
    "gif": lambda picture, target, _: gif.encode(picture, target),
    "avif": avif_write.encode,
    "heic": heif.encode,
    "jxl": jxl.encode,
}
_SEQUENCE_ENCODERS: Mapping[Format, _SequenceEncoder] = {
    "png": lambda animation, target, _: animation_write.write_png(animation, target),
    "webp": animation_write.write_webp,
    "avif": animation_write.write_avif,
    "gif": lambda animation, target, _: animation_write.write_gif(animation, target),
    "tiff": lambda pages, target, _: tiff_write.encode(
        (page.picture for page in pages.frames()), target, pages.count
    ),
}
