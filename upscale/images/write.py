"""Writing images: check and convert to what the format can hold, encode, and write atomically."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from upscale.errors import OutputError
from upscale.files.atomic import write_atomically
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale.images.codecs.registry import Codec, Traits
from upscale.images.encoding import Encoding
from upscale.images.formats import can_hold, format_of, writable_codec
from upscale.images.image import Frame, Image, ImageSequence, Metadata
from upscale.images.metadata import exif, xmp
from upscale.images.metadata.icc import in_srgb, linear_profile
from upscale.images.metadata.placement import Placement
from upscale.images.metadata.thumbnail import thumbnail
from upscale.images.pixels.depth import in_depth
from upscale.images.pixels.light import in_linear_light, in_srgb_curve, is_scene_light
from upscale.images.stored_metadata import reason_for_srgb, stored_metadata

_DEFAULT = Encoding()


def encode_file(
    content: Image | ImageSequence, format: str, encoding: Encoding = _DEFAULT
) -> bytes:
    """Encode an image, an animation or pages; samples deeper than the format's are rounded.

    Args:
        content: Image or sequence.
        format: Name of a format that can be written.
        encoding: Quality and losslessness.

    Raises:
        OutputError: The format cannot hold the content, or does not support the encoding.

    Example:
        >>> import numpy as np
        >>> encode_file(Image(np.zeros((4, 6, 3), np.uint8)), "gif")[:6]
        b'GIF89a'
    """
    target = io.BytesIO()
    encode_to(content, target, format, encoding)
    return target.getvalue()


def write_file(
    content: Image | ImageSequence,
    target: Path,
    *,
    format: str | None = None,
    encoding: Encoding = _DEFAULT,
    overwrite: bool = False,
) -> None:
    """Write an image, an animation or pages atomically; missing folders are created.

    Few frames of a sequence are in memory at any time. Their number, durations and plays are kept.

    Args:
        content: Image or sequence.
        target: The output file.
        format: Name of a format that can be written; None for that of the suffix.
        encoding: Quality and losslessness.
        overwrite: Replace an existing file; by default, an existing file is an error.

    Raises:
        OutputError: The format cannot hold the content, the file exists, or cannot be written.
        ImageError: A frame of a sequence cannot be read.

    Example:
        >>> import numpy as np
        >>> write_file(Image(np.zeros((4, 6, 3), np.uint8)), Path("black.png"))
        >>> Path("black.png").read_bytes()[1:4]
        b'PNG'
    """
    name = format_of(target.name) if format is None else format

    def write(file: BinaryIO) -> None:
        try:
            encode_to(content, file, name, encoding)
        except OutputError as error:
            raise OutputError(f"{printable(target)}: {error}") from error

    write_atomically(target, write, overwrite=overwrite)


def check_encoding(format: str, encoding: Encoding) -> None:
    """Check that a format supports an encoding.

    Args:
        format: Name of a format that can be written.
        encoding: Quality and losslessness.

    Raises:
        OutputError: The quality is out of range, or the format cannot be lossless.

    Example:
        >>> check_encoding("webp", Encoding(lossless=True))
    """
    quality, (codec, traits) = encoding.quality, writable_codec(format)
    if quality is not None and not 1 <= quality <= 100:
        raise OutputError(f"quality {quality} is out of range; use 1 to 100")
    if encoding.lossless and not traits.lossless:
        raise OutputError(f"{codec.label} cannot be lossless; choose another format")


def encode_to(
    content: Image | ImageSequence, target: BinaryIO, format: str, encoding: Encoding
) -> None:
    """Encode into an open, empty file; see `encode_file`.

    Args:
        content: Image or sequence.
        target: The file.
        format: Name of a format that can be written.
        encoding: Quality and losslessness.

    Raises:
        OutputError: The format cannot hold the content, or does not support the encoding.
    """
    codec, traits = writable_codec(format)
    check_encoding(codec.name, encoding)
    with _one_line_errors(codec.name):
        if isinstance(content, Image):
            assert codec.encode is not None
            prepared = _prepared(content, codec, traits)
            codec.encode(prepared, target, encoding.for_image(content, codec.name))
            return
        if codec.encode_sequence is None or traits.frames != (
            "animation" if content.animated else "pages"
        ):
            kind = "an animation" if content.animated else "several pages"
            raise OutputError(f"{codec.label} cannot hold {kind}; choose another format")
        codec.encode_sequence(_prepared_frames(content, codec, traits), target, encoding)


def _prepared_frames(sequence: ImageSequence, codec: Codec, traits: Traits) -> ImageSequence:
    """Prepare each frame when it is requested."""

    def frames() -> Iterator[Frame]:
        for frame in sequence.frames():
            yield replace(frame, image=_prepared(frame.image, codec, traits))

    return replace(sequence, frames=frames)


def _check(image: Image, format: str) -> None:
    reason = can_hold(
        format,
        alpha=image.alpha is not None,
        depth=image.depth,
        width=image.width,
        height=image.height,
        cicp=image.metadata.colour_numbers,
    )
    if reason:
        raise OutputError(f"{reason}; choose another format")


@contextmanager
def _one_line_errors(format: str) -> Generator[None]:
    """Map the exceptions of encoders to messages of one line; a full disk has its own."""
    try:
        yield
    except MemoryError:
        raise OutputError(f"encoding {format} needs more memory than there is") from None
    except (ValueError, RuntimeError) as error:
        raise OutputError(f"cannot encode {format} ({one_line(error)})") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise OutputError(f"cannot encode {format} ({one_line(error)})") from error


def _prepared(image: Image, codec: Codec, traits: Traits) -> Image:
    """Convert an image to a depth and colours of the format; its metadata to its size."""
    _check(image, codec.name)
    image = _in_light_of(image, traits)
    if reason_for_srgb(image, codec) is not None:
        image = in_srgb(image)
    depth = next(size for size in (8, 16, 32) if size >= traits.depth)
    alpha = None if image.alpha is None else in_depth(image.alpha, depth)
    metadata, _ = stored_metadata(_updated_metadata(image), codec)
    return replace(image, pixels=in_depth(image.pixels, depth), alpha=alpha, metadata=metadata)


def _in_light_of(image: Image, traits: Traits) -> Image:
    """Convert to linear light or from it, as the format requires."""
    if traits.is_linear:
        return in_linear_light(image)
    if not is_scene_light(image) or (traits.depth == 32 and "cicp" in traits.carries):
        return image
    if traits.depth < 32:
        return in_srgb_curve(image)
    metadata = replace(image.metadata, icc=linear_profile(), cicp=None)
    return replace(image, metadata=metadata)


def _updated_metadata(image: Image) -> Metadata:
    """Update sizes, positions and thumbnail in the metadata of an image."""
    metadata, size = image.metadata, (image.width, image.height)
    block, packet = metadata.exif, metadata.xmp
    if image.origin.size not in (None, size):
        placement = Placement(1, image.origin.size or size, size)
        block, packet = exif.placed(block, placement), xmp.placed(packet, placement)
    if block is not None:
        block = exif.resized(block, image.width, image.height)
        if exif.has_thumbnail(block):
            block = exif.with_thumbnail(block, thumbnail(image))
    packet = packet and xmp.resized(packet, image.width, image.height)
    return replace(metadata, exif=block, xmp=packet)
