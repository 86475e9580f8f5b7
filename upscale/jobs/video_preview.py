"""A look at a video before all of it is computed: one frame, or before and after at some times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from upscale.compare import choose_crop
from upscale.errors import UsageError, VideoError
from upscale.files.printable import printable
from upscale.images import Image, Metadata, format_of, write_file
from upscale.images.image import Pixels
from upscale.images.metadata.cicp import named
from upscale.jobs.events import Status
from upscale.jobs.video import (
    FrameProgress,
    VideoSettings,
    fitting_size,
    notes_on,
    refuse_target,
    wanted_times,
)
from upscale.jobs.video_frames import FrameUpscaler, TensorUpscaler
from upscale.video.encoders import CONTAINERS, Encoder, plane_format
from upscale.video.info import DEFAULT_MAX_PIXELS, UNSPECIFIED, Colour, VideoFrame, VideoInfo
from upscale.video.probe import probe
from upscale.video.reader import read_frames

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_TIMES = 3
_DIGITS = 3
_GAP, _LABEL_HEIGHT, _FONT_SIZE = 8, 28, 18
_LABEL_LEVEL = 0.6
"""Of the highest code: light grey, and not blinding where codes mean up to 10,000 cd/m²."""

_SRGB, _PQ, _HLG = 13, 16, 18
_LIKE_SRGB = (1, 2, 6, 7, 11, 12, 13, 14, 15)
"""Transfer functions, by H.273, of videos that displays show as if they were sRGB."""

_BT2020 = 9


@dataclass(frozen=True, slots=True)
class PreviewJob:
    """A preview that can be made.

    Attributes:
        video: Where it comes from.
        output: The image to be.
        target: Size and colours of upscaled frames, as planes of red, green and blue.
        times: Of the frames, in units of the video's time base; a single one is shown alone.
        settings: What was asked for.
        notes: What is to be known of the video, a line each.
    """

    video: VideoInfo
    output: Path
    target: Encoder
    times: tuple[int, ...]
    settings: VideoSettings
    notes: tuple[str, ...]


def preview_name(source: Path, output: Path | None) -> Path:
    """The image to write: the one that is named, or one named after the video that is."""
    if output is not None and output.suffix.lower() not in CONTAINERS:
        return output
    video = output or source
    return video.with_name(f"{video.stem}_preview.png")


def plan_preview(
    source: Path,
    output: Path,
    size_of: Callable[[tuple[int, int]], tuple[int, int]],
    settings: VideoSettings,
    at: Sequence[Fraction] = (),
) -> PreviewJob:
    """Look through a video and choose frames.

    Args:
        source: The video.
        output: The image to be; its suffix names the format.
        size_of: Gives (width, height) of upscaled frames for those of the source.
        settings: What was asked for of the video; its encoding does not matter.
        at: Seconds from the video's own zero; none for times that are spread over what is wanted.

    Raises:
        VideoError: The source is no video that can be read, or nothing of it is wanted.
        OutputError: The output exists, or is no image that can be written.
        UsageError: A time lies behind the video's end.
    """
    format_of(output.name)
    refuse_target(source, output, overwrite=settings.overwrite)
    video = probe(source, max_pixels=settings.max_pixels or DEFAULT_MAX_PIXELS)
    wanted = wanted_times(video, settings)
    count = min(_TIMES, len(wanted))
    spread = [wanted[len(wanted) * (2 * part + 1) // (2 * count)] for part in range(count)]
    times = tuple(dict.fromkeys(_frame_at(video, time) for time in at)) or tuple(spread)
    size = fitting_size(video, size_of((video.width, video.height)))
    target = _as_rgb(video, size)
    return PreviewJob(video, output, target, times, settings, tuple(notes_on(video, settings)))


@dataclass(frozen=True, slots=True)
class PreviewReport:
    """What came of a preview.

    Attributes:
        times: Of the frames that are shown, in seconds.
        size: Width and height of the image in pixels.
    """

    times: tuple[float, ...]
    size: tuple[int, int]


class PreviewRecord(TypedDict):
    """The line of `upscale video --preview --json`, which docs/json.md describes."""

    input: str
    output: str
    status: str
    model: str
    times: list[float] | None
    size: list[int] | None
    notes: list[str]
    error: str | None


def preview_record(
    source: Path,
    output: Path,
    model: str,
    job: PreviewJob | None,
    report: PreviewReport | None = None,
    *,
    error: str | None = None,
) -> PreviewRecord:
    """What is printed of a preview that was written, or has failed; see `video_record`."""
    return {
        "input": str(source),
        "output": str(output),
        "status": str(Status.DONE if report else Status.FAILED),
        "model": model,
        "times": [round(time, _DIGITS) for time in report.times] if report else None,
        "size": list(report.size) if report else None,
        "notes": list(job.notes) if job else [],
        "error": error,
    }


def run_preview(
    job: PreviewJob, upscaler: TensorUpscaler, progress: FrameProgress
) -> PreviewReport:
    """Write the image.

    Raises:
        VideoError: There is no frame to be had at a time.
        OutputError: The image cannot be written.
    """
    video = job.video
    before = FrameUpscaler(video, _as_rgb(video, (video.width, video.height)), _Unchanged())
    after = FrameUpscaler(video, job.target, upscaler)
    rows: list[_Look] = []
    progress(0, len(job.times))
    for time in job.times:
        frame = replace(_frame(job, time), repeats=False)
        small, large = (_displayed(video, _pixels(each, frame)) for each in (before, after))
        rows.append(_Look(frame.pts * video.time_base, small, large))
        progress(len(rows), len(job.times))
    pixels = rows[0].after if len(rows) == 1 else _sheet(rows)
    image = Image(pixels, None, Metadata(cicp=_numbers(video.colour)))
    write_file(image, job.output, format=job.output.suffix, overwrite=job.settings.overwrite)
    times = tuple(float(row.time) for row in rows)
    return PreviewReport(times, (image.width, image.height))


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """A frame as it is shown, before and after, and its time in seconds."""

    time: Fraction
    before: Pixels
    after: Pixels


class _Unchanged:
    """Stands where a network would, and leaves frames as they are."""

    @property
    def device(self) -> torch.device:
        """The host."""
        import torch

        return torch.device("cpu")

    def resolve_tile(self, width: int, height: int, tile: int | None = None) -> int:
        """Have none."""
        del width, height
        return tile or 0

    def run_tensor(self, image: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """Return the image, which has that size already."""
        del size
        return image


def _frame_at(video: VideoInfo, seconds: Fraction) -> int:
    """Time of the frame that is on the screen at a moment."""
    end = video.plan[0] * video.time_base + (video.duration or 0)
    if seconds >= end:
        raise UsageError(f"--at {_clock(seconds)}: {printable(video.path)} ends at {_clock(end)}")
    return next((time for time in reversed(video.plan) if time * video.time_base <= seconds),
                video.plan[0])  # fmt: skip


def _frame(job: PreviewJob, time: int) -> VideoFrame:
    """The frame of a time, or the next one that can be decoded."""
    video = job.video
    frames = read_frames(video, start_pts=time, deinterlace=job.settings.deinterlace)
    frame = next(iter(frames), None)
    if frame is None:
        moment = _clock(time * video.time_base)
        raise VideoError(f"{printable(video.path)}: no frame can be decoded from {moment} on")
    return frame


def _as_rgb(video: VideoInfo, size: tuple[int, int]) -> Encoder:
    """What stands for an encoder of still images of a video."""
    deep = video.planes.depth > 8 or video.colour.transfer in (_PQ, _HLG)
    planes = plane_format("gbrp16le" if deep else "gbrp")
    return Encoder(
        codec="",
        encoder="",
        container="",
        width=size[0],
        height=size[1],
        planes=planes,
        pixel_format=planes.name,
        colour=replace(video.colour, matrix="rgb", full_range=True, chroma_location=0),
        options=(),
        tag=None,
        time_base=video.time_base,
        rate=video.rate,
        sample_aspect=video.sample_aspect,
    )


def _pixels(upscaler: FrameUpscaler, frame: VideoFrame) -> Pixels:
    """(H, W, 3) uint8 or uint16 of a frame, as stored."""
    made = upscaler.upscale(upscaler.load(frame)).frame()
    return np.dstack(made.planes)


def _displayed(video: VideoInfo, pixels: Pixels) -> Pixels:
    """A frame as players show it: its pixels square, turned and mirrored."""
    from upscale.engine.resize import resize

    height, width = pixels.shape[:2]
    shape = video.sample_aspect or Fraction(1)
    # Never smaller: a side is stretched, none is shrunk.
    size = round(width * max(shape, 1)), round(height / min(shape, 1))
    pixels = pixels if size == (width, height) else resize(pixels, *size)
    return np.ascontiguousarray(_turned(pixels, video.display_matrix))


def _turned(pixels: Pixels, matrix: Sequence[int] | None) -> Pixels:
    """Apply a display matrix, as far as it turns by right angles and mirrors."""
    if matrix is None:
        return pixels
    across, down = matrix[0], matrix[4]
    if abs(matrix[1]) > abs(matrix[0]):
        pixels = pixels.swapaxes(0, 1)
        across, down = matrix[3], matrix[1]
    return pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def _numbers(colour: Colour) -> tuple[int, int] | None:
    """Primaries and transfer function that the image says it has; None for sRGB's."""
    primaries = colour.primaries
    if primaries == UNSPECIFIED and colour.matrix == "bt2020":
        primaries = _BT2020
    return named(primaries, _SRGB if colour.transfer in _LIKE_SRGB else colour.transfer)


