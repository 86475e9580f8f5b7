"""The three steps of a job: load a file, upscale its content, store the result.

A file contains one image or a sequence of images; this module handles the difference.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from upscale.errors import DamagedImageError, ImageError, OutputError
from upscale.files.identity import FileState, file_state
from upscale.files.printable import printable
from upscale.files.regular import is_empty_file
from upscale.images import (
    DEFAULT_MAX_PIXELS,
    Encoding,
    Frame,
    Image,
    ImageSequence,
    TextureEncoding,
    can_hold,
    check_encoding,
    encode_file,
    losses,
    read_file,
    stripped,
    write_file,
)
from upscale.jobs.auto import AutoUpscaler
from upscale.jobs.faces import FaceStep
from upscale.jobs.image import PLAIN, ImageJob, ImageUpscaler, TileProgress, upscale_image
from upscale.jobs.inputs import named
from upscale.jobs.networks import for_content
from upscale.jobs.sequence import upscale_sequence
from upscale.jobs.trained import TrainedUpscaler
from upscale.options import OutputOptions, RunOptions, TextureOptions

if TYPE_CHECKING:
    from upscale.engine.upscaler import Report
    from upscale.selection import Choice

Content = Image | ImageSequence


def load(job: ImageJob, options: RunOptions) -> Content:
    """Read a job's input.

    Raises:
        ImageError: The input cannot be read, has more than `max_pixels`, or has changed since it
            was planned or while it is read. The frames of a sequence raise it, too.
    """
    with _advice(job):
        state = _state(job)
        content = read_file(
            job.source,
            max_pixels=options.max_pixels or DEFAULT_MAX_PIXELS,
            keep_damaged=options.keep_damaged,
        )
        if isinstance(content, ImageSequence):
            return replace(content, frames=lambda: _checked_frames(content, job, state))
        _check_unchanged(content, job, state)
        return content


def _checked_frames(
    sequence: ImageSequence, job: ImageJob, state: FileState | None
) -> Iterator[Frame]:
    for number, frame in enumerate(sequence.frames()):
        if number == 0:
            _check_unchanged(frame.image, job, state)
        yield frame
    _check_state(job, state)


def _check_unchanged(image: Image, job: ImageJob, state: FileState | None) -> None:
    """Check that an image is the one that was planned; `state` is that before it was read."""
    is_file = not isinstance(job.source, bytes)
    if is_file and (image.width, image.height) != job.size_in:
        width, height = job.size_in
        raise ImageError(
            f"{printable(job.label)}: was {width}x{height} and is now {image.width}x{image.height};"
            " run again when the file no longer changes"
        )
    _check_state(job, state)


def _check_state(job: ImageJob, state: FileState | None) -> None:
    now = _state(job)
    if state is not None and now is not None and not now.may_be_same(state):
        raise ImageError(
            f"{printable(job.label)}: changed while it was read;"
            " run again when the file no longer changes"
        )


def _state(job: ImageJob) -> FileState | None:
    """Return the state of a job's file; None for a stream, and for a file that is away."""
    try:
        return None if isinstance(job.source, bytes) else file_state(job.source)
    except OSError:
        return None


@contextmanager
def _advice(job: ImageJob) -> Generator[None]:
    """Name streams in errors as the user did, and the option for damaged files."""
    try:
        yield
    except ImageError as error:
        text = str(error)
        if isinstance(job.source, bytes):
            text = named(job.label, text)
        if isinstance(error, DamagedImageError) and error.may_be_kept:
            text += ", or pass --keep-damaged to save what can be read"
        raise type(error)(text) from error


def check(
    content: Content, job: ImageJob, options: OutputOptions, texture: TextureOptions = PLAIN
) -> None:
    """Check before the computation that the output format can hold the result.

    Raises:
        OutputError: The format does not support transparency, animations, pages or colours of the
            content, or the requested encoding.
        DependencyError: The encoding needs a package that is not installed.
    """
    width, height = job.size_out
    if isinstance(content, Image):
        alpha, depth, frames, animated = content.alpha is not None, content.depth, 1, False
    else:
        # Every format for several images supports transparency.
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
        raise OutputError(f"{printable(job.label)}: {reason}: pass -f {other}")
    if texture.normal_map and isinstance(content, Image) and content.pixels.shape[2] == 1:
        raise OutputError(
            f"{printable(job.label)}: is grey, so it holds no directions: leave out --normal-map"
        )
    encoding = _encoding(options, texture)
    check_encoding(job.format, encoding)
    if isinstance(content, Image):
        losses(content, job.format, encoding)


