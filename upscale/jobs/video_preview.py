"""Preview an upscaled video: one frame, or a sheet of frames before and after."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from upscale.compare import choose_crop
from upscale.errors import UsageError, VideoError
from upscale.files.atomic import remove_stale_temporaries
from upscale.files.printable import printable
from upscale.images import Image, Metadata, format_of, write_file
from upscale.images.image import Pixels
from upscale.jobs.auto import AutoUpscaler, ChoiceRecord, choice_record, chosen_names
from upscale.jobs.colour import keeps_colour
from upscale.jobs.events import Status
from upscale.jobs.faces import FaceFactory
from upscale.jobs.video import DIGITS, FrameProgress
from upscale.jobs.video_faces import VideoFaces
from upscale.jobs.video_frames import FrameOptions, FrameUpscaler, TensorUpscaler
from upscale.jobs.video_plan import (
    SizeFunction,
    VideoSettings,
    check_target,
    output_size,
    probe_source,
    select_times,
    source_notes,
)
from upscale.jobs.video_samples import (
    Unchanged,
    colour_tags,
    frame_at,
    oriented,
    rgb_format,
    rgb_pixels,
    video_samples,
)
from upscale.video.encoders import CONTAINERS
from upscale.video.info import FrameFormat, VideoFrame, VideoInfo

if TYPE_CHECKING:
    from upscale.selection import Choice

_DEFAULT_FRAMES = 3
_GAP, _LABEL_HEIGHT, _FONT_SIZE = 8, 28, 18
_LABEL_LEVEL = 0.6
"""Brightness of labels relative to the maximum, which is up to 10,000 cd/m² in HDR."""


@dataclass(frozen=True, slots=True)
class PreviewJob:
    """A preview that is ready to be processed.

    Attributes:
        video: Source video.
        output: Output image.
        target: Format of the upscaled frames.
        times: Times of the frames in units of the video's time base; one frame is shown alone.
        settings: Options of the user.
        notes: Warnings about the video, one line each.
    """

    video: VideoInfo
    output: Path
    target: FrameFormat
    times: tuple[int, ...]
    settings: VideoSettings
    notes: tuple[str, ...]


def preview_name(source: Path, output: Path | None) -> Path:
    """Return the image to write: the output if it is not a video, else NAME_preview.png."""
    if output is not None and output.suffix.lower() not in CONTAINERS:
        return output
    video = output or source
    return video.with_name(f"{video.stem}_preview.png")


def plan_preview(
    source: Path,
    output: Path,
    size_of: SizeFunction,
    settings: VideoSettings,
    at: Sequence[Fraction] = (),
) -> PreviewJob:
    """Probe a video and select the frames to show.

    Args:
        source: Source video.
        output: Output image; its suffix selects the format.
        size_of: Function that maps the source size to the size of upscaled frames.
        settings: Options of the user; the encoding is ignored.
        at: Times in seconds; by default, three times are spread over the selected part.

    Raises:
        VideoError: The source cannot be read, or no frame is selected.
        OutputError: The output exists, or its format cannot be written.
        UsageError: A time is after the end of the video.
    """
    format_of(output.name)
    check_target(source, output, overwrite=settings.overwrite)
    video, _ = probe_source(source, settings)
    selected = select_times(video, settings)
    count = min(_DEFAULT_FRAMES, len(selected))
    spread = [selected[len(selected) * (2 * part + 1) // (2 * count)] for part in range(count)]
    times = tuple(dict.fromkeys(_frame_time(video, time) for time in at)) or tuple(spread)
    target = rgb_format(video, output_size(video, size_of, settings))
    return PreviewJob(video, output, target, times, settings, tuple(source_notes(video, settings)))


@dataclass(frozen=True, slots=True)
class PreviewReport:
    """Result of a preview.

    Attributes:
        times: Times of the shown frames in seconds.
        size: Width and height of the image in pixels.
        choice: Why the network was chosen; None if the user named it.
        colour_kept: Whether the upscaled frames have the colours of their sources.
    """

    times: tuple[float, ...]
    size: tuple[int, int]
    choice: Choice | None = None
    colour_kept: bool = False


class PreviewRecord(TypedDict):
    """Result of `upscale video --preview --json`, described in docs/reference/json.md."""

    input: str
    output: str
    status: str
    model: str
    times: list[float] | None
    size: list[int] | None
    notes: list[str]
    error: str | None
    choice: ChoiceRecord | None
    colour_kept: bool | None


def preview_record(
    source: Path,
    output: Path,
    model: str,
    job: PreviewJob | None,
    report: PreviewReport | None = None,
    *,
    error: str | None = None,
) -> PreviewRecord:
    """Return the JSON record of a preview; the arguments are those of `video_record`."""
    choice = report.choice if report else None
    return {
        "input": str(source),
        "output": str(output),
        "status": str(Status.DONE if report else Status.FAILED),
        "model": chosen_names(choice) if choice else model,
        "times": [round(time, DIGITS) for time in report.times] if report else None,
        "size": list(report.size) if report else None,
        "notes": list(job.notes) if job else [],
        "error": error,
        "choice": choice_record(choice) if choice else None,
        "colour_kept": report.colour_kept if report else None,
    }


def run_preview(
    job: PreviewJob,
    upscaler: TensorUpscaler | AutoUpscaler,
    progress: FrameProgress,
    faces: FaceFactory | None = None,
) -> PreviewReport:
    """Write the preview image; networks are chosen as for the whole video.

    Args:
        job: Planned preview.
        upscaler: Network.
        progress: Callback for every frame.
        faces: Factory of what restores faces, which are not tracked here; None to restore none.

    Raises:
        VideoError: No frame can be decoded at one of the times.
        OutputError: The image cannot be written.
    """
    video, choice = job.video, None
    if isinstance(upscaler, AutoUpscaler):
        choice = upscaler.choose(video_samples(video, deinterlace=job.settings.deinterlace))
        upscaler = upscaler.upscaler_for(choice)
    source = video.frame_format
    size = (video.width, video.height)
    before = FrameUpscaler(source, rgb_format(video, size), Unchanged())
    keeps = keeps_colour(
        job.settings.keep_colour,
        lambda: video_samples(video, deinterlace=job.settings.deinterlace),
        choice,
    )
    options = FrameOptions(keeps, faces=None if faces is None else VideoFaces(faces))
    after = FrameUpscaler(source, job.target, upscaler, options)
    rows: list[_Comparison] = []
    progress(0, len(job.times))
    for time in job.times:
        frame = _read_frame(job, time)
        small = _as_displayed(video, rgb_pixels(before, frame), video.sample_aspect)
        aspect = None if job.settings.square_pixels else video.sample_aspect
        large = _as_displayed(video, rgb_pixels(after, frame), aspect)
        rows.append(_Comparison(frame.pts * video.time_base, small, large))
        progress(len(rows), len(job.times))
    pixels = rows[0].after if len(rows) == 1 else _sheet(rows)
    image = Image(pixels, None, Metadata(cicp=colour_tags(video.colour)))
    remove_stale_temporaries(job.output.parent)
    write_file(image, job.output, format=job.output.suffix, overwrite=job.settings.overwrite)
    times = tuple(float(row.time) for row in rows)
    return PreviewReport(times, (image.width, image.height), choice, keeps)


@dataclass(frozen=True, slots=True, eq=False)
class _Comparison:
    """A frame before and after upscaling, as displayed, and its time in seconds."""

    time: Fraction
    before: Pixels
    after: Pixels


def _frame_time(video: VideoInfo, seconds: Fraction) -> int:
    """Return the time of the frame that is displayed at a moment."""
    first = video.frame_times[0]
    end = first * video.time_base + (video.duration or 0)
    if seconds >= end:
        raise UsageError(f"--at {_clock(seconds)}: {printable(video.path)} ends at {_clock(end)}")
    shown = bisect_right(video.frame_times, seconds / video.time_base)
    return video.frame_times[max(shown - 1, 0)]


def _read_frame(job: PreviewJob, time: int) -> VideoFrame:
    """Return the frame at a time, or the next one that can be decoded."""
    frame = frame_at(job.video, time, deinterlace=job.settings.deinterlace)
    if frame is None:
        moment = _clock(time * job.video.time_base)
        raise VideoError(f"{printable(job.video.path)}: no frame can be decoded from {moment} on")
    return frame


def _as_displayed(video: VideoInfo, pixels: Pixels, aspect: Fraction | None) -> Pixels:
    """Return a frame as players show it: with square pixels, rotated and mirrored."""
    from upscale.engine.resize import resize

    height, width = pixels.shape[:2]
    aspect = aspect or Fraction(1)
    # One side is stretched, and none is shrunk.
    size = round(width * max(aspect, 1)), round(height / min(aspect, 1))
    pixels = pixels if size == (width, height) else resize(pixels, *size)
    return np.ascontiguousarray(oriented(pixels, video.display_matrix))


def _sheet(rows: Sequence[_Comparison]) -> Pixels:
    """Combine labelled frames before and after, at the resolution of the result."""
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
    """Crop the most detailed part of a frame, before (interpolated) and after."""
    from upscale.engine.resize import resize

    height, width = large.shape[:2]
    across, down = width / small.shape[1], height / small.shape[0]
    box = choose_crop(small)
    columns = slice(round(box.x * across), round((box.x + box.width) * across))
    rows = slice(round(box.y * down), round((box.y + box.height) * down))
    return resize(small, width, height)[rows, columns], large[rows, columns]


def _label(text: str, width: int, dtype: np.dtype[np.unsignedinteger[Any]]) -> Pixels:
    """Render a text as an array of shape (_LABEL_HEIGHT, width, 3)."""
    pil_image = PILImage.new("L", (width, _LABEL_HEIGHT))
    font = ImageFont.load_default(_FONT_SIZE)
    ImageDraw.Draw(pil_image).text((0, _LABEL_HEIGHT // 2), text, fill=255, font=font, anchor="lm")
    level = np.asarray(pil_image) / 255 * _LABEL_LEVEL * np.iinfo(dtype).max
    return np.repeat(level.astype(dtype)[..., None], 3, axis=2)


def _clock(seconds: Fraction) -> str:
    """Format a time as 1:02:03.456, or 2:03.456 below an hour."""
    sign = "-" if seconds < 0 else ""
    minutes, rest = divmod(round(abs(seconds) * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{sign}{start}:{rest // 1000:02}.{rest % 1000:03}"
