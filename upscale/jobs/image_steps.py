"""The three stages of a job: load a file, upscale what it holds, store the result.

A file holds one image or a sequence of them; what differs between the two is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO

from upscale.errors import OutputError
from upscale.images import (
    DEFAULT_MAX_PIXELS,
    Encoding,
    Frame,
    Image,
    ImageSequence,
    can_hold,
    check_encoding,
    encode_file,
    losses,
    read_file,
    stripped,
    write_file,
)
from upscale.jobs.image import ImageJob, ImageUpscaler, TileProgress, upscale_image
from upscale.jobs.sequence import upscale_sequence

if TYPE_CHECKING:
    from upscale.engine.upscaler import Report

Content = Image | ImageSequence


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """How results are written; `strip` leaves out what says who, where and with what."""

    encoding: Encoding = field(default_factory=Encoding)
    strip: bool = False
    overwrite: bool = False


def load(job: ImageJob, max_pixels: int | None) -> Content:
    """Read a job's input.

    Raises:
        ImageError: It cannot be read, or has more than `max_pixels`.
    """
    return read_file(job.source, max_pixels=max_pixels or DEFAULT_MAX_PIXELS)


def check(content: Content, job: ImageJob, encoding: Encoding) -> None:
    """Refuse before the computing what the format could not hold after it.

    Raises:
        OutputError: Transparency, an animation, pages or colours for which it has no place.
    """
    width, height = job.size_out
    if isinstance(content, Image):
        alpha, depth, frames, animated = content.alpha is not None, content.depth, 1, False
    else:
        # What holds several images holds transparency, too.
        alpha, depth, frames, animated = False, 8, content.count, content.animated
    reason = can_hold(
        job.format,
        alpha=alpha,
        depth=depth,
        width=width,
        height=height,
        frames=frames,
        animated=animated,
        cicp=content.metadata.colour_numbers if isinstance(content, Image) else None,
    )
    if reason is not None:
        other = "tiff" if frames > 1 and not animated else "png"
        raise OutputError(f"{job.label}: {reason}: give -f {other}")
    check_encoding(job.format, encoding)


def upscale(
    content: Content,
    job: ImageJob,
    upscaler: ImageUpscaler,
    progress: TileProgress | None = None,
) -> tuple[Content, Report]:
    """UpscaleFunction an image, or every frame of a sequence, to the job's size.

    Raises:
        UpscaleError: What the engine raises; ImageError where frames cannot be read.
    """
    if isinstance(content, Image):
        return upscale_image(content, job.size_out, upscaler, progress)

    def one(
        image: Image, size: tuple[int, int], progress: TileProgress | None
    ) -> tuple[Image, Report]:
        return upscale_image(image, size, upscaler, progress)

    return upscale_sequence(content, job.size_out, one, progress)


def store(
    content: Content, job: ImageJob, settings: WriteSettings, stdout: BinaryIO | None
) -> tuple[str, ...]:
    """Write an upscaled image or sequence to its job's target.

    Returns:
        What was converted or left out on the way from the input to the output.

    Raises:
        OutputError: It cannot be written, or would replace a file without `overwrite`.
    """
    if settings.strip:
        content = _stripped(content)
    if job.target is None:
        _send(content, job, settings, stdout)
    else:
        write_file(
            content,
            job.target,
            format=job.format,
            encoding=settings.encoding,
            overwrite=settings.overwrite,
        )
    first = content if isinstance(content, Image) else next(content.frames()).image
    return (*first.origin.notes, *losses(first, job.format))


def _send(
    content: Content, job: ImageJob, settings: WriteSettings, stdout: BinaryIO | None
) -> None:
    """Write to standard output."""
    if stdout is None:
        raise OutputError("standard output is not available")
    data = encode_file(content, job.format, settings.encoding)
    try:
        stdout.write(data)
        stdout.flush()
    except OSError as error:
        raise OutputError(f"standard output: {error.strerror}") from error


def _stripped(content: Content) -> Content:
    if isinstance(content, Image):
        return replace(content, metadata=stripped(content.metadata))

    def bare(frame: Frame) -> Frame:
        image = frame.image
        return replace(frame, image=replace(image, metadata=stripped(image.metadata)))

    return replace(content, frames=lambda: (bare(frame) for frame in content.frames()))
