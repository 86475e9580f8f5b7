"""Pages that compare a result with its input."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import starmap

from upscale.app.tasks import TaskFile
from upscale.compare import ImageSet, page_parts, version_of_file, version_of_image
from upscale.images import Image
from upscale.jobs.video_stills import video_stills

_STILLS = 3


def before_after(file: TaskFile) -> bytes:
    """Return the page that compares a result with its input; of videos, it shows some frames.

    Args:
        file: A file with a result.

    Raises:
        UpscaleError: The input or the result cannot be read.
    """
    sets = _of_video(file) if file.upload.is_video else _of_image(file)
    return b"".join(page_parts(file.upload.name, sets))


def _of_image(file: TaskFile) -> Iterator[ImageSet]:
    assert file.output is not None
    before = version_of_file(file.upload.path, "before")
    yield ImageSet(file.upload.name, (before, version_of_file(file.output, "after")))


def _of_video(file: TaskFile) -> Iterator[ImageSet]:
    assert file.output is not None
    before, after = (video_stills(path, _STILLS) for path in (file.upload.path, file.output))
    pairs = ((time, one, other) for (time, one), (_, other) in zip(before, after, strict=False))
    yield from starmap(_frame_set, pairs)


def _frame_set(time: float, before: Image, after: Image) -> ImageSet:
    versions = version_of_image(before, "before"), version_of_image(after, "after")
    return ImageSet(f"frame at {time:.2f} s", versions)