def _sheet(rows: Sequence[_Look]) -> Pixels:
    """One image of all: a label, before and after, at the pixels of the result."""
    lines: list[Pixels] = []
    for row in rows:
        before, after = _detail(row.before, row.after)
        width = after.shape[1]
        gap = np.zeros((after.shape[0] + _LABEL_HEIGHT, _GAP, 3), after.dtype)
        left = np.vstack((_label(f"{_clock(row.time)} before", width, after.dtype), before))
        right = np.vstack((_label("after", width, after.dtype), after))
        lines.append(np.hstack((gap, left, gap, right, gap)))
    width = max(line.shape[1] for line in lines)
    padded = [np.pad(line, ((0, _GAP), (0, width - line.shape[1]), (0, 0))) for line in lines]
    return np.vstack(padded)


def _detail(small: Pixels, large: Pixels) -> tuple[Pixels, Pixels]:
    """The part with most detail of a frame before, upscaled without a network, and after."""
    from upscale.engine.resize import resize

    height, width = large.shape[:2]
    across, down = width / small.shape[1], height / small.shape[0]
    box = choose_crop(small)
    columns = slice(round(box.x * across), round((box.x + box.width) * across))
    rows = slice(round(box.y * down), round((box.y + box.height) * down))
    return resize(small, width, height)[rows, columns], large[rows, columns]


def _label(text: str, width: int, kind: np.dtype[np.unsignedinteger[Any]]) -> Pixels:
    """(_LABEL_HEIGHT, width, 3) with a text."""
    pil_image = PILImage.new("L", (width, _LABEL_HEIGHT))
    font = ImageFont.load_default(_FONT_SIZE)
    ImageDraw.Draw(pil_image).text((0, _LABEL_HEIGHT // 2), text, fill=255, font=font, anchor="lm")
    level = np.asarray(pil_image) / 255 * _LABEL_LEVEL * np.iinfo(kind).max
    return np.repeat(level.astype(kind)[..., None], 3, axis=2)


def _clock(seconds: Fraction) -> str:
    """As 1:02:03.456, or 2:03.456 below an hour."""
    sign = "-" if seconds < 0 else ""
    minutes, rest = divmod(round(abs(seconds) * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{sign}{start}:{rest // 1000:02}.{rest % 1000:03}"