def choose(
    content: Content,
    job: ImageJob,
    upscaler: ImageUpscaler | AutoUpscaler | TrainedUpscaler,
    texture: TextureOptions = PLAIN,
    progress: TileProgress | None = None,
) -> tuple[ImageUpscaler, Choice | None]:
    """Return the upscaler for an image or all frames of a sequence, and why it was chosen.

    Args:
        content: Image or sequence.
        job: Job that the content belongs to.
        upscaler: Upscaler of the batch, which may choose or train networks for each image.
        texture: Kind of the content.
        progress: Function that is called with the steps of a training done and in total.

    Raises:
        UpscaleError: A chosen network cannot be loaded.
        ImageError: A frame cannot be read, or no network can be trained on the image.
    """
    if isinstance(upscaler, TrainedUpscaler):
        with _advice(job):
            return upscaler.upscaler_for(content, job, progress), None
    if not isinstance(upscaler, AutoUpscaler):
        return for_content(upscaler, content), None
    with _advice(job):
        choice = upscaler.choose_for(content, texture)
    return upscaler.upscaler_for(choice), choice


def upscale(
    content: Content,
    job: ImageJob,
    upscaler: ImageUpscaler,
    progress: TileProgress | None = None,
    texture: TextureOptions = PLAIN,
    *,
    keep_colour: bool = False,
    faces: FaceStep | None = None,
) -> tuple[Content, Report]:
    """Upscale an image, or every frame of a sequence, to the job's size; see `upscale_image`.

    Raises:
        UpscaleError: The engine cannot compute the image.
        ImageError: A frame cannot be read.
    """
    if isinstance(content, Image):
        return upscale_image(
            content, job.size_out, upscaler, progress, texture, keep_colour=keep_colour, faces=faces
        )
    with _advice(job):
        if faces is not None:
            faces.track(content)
        return upscale_sequence(
            content,
            job.size_out,
            lambda image, size, tiles: upscale_image(
                image, size, upscaler, tiles, texture, keep_colour=keep_colour, faces=faces
            ),
            progress,
        )


def store(
    content: Content,
    job: ImageJob,
    options: OutputOptions,
    stdout: BinaryIO | None,
    texture: TextureOptions = PLAIN,
) -> tuple[str, ...]:
    """Write an upscaled image or sequence to its job's target.

    Args:
        content: Upscaled image or sequence.
        job: Job that the content belongs to.
        options: Encoding, metadata and overwriting of the output.
        stdout: Stream for jobs without a target.
        texture: Kind of the content.

    Returns:
        Notes on what was converted or dropped between input and output.

    Raises:
        OutputError: The target cannot be written, or exists and `overwrite` is off.
    """
    if options.strip_metadata:
        content = _strip_metadata(content)
    encoding = _encoding(options, texture)
    if job.target is None:
        _write_to_stdout(content, job, encoding, stdout)
    else:
        write_file(
            content,
            job.target,
            format=job.format,
            encoding=encoding,
            overwrite=options.overwrite or (options.skip_existing and is_empty_file(job.target)),
        )
    first = content if isinstance(content, Image) else next(content.frames()).image
    return (*first.origin.notes, *losses(first, job.format, encoding))


def _encoding(options: OutputOptions, texture: TextureOptions) -> Encoding:
    return Encoding(
        options.quality,
        options.lossless or None,
        TextureEncoding(options.dds_format, options.mipmaps, texture.normal_map),
    )


def _write_to_stdout(
    content: Content, job: ImageJob, encoding: Encoding, stdout: BinaryIO | None
) -> None:
    if stdout is None:
        raise OutputError("standard output is not available")
    data = encode_file(content, job.format, encoding)
    try:
        stdout.write(data)
        stdout.flush()
    except OSError as error:
        raise OutputError(f"standard output: {error.strerror}") from error


def _strip_metadata(content: Content) -> Content:
    if isinstance(content, Image):
        return replace(content, metadata=stripped(content.metadata))

    def strip_frame(frame: Frame) -> Frame:
        image = frame.image
        return replace(frame, image=replace(image, metadata=stripped(image.metadata)))

    return replace(content, frames=lambda: (strip_frame(frame) for frame in content.frames()))


def damage_of(content: Content) -> tuple[str, ...]:
    """Return what is missing of a file that is damaged, once all of it has been read."""
    return content.origin.damage if isinstance(content, Image) else content.damage
