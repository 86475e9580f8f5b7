"""Write the frames of a video as numbered images, such as `out/00001.png`.

Until all frames are computed, they are kept as segments without loss, as those of a video are. So a
run resumes in the same way, and the images appear together.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import av
import numpy as np

from upscale.errors import OutputError, UsageError
from upscale.files.error_mapping import one_line
from upscale.files.identity import is_same_file
from upscale.files.printable import printable
from upscale.images import Image, Metadata, can_hold, format_of, label_of, write_file
from upscale.images.codecs.registry import codecs
from upscale.jobs.video_samples import colour_tags, oriented
from upscale.video.encoders import Encoder, VideoEncoding, resolve_encoder
from upscale.video.info import VideoInfo
from upscale.video.join import EncodedSegment
from upscale.video.numbered_images import ImagePattern, image_pattern
from upscale.video.planes import PlaneReader

_FORMATS = ("gbrp", "gbrap", "gbrp16le", "gbrap16le")
"""Pixel formats of frames that become images."""

_SEGMENTS = Path("segments.mkv")
_MOST_AT_ONCE, _BYTES_AT_ONCE = 8, 1 << 29
"""Images, and their bytes, that are compressed at the same time."""


def images_encoder(
    video: VideoInfo, encoding: VideoEncoding, pattern: ImagePattern, size: tuple[int, int]
) -> Encoder:
    """Choose the pixels of images, with the depth and transparency that the format can hold.

    Args:
        video: Source video.
        encoding: Options of the user, of which only the pixel format is one of images.
        pattern: Names of the images; their suffix selects the format.
        size: Width and height of the frames in pixels.

    Returns:
        An encoder of lossless frames, which are kept until the images are written.

    Raises:
        UsageError: Another option is given, or the pixel format is not one of images.
        OutputError: The format cannot hold the frames.
    """
    if encoding != VideoEncoding(pixel_format=encoding.pixel_format):
        raise UsageError("numbered images have no codec: leave out --for, --codec, --crf, --preset")
    format = format_of(pattern.suffix)
    traits = codecs()[format].traits
    assert traits is not None
    is_deep = (video.planes.depth > 8 or video.colour.is_hdr) and traits.depth > 8
    has_alpha = video.planes.alpha and traits.alpha == "full"
    pixels = encoding.pixel_format or _FORMATS[2 * is_deep + has_alpha]
    if pixels not in _FORMATS:
        raise UsageError(f"--pix-fmt {pixels}: images have one of {', '.join(_FORMATS)}")
    lossless = VideoEncoding("ffv1", pixel_format=pixels)
    encoder = resolve_encoder(video, lossless, _SEGMENTS, size)
    notes = tuple(line.replace("ffv1", label_of(format)) for line in encoder.notes)
    planes = encoder.frame_format.planes
    reason = can_hold(
        format,
        alpha=planes.alpha,
        depth=planes.depth,
        width=size[0],
        height=size[1],
        cicp=colour_tags(video.colour),
    )
    if reason is None and planes.depth > traits.depth:
        reason = f"{label_of(format)} has {traits.depth} bits at most"
    if reason is not None:
        raise OutputError(f"{printable(str(pattern))}: {reason}; use .png")
    return replace(encoder, codec=format, notes=notes)


def check_images_free(pattern: ImagePattern, source: Path, *, overwrite: bool) -> None:
    """Check that images may be written.

    Raises:
        OutputError: They are the input, or exist and may not be replaced.
    """
    name, folder = printable(str(pattern)), pattern.folder
    own = image_pattern(source)
    inputs = source if own is None or source.exists() else own.folder
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{printable(folder)}: is not a folder; choose another one")
    if inputs.is_dir() and is_same_file(inputs, folder):
        raise OutputError(f"{name}: is in the folder of the input; choose another folder")
    existing = _numbers(pattern)
    if existing and not overwrite:
        first = printable(pattern.name(existing[0]))
        raise OutputError(f"{name}: {first} already exists; pass --overwrite, or another folder")


def image_numbers(pattern: ImagePattern, video: VideoInfo, times: Sequence[int]) -> dict[int, int]:
    """Return the number of the image of each frame, by its time.

    Frames of numbered images keep their numbers; those of a video are counted from 1.

    Args:
        pattern: Names of the images.
        video: Source video.
        times: Times of the selected frames.

    Raises:
        OutputError: Images of a longer video would stay among the new ones.
    """
    first = 1
    if video.images is not None:
        first = video.images.first + video.frame_times.index(times[0])
    numbers = {time: first + place for place, time in enumerate(times)}
    others = set(_numbers(pattern)) - set(numbers.values())
    if others:
        raise OutputError(
            f"{printable(str(pattern))}: {printable(pattern.name(min(others)))} would stay among"
            " the new images; remove it and the like, or give another folder"
        )
    return numbers


def write_images(
    pattern: ImagePattern,
    video: VideoInfo,
    encoder: Encoder,
    numbers: Mapping[int, int],
    segments: Sequence[EncodedSegment],
    *,
    check_source: Callable[[], None] = lambda: None,
) -> int:
    """Write finished segments as images, which get their names when all are complete.

    Args:
        pattern: Names of the images.
        video: Source video.
        encoder: Encoder of the segments.
        numbers: Number of the image of each frame, by its time.
        segments: Segments in order.
        check_source: Function that raises an error if the source has changed.

    Returns:
        The number of images.

    Raises:
        OutputError: An image cannot be written.
    """
    format, count = format_of(pattern.suffix), 0

    def write(item: tuple[int, Image]) -> None:
        write_file(item[1], folder / pattern.name(item[0]), format=format, overwrite=True)

    shapes = encoder.frame_format.plane_shapes()
    size = sum(high * wide for high, wide in shapes) * (encoder.frame_format.planes.depth + 7) // 8
    at_once = max(1, min(_MOST_AT_ONCE, _BYTES_AT_ONCE // size))
    with _temporary_folder(pattern.folder) as folder, ThreadPoolExecutor(at_once) as pool:
        items = _images(video, encoder, numbers, segments)
        while some := list(islice(items, at_once)):
            list(pool.map(write, some))
            count += len(some)
        if not count:
            raise OutputError(
                f"{printable(str(pattern))}: no frame could be decoded, so nothing is written"
            )
        check_source()
        _put_in_place(folder, pattern.folder)
    return count


def _numbers(pattern: ImagePattern) -> list[int]:
    return pattern.numbers() if pattern.folder.is_dir() else []


def _images(
    video: VideoInfo,
    encoder: Encoder,
    numbers: Mapping[int, int],
    segments: Sequence[EncodedSegment],
) -> Iterator[tuple[int, Image]]:
    """Yield the number and the image of each frame, as players show it."""
    frames = encoder.frame_format
    metadata = Metadata(cicp=colour_tags(video.colour))
    for segment in segments:
        if segment.path is None:
            continue
        planes = PlaneReader(frames.planes, frames.width, frames.height)
        with av.open(f"file:{segment.path}") as container:
            for time, frame in zip(segment.times, container.decode(video=0), strict=True):
                arrays = planes.arrays(planes.planar(frame))
                pixels = oriented(np.dstack(arrays), video.display_matrix)
                alpha = np.ascontiguousarray(pixels[..., 3]) if frames.planes.alpha else None
                colours = np.ascontiguousarray(pixels[..., :3])
                yield numbers[time], Image(colours, alpha, metadata)


@contextmanager
def _temporary_folder(folder: Path) -> Generator[Path]:
    """Make an empty folder beside or in another one, which is deleted at the end."""
    hidden = folder.with_name(f".{folder.name}.upscale-images") if folder.name else None
    path = hidden or folder / ".upscale-images"
    try:
        if path.exists() or path.is_symlink():
            shutil.rmtree(path)  # of a run that was killed
        path.mkdir(parents=True)
        yield path
    except OSError as error:
        raise OutputError(f"{printable(path)}: cannot be written ({one_line(error)})") from error
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _put_in_place(folder: Path, target: Path) -> None:
    """Give images their names: all at once if their folder is new."""
    if not target.exists():
        folder.rename(target)
        return
    for path in sorted(folder.iterdir()):
        path.replace(target / path.name)
