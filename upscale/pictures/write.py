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


def encode_picture(picture: Picture, format: str, encoding: Encoding = _DEFAULT) -> bytes:
    """Encode a picture; samples deeper than the format holds are rounded.

    Raises:
        OutputError: The format cannot hold the picture, or the encoding is impossible.
    """
    target = io.BytesIO()
    _encode(picture, format, encoding, target)
    return target.getvalue()


def write_picture(
    picture: Picture,
    target: Path,
    *,
    format: str,
    encoding: Encoding = _DEFAULT,
    overwrite: bool = False,
) -> None:
    """Encode a picture and let it appear under its name, whole. Missing folders are made.

    Args:
        picture: What to write.
        target: The file; its suffix does not matter.
        format: A format that can be written.
        encoding: See `Encoding`.
        overwrite: Replace an existing file. Without it, one that appears meanwhile is kept too.

    Raises:
        OutputError: See `encode_picture`; or the file exists, or cannot be written.
    """
    _write(lambda file: _encode(picture, format, encoding, file), target, overwrite)


def encode_sequence(sequence: Sequence, format: str, encoding: Encoding = _DEFAULT) -> bytes:
    """Encode an animation or several pages; see `write_sequence`.

    Raises:
        OutputError: The format cannot hold them.
    """
    target = io.BytesIO()
    _encode_sequence(sequence, format, encoding, target)
    return target.getvalue()


def write_sequence(
    sequence: Sequence,
    target: Path,
    *,
    format: str,
    encoding: Encoding = _DEFAULT,
    overwrite: bool = False,
) -> None:
    """Encode an animation or several pages, of which few are in memory at any time.

    Frame times, their number and the number of plays are kept.

    Raises:
        OutputError: The format cannot hold them; or see `write_picture`.
        PictureError: What walking the frames raises.
    """
    _write(lambda file: _encode_sequence(sequence, format, encoding, file), target, overwrite)


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


def _write(encode: Callable[[BinaryIO], None], target: Path, overwrite: bool) -> None:
    """Publish what an encoder writes; its errors then name the file."""

    def named(file: BinaryIO) -> None:
        try:
            encode(file)
        except OutputError as error:
            raise OutputError(f"{shown(target)}: {error}") from error

    publish(target, named, overwrite=overwrite)


def _encode(picture: Picture, format: str, encoding: Encoding, target: BinaryIO) -> None:
    """Encode a picture whose metadata has been brought up to date."""
    name = format_of(format)
    check_encoding(name, encoding)
    _check(picture, name)
    with _one_line_errors(name):
        _ENCODERS[name](_prepared(picture, name), target, encoding.for_picture(picture, name))


def _encode_sequence(sequence: Sequence, format: str, encoding: Encoding, target: BinaryIO) -> None:
    """Encode frame after frame."""
    name = format_of(format)
    check_encoding(name, encoding)
    encode, traits = _SEQUENCE_ENCODERS.get(name), traits_of(name)
    if encode is None or traits.frames != ("animation" if sequence.animated else "pages"):
        held = "an animation" if sequence.animated else "several pages"
        raise OutputError(f"{traits.label} cannot hold {held}; choose another format")

    def frames() -> Iterator[Frame]:
        for frame in sequence.frames():
            _check(frame.picture, name)
            yield replace(frame, picture=_prepared(frame.picture, name))

    with _one_line_errors(name):
        encode(replace(sequence, frames=frames), target, encoding)


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
