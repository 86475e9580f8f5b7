"""The three stages of a job: load a file, enlarge what it holds, store the result.

A file holds one picture or a sequence of them; what differs between the two is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO

from upscale.errors import OutputError
from upscale.jobs.image import ImageJob, PictureUpscaler, TileProgress, enlarge_picture
from upscale.jobs.sequence import enlarge_sequence
from upscale.pictures import (
    DEFAULT_MAX_PIXELS,
    Encoding,
    Frame,
    Picture,
    Sequence,
    can_hold,
    check_encoding,
    encode_file,
    losses,
    read_file,
    stripped,
    write_file,
)

if TYPE_CHECKING:
    from upscale.engine.upscaler import Report

Content = Picture | Sequence


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """How results are written; `strip` leaves out what says who, where and with what."""

    encoding: Encoding = field(default_factory=Encoding)
    strip: bool = False
    overwrite: bool = False


def load(job: ImageJob, max_pixels: int | None) -> Content:
    """Read a job's input.

    Raises:
        PictureError: It cannot be read, or has more than `max_pixels`.
    """
    return read_file(job.source, max_pixels=max_pixels or DEFAULT_MAX_PIXELS)


def check(content: Content, job: ImageJob, encoding: Encoding) -> None:
    """Refuse before the computing what the format could not hold after it.

    Raises:
        OutputError: Transparency, an animation, pages or colours for which it has no place.
    """
    width, height = job.size_out
    if isinstance(content, Picture):
        alpha, depth, frames, animated = content.alpha is not None, content.depth, 1, False
    else:
        # What holds several pictures holds transparency, too.
        alpha, depth, frames, animated = False, 8, content.count, content.animated
    reason = can_hold(
        job.format,
        alpha=alpha,
        depth=depth,
        width=width,
        height=height,
        frames=frames,
        animated=animated,
        cicp=content.metadata.colour_numbers if isinstance(content, Picture) else None,
    )
    if reason is not None:
        other = "tiff" if frames > 1 and not animated else "png"
        raise OutputError(f"{job.label}: {reason}: give -f {other}")
    check_encoding(job.format, encoding)


def enlarge(
    content: Content,
    job: ImageJob,
    upscaler: PictureUpscaler,
    progress: TileProgress | None = None,
) -> tuple[Content, Report]:
    """Enlarge a picture, or every frame of a sequence, to the job's size.

    Raises:
        UpscaleError: What the engine raises; PictureError where frames cannot be read.
    """
    if isinstance(content, Picture):
        return enlarge_picture(content, job.size_out, upscaler, progress)

    def one(
        picture: Picture, size: tuple[int, int], progress: TileProgress | None
    ) -> tuple[Picture, Report]:
        return enlarge_picture(picture, size, upscaler, progress)

    return enlarge_sequence(content, job.size_out, one, progress)


def store(
    content: Content, job: ImageJob, settings: WriteSettings, stdout: BinaryIO | None
) -> tuple[str, ...]:
    """Write an enlarged picture or sequence to its job's target.

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
    first = content if isinstance(content, Picture) else next(content.frames()).picture
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
    if isinstance(content, Picture):
        return replace(content, metadata=stripped(content.metadata))

    def bare(frame: Frame) -> Frame:
        picture = frame.picture
        return replace(frame, picture=replace(picture, metadata=stripped(picture.metadata)))

    return replace(content, frames=lambda: (bare(frame) for frame in content.frames()))
