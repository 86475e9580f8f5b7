"""Estimate the time and the size of an upscaled video from a few of its frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import av

from upscale.errors import VideoError
from upscale.files.printable import printable
from upscale.jobs.auto import AutoUpscaler
from upscale.jobs.colour import keeps_colour
from upscale.jobs.events import Status
from upscale.jobs.faces import FaceFactory
from upscale.jobs.video import FrameProgress, VideoRecord, video_record
from upscale.jobs.video_faces import VideoFaces
from upscale.jobs.video_frames import FrameOptions, FrameUpscaler, TensorUpscaler
from upscale.jobs.video_images import write_images
from upscale.jobs.video_plan import VideoJob
from upscale.jobs.video_samples import frame_at, video_samples
from upscale.jobs.video_segments import SegmentRunner
from upscale.video.container import open_video
from upscale.video.join import EncodedSegment
from upscale.video.segments import SegmentStore, split_into_segments

_SPOTS = 3
"""Parts of a video that are computed."""

_SECONDS = 20.0
"""Time that these should take together."""

_FEWEST, _MOST = 3, 24
"""Frames of each part."""


@dataclass(frozen=True, slots=True)
class VideoEstimate:
    """What a video would take.

    Attributes:
        seconds: Time in seconds.
        size: Size of the output in bytes.
        frames: Number of frames.
        computed: Number of frames that the estimate is based on.
    """

    seconds: float
    size: int
    frames: int
    computed: int


@dataclass(frozen=True, slots=True)
class _Spot:
    """A part of a video that was computed.

    Attributes:
        frames: Number of its frames.
        seconds: Time for each.
        first: Bytes of the first frame, with which decoding can start.
        rest: Bytes of all others.
    """

    frames: int
    seconds: float
    first: int
    rest: int


def estimate_video(
    job: VideoJob,
    upscalers: Sequence[TensorUpscaler | AutoUpscaler],
    progress: FrameProgress,
    *,
    faces: FaceFactory | None = None,
) -> VideoEstimate:
    """Compute and encode parts at the beginning, in the middle and near the end of a video.

    Args:
        job: Planned video.
        upscalers: Upscalers, one for each device; the first computes, and the others are taken for
            equally fast.
        progress: Callback for every part.
        faces: Factory of what restores faces; None to restore none.

    Raises:
        VideoError: No frame can be decoded.
        OutputError: There is no room for temporary files.
    """
    upscaler, options = _prepare(job, upscalers[0], faces)
    parts = _parts(job.times, _frames_of_a_part(job, upscaler, options))
    spots: list[_Spot] = []
    for number, times in enumerate(parts):
        progress(number, len(parts))
        spots += _compute(replace(job, times=times), upscaler, options)
    progress(len(parts), len(parts))
    if not spots:
        raise VideoError(f"{printable(job.video.path)}: no frame can be decoded")
    frames, computed = len(job.times), sum(spot.frames for spot in spots)
    pace = sum(spot.seconds * spot.frames for spot in spots) / computed
    size = _size(job, spots) + _other_bytes(job)
    return VideoEstimate(pace * frames / len(upscalers), size, frames, computed)


def estimate_record(
    job: VideoJob, source: Path, model: str, estimate: VideoEstimate
) -> VideoRecord:
    """Return the JSON record of an estimate.

    Args:
        job: Planned video.
        source: Source as the user named it.
        model: Name of the network.
        estimate: The estimate.
    """
    record = video_record(source, job.output, model, job, status=Status.PLANNED)
    record["estimated_seconds"] = round(estimate.seconds, 1)
    record["estimated_bytes"] = estimate.size
    return record


def _prepare(
    job: VideoJob, upscaler: TensorUpscaler | AutoUpscaler, faces: FaceFactory | None
) -> tuple[TensorUpscaler, FrameOptions]:
    """Choose networks, kernels and tiles as for the whole video."""
    settings, video, choice = job.settings, job.video, None
    if isinstance(upscaler, AutoUpscaler):
        choice = upscaler.choose(video_samples(video, deinterlace=settings.deinterlace))
        upscaler = upscaler.upscaler_for(choice)
    keeps = keeps_colour(
        settings.keep_colour,
        lambda: video_samples(video, deinterlace=settings.deinterlace),
        choice,
    )
    upscaler.resolve_kernels({})
    upscaler.resolve_tile(video.width, video.height)
    restored = None if faces is None else VideoFaces(faces)
    return upscaler, FrameOptions(keeps, settings.steady, restored)


def _frames_of_a_part(job: VideoJob, upscaler: TensorUpscaler, options: FrameOptions) -> int:
    """Return how many frames of a part can be computed in the time for it."""
    frame = frame_at(job.video, job.times[0])
    if frame is None:
        return _FEWEST
    formats = job.video.frame_format, job.encoder.frame_format
    frames = FrameUpscaler(*formats, upscaler, options)
    seconds = 0.0
    for _ in range(2):  # the first run also prepares the device
        start = perf_counter()
        frames.upscale(frames.load(frame)).frame()
        seconds = perf_counter() - start
    count = _SECONDS / _SPOTS / max(seconds, 1e-6)
    return round(min(max(count, _FEWEST), _MOST))


def _parts(times: Sequence[int], length: int) -> list[tuple[int, ...]]:
    """Return the times of parts in equal distances; all times of a short video."""
    if len(times) <= length * _SPOTS:
        return [tuple(times)]
    starts = [(len(times) - length) * (2 * part + 1) // (2 * _SPOTS) for part in range(_SPOTS)]
    return [tuple(times[start : start + length]) for start in starts]


def _compute(job: VideoJob, upscaler: TensorUpscaler, options: FrameOptions) -> Iterator[_Spot]:
    """Run the pipeline of a whole video on a part; yields nothing if no frame can be decoded."""
    moments: list[float] = []
    with TemporaryDirectory(prefix="upscale-estimate-") as name:
        output = Path(name) / "part.mkv"
        with SegmentStore(output, job.times, {}) as store:
            runner = SegmentRunner(job, store, lambda: moments.append(perf_counter()), options)
            runner.run((upscaler,))
            ended = perf_counter()
            segments = [each for each in store.encoded_segments() if each.path is not None]
            sizes = _image_sizes(job, segments, Path(name)) if job.pattern else _packets(segments)
    if sizes:
        frames = len(sizes)
        seconds = (ended - moments[0]) / max(1, frames - 1)
        yield _Spot(frames, seconds, sizes[0], sum(sizes[1:]))


def _packets(segments: Sequence[EncodedSegment]) -> list[int]:
    """Return the sizes of all frames in the order of decoding."""
    sizes: list[int] = []
    for segment in segments:
        with av.open(f"file:{segment.path}") as container:
            sizes += [packet.size for packet in container.demux(video=0) if packet.size]
    return sizes


def _image_sizes(job: VideoJob, segments: Sequence[EncodedSegment], folder: Path) -> list[int]:
    """Return the sizes of all frames as images."""
    assert job.pattern is not None
    pattern = replace(job.pattern, folder=folder / "images")
    numbers = {time: number for number, time in enumerate(job.times)}
    write_images(pattern, job.video, job.encoder, numbers, segments)
    return [path.stat().st_size for path in pattern.folder.iterdir()]


def _size(job: VideoJob, spots: Sequence[_Spot]) -> int:
    """Return the bytes of all frames: each segment begins with a large one."""
    firsts = len(split_into_segments(job.times))
    first = sum(spot.first for spot in spots) / len(spots)
    others = sum(spot.frames - 1 for spot in spots)
    mean = sum(spot.rest for spot in spots) / others if others else first
    return round(first * firsts + mean * (len(job.times) - firsts))


def _other_bytes(job: VideoJob) -> int:
    """Return the bytes of copied streams, as far as the source tells their bit rates."""
    if job.pattern is not None:
        return 0
    steps = [after - before for before, after in pairwise(job.times)]
    seconds = float((sum(steps) + (max(steps) if steps else 1)) * job.video.time_base)
    tracks = job.settings.audio_tracks
    with open_video(job.video.source, job.video.max_pixels) as source:
        rates = [
            (stream.codec_context.bit_rate or 0) if stream.codec_context else 0
            for stream in source.streams
            if stream.type == "audio"
            and job.settings.audio != "none"
            and (tracks is None or tracks.includes(stream))
        ]
    return round(sum(rates) / 8 * seconds)
