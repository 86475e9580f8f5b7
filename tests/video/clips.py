"""Small videos whose frames show their number, so that each can be identified.

`make` writes one; `KINDS` lists common ones, which `make_kind` writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from upscale.video import ReadReport
from upscale.video.scheduling import ordinary_priority

WIDTH, HEIGHT = 64, 48
BITS = 8
DARK, LIGHT = 48, 208
SOUND = {"webm": "libopus", "avi": "mp2", "mpegts": "mp2"}
EXACT = {
    "libx264": {"qp": "0"},
    "libx265": {"x265-params": "lossless=1:log-level=none"},
    "ffv1": {},
}


@dataclass(frozen=True)
class Clip:
    """Properties of a video; times are in units of `time_base`."""

    times: tuple[int, ...]
    time_base: Fraction = Fraction(1, 12800)
    codec: str = "libx264"
    format: str = "yuv420p"
    container: str = "mp4"
    size: tuple[int, int] = (WIDTH, HEIGHT)
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    colour: tuple[int, int, int, int] = (2, 2, 2, 0)
    """Primaries, transfer, space and range, as numbered by FFmpeg."""
    sample_aspect: Fraction | None = None
    rotation: int = 0
    mirrored: bool = False
    interlaced: bool = False
    sound: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    """Tags of the video stream."""


def even(count: int, rate: int = 25, start: int = 0) -> tuple[int, ...]:
    """Return times of a constant frame rate in units of 1/12800 s."""
    return tuple(start + number * 12800 // rate for number in range(count))


def uneven(count: int, seed: int = 3) -> tuple[int, ...]:
    """Return times of a variable frame rate of 10 to 60 fps in units of 1/12800 s."""
    steps = np.random.default_rng(seed).integers(213, 1281, count)
    return tuple(int(time) for time in np.cumsum(steps) - steps[0])


def is_complete(report: ReadReport) -> bool:
    """Return whether all frames were read, and none was flagged as corrupt."""
    return not (report.lost or report.damaged)


KINDS: dict[str, Clip] = {
    "cfr": Clip(even(30), sound=True),
    "vfr": Clip(uneven(30)),
    "start": Clip(even(30, start=19200), container_options={"movie_timescale": "12800"}),
    "bframes": Clip(
        even(50), options={"x264-params": "open-gop=1:keyint=12:bframes=3:b-pyramid=normal:qp=0"}
    ),
    "one": Clip(even(1)),
    "rotated": Clip(even(20), rotation=90),
    "mirrored": Clip(even(20), rotation=0, mirrored=True),
    "anamorphic": Clip(even(20), sample_aspect=Fraction(16, 11)),
    "deep": Clip(even(20), format="yuv420p10le"),
    "deep12": Clip(even(20), codec="ffv1", format="yuv422p12le", container="nut"),
    "full": Clip(even(20), colour=(1, 1, 1, 2)),
    "bt601": Clip(even(20), colour=(6, 6, 6, 1)),
    "bt709": Clip(even(20), colour=(1, 1, 1, 1)),
    "bt2020": Clip(even(20), format="yuv420p10le", colour=(9, 14, 9, 1)),
    "interlaced": Clip(even(20), interlaced=True, options={"x264-params": "tff=1:qp=0"}),
    "444": Clip(even(20), format="yuv444p"),
    "422": Clip(even(20), codec="ffv1", format="yuv422p", container="nut"),
    "rgb": Clip(even(20), codec="ffv1", format="gbrp10le", container="nut"),
    "grey": Clip(even(20), codec="ffv1", format="gray", container="nut"),
    "alpha": Clip(even(20), codec="ffv1", format="yuva420p", container="nut"),
    "odd": Clip(even(20), codec="ffv1", size=(63, 47), container="nut"),
    "hevc": Clip(
        even(50),
        codec="libx265",
        options={"x265-params": "lossless=1:keyint=12:open-gop=1:log-level=none"},
    ),
    "hdr10": Clip(
        even(10),
        codec="libx265",
        format="yuv420p10le",
        colour=(9, 16, 9, 1),
        options={
            "x265-params": "lossless=1:log-level=none:hdr10=1:max-cll=1000,400:master-display="
            "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
        },
    ),
}


def make_kind(kind: str, folder: Path) -> Path:
    """Write one of `KINDS` into a folder, and return its path."""
    clip = KINDS[kind]
    return make(clip, folder / f"{kind}.{clip.container}")


def make(clip: Clip, path: Path) -> Path:
    """Write a video; frame n shows n modulo 256."""
    options = clip.container_options
    with ordinary_priority(), av.open(str(path), "w", container_options=options) as container:
        stream = _stream(container, clip)
        sound = _sound(container) if clip.sound else None
        for number, time in enumerate(clip.times):
            frame = image(number, clip.size, clip.format)
            frame.pts, frame.time_base = time, clip.time_base
            frame.color_primaries, frame.color_trc = clip.colour[:2]
            frame.colorspace, frame.color_range = clip.colour[2:]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            _fill(container, sound, float((clip.times[-1] - clip.times[0]) * clip.time_base))
    return path


def _stream(container, clip):
    options = {**EXACT.get(clip.codec, {}), **clip.options}
    if clip.interlaced:
        options["flags"] = "+ilme+ildct"
    stream = container.add_stream(clip.codec, rate=25, time_base=clip.time_base, options=options)
    stream.width, stream.height = clip.size
    stream.pix_fmt = clip.format
    stream.metadata.update(clip.tags)
    context = stream.codec_context
    context.time_base, context.thread_count = clip.time_base, 1
    context.color_primaries, context.color_trc = clip.colour[:2]
    context.colorspace, context.color_range = clip.colour[2:]
    if clip.sample_aspect:
        context.sample_aspect_ratio = clip.sample_aspect
    if clip.rotation or clip.mirrored:
        stream.set_display_rotation(clip.rotation, hflip=clip.mirrored)
    return stream


def _sound(container):
    codec = SOUND.get(container.format.name, "aac")
    return container.add_stream(codec, rate=48000, layout="mono")


def _fill(container, stream, seconds: float) -> None:
    count = max(1024, int(seconds * 48000))
    wave = np.sin(np.arange(count) * 0.05).astype(np.float32)[None] / 4
    kind = stream.codec_context.format.name
    if kind == "s16":
        wave = (wave * 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(wave, kind, "mono")
    frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def image(number: int, size: tuple[int, int], format: str) -> av.VideoFrame:
    """Return a frame that shows a number: bars for its bits above, a moving gradient below."""
    frame = av.VideoFrame(*size, format)
    parts = {component.plane: component for component in frame.format.components}
    for index, plane in enumerate(frame.planes):
        wide = parts[index].bits > 8
        kind = np.uint16 if wide else np.uint8
        lines = np.zeros((plane.height, plane.line_size // kind().itemsize), kind)
        shift = parts[index].bits - 8
        level = _level(number, plane.width, plane.height, index, frame.format.is_rgb)
        lines[:, : plane.width] = level << shift
        plane.update(lines.tobytes())
    return frame


def _level(number: int, width: int, height: int, index: int, rgb: bool) -> np.ndarray:
    """Return the 8-bit samples of one plane."""
    down, across = np.mgrid[:height, :width]
    slope = 40 + (across * 2 + down + number * 3) % 160
    if index in (1, 2) and not rgb:
        return (100 + index * 20 + number % 16 + across % 8).astype(np.uint16)
    lit = number >> (across * BITS // width) & 1
    return np.where(down < height // 2, np.where(lit, LIGHT, DARK), slope).astype(np.uint16)


def number_in(luma: np.ndarray, depth: int = 8) -> int:
    """Read the number that a frame's first plane shows, at any size."""
    height, width = luma.shape
    row = luma[height // 8 : height // 4].astype(float).mean(axis=0) / (1 << (depth - 8))
    bits = [row[int((bit + 0.5) * width / BITS)] > (DARK + LIGHT) / 2 for bit in range(BITS)]
    return sum(int(lit) << bit for bit, lit in enumerate(bits))
