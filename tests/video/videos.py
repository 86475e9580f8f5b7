"""Shared by tests of the output: generated videos, and frames for their encoders."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from tests.video.clips import Clip, even, make
from upscale.video.encoders import Encoder, VideoEncoding, codec_names, resolve_encoder
from upscale.video.info import Colour, HdrMetadata, MasteringDisplay, VideoFrame, VideoInfo
from upscale.video.join import EncodedSegment
from upscale.video.planes import plane_format
from upscale.video.segment_writer import SegmentWriter

SIZE = (64, 48)
HOLDER = {"prores": "out.mov", "ffv1": "out.mkv"}
FONT = b"\x00\x01\x00\x00 a font" * 20
SUBTITLES = ((100, "Hello"), (700, "Two\nlines"), (1500, "<i>Bye</i>"))
HERE = [name for name in codec_names() if "nvenc" not in name]


HDR10 = HdrMetadata(
    MasteringDisplay(
        tuple(
            (Fraction(x, 50000), Fraction(y, 50000))
            for x, y in ((34000, 16000), (13250, 34500), (7500, 3000), (15635, 16450))
        ),
        (Fraction(1, 10000), Fraction(1000)),
    ),
    (1000, 400),
)


def video(planes: str = "yuv420p", **changes) -> VideoInfo:
    """Return a common video, with some properties changed."""
    usual = VideoInfo(
        path=Path("in.mp4"),
        stream=0,
        width=32,
        height=24,
        planes=plane_format(planes),
        source_format=planes,
        colour=Colour("bt709", full_range=False, primaries=1, transfer=1, space=1),
        time_base=Fraction(1, 12800),
        frame_times=(0, 512),
        rate=Fraction(25),
        duration=None,
        sample_aspect=None,
        display_matrix=None,
        rotation=0,
        interlaced=False,
        hdr=None,
        timecode=None,
        codec="h264",
        container="mov",
    )
    return replace(usual, **changes)


def make_encoder(
    source: VideoInfo, output: str = "out.mkv", size: tuple[int, int] = SIZE, **options
) -> Encoder:
    """Resolve the encoder of a video."""
    return resolve_encoder(source, VideoEncoding(**options), Path(output), size)


def frames(encoder: Encoder, times: Sequence[int], first: int = 0) -> Iterator[VideoFrame]:
    """Yield frames for an encoder: a moving gradient with noise seeded by the frame number."""
    for number, time in enumerate(times, first):
        yield VideoFrame(time, tuple(_planes(encoder, number)))


def _planes(encoder: Encoder, number: int) -> Iterator[np.ndarray]:
    planes = encoder.frame_format.planes
    random = np.random.default_rng(number)
    for index, shape in enumerate(encoder.frame_format.plane_shapes()):
        down, across = np.indices(shape)
        level = (
            50 + 30 * index + (2 * across + down + 3 * number) % 80 + random.integers(0, 8, shape)
        )
        yield (level << (planes.depth - 8)).astype(np.uint8 if planes.depth == 8 else np.uint16)


def segment_files(
    folder: Path, encoder: Encoder, times: Sequence[int], length: int = 40
) -> list[EncodedSegment]:
    """Write all frames in segments, ready to be joined."""
    parts = []
    for start in range(0, len(times), length):
        path, own = folder / f"seg-{start}", tuple(times[start : start + length])
        with SegmentWriter(path, encoder) as writer:
            for frame in frames(encoder, own, start):
                writer.write(frame)
        with av.open(str(path)) as container:
            order = [packet.pts for packet in container.demux(video=0) if packet.size]
        delay = max(place - number for place, number in enumerate(order))
        parts.append(EncodedSegment(path, own, delay))
    return parts


def packets(path: Path) -> dict[int, list[tuple[Fraction, bytes]]]:
    """Return the time and content of all packets of each stream, sorted by time."""
    with av.open(str(path)) as container:
        found = {stream.index: [] for stream in container.streams}
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                found[packet.stream.index].append((packet.pts * packet.time_base, bytes(packet)))
    return {index: sorted(each) for index, each in found.items()}


def rich(folder: Path, times: Sequence[int] | None = None) -> Path:
    """Write Matroska with two audio streams, subtitles, chapters, a font, a cover and tags."""
    times = even(50) if times is None else times
    image = make(Clip(tuple(times), sound=True), folder / "image.mp4")
    path = folder / "rich.mkv"
    options = {"avoid_negative_ts": "disabled"}
    with (
        av.open(str(image)) as source,
        av.open(str(path), "w", container_options=options) as target,
    ):
        video, sound = source.streams.video[0], source.streams.audio[0]
        copies = {video: [target.add_stream_from_template(video, opaque=True)]}
        copies[sound] = [target.add_stream_from_template(sound) for _ in range(2)]
        texts = target.add_mux_stream("subrip", time_base=Fraction(1, 1000))
        for stream, language, title in (
            (copies[sound][0], "eng", "Stereo"),
            (copies[sound][1], "deu", "Kommentar"),
            (texts, "fra", "Sous-titres"),
        ):
            stream.metadata.update(language=language, title=title)
        copies[sound][1].disposition = Disposition.comment
        texts.disposition = Disposition.default | Disposition.forced
        target.add_attachment("font.ttf", "font/ttf", FONT)
        target.add_attachment("cover.png", "image/png", _png())
        target.metadata.update(title="A video", artist="Somebody", date="1999")
        target.set_chapters(
            [
                _chapter(1, 0, 1000, "One"),
                _chapter(2, 1000, 2000, "Two"),
            ]
        )
        _copy(source, target, copies)
        for start, text in SUBTITLES:
            packet = av.Packet(text.encode())
            packet.pts = packet.dts = start
            packet.duration, packet.time_base, packet.stream = 400, Fraction(1, 1000), texts
            target.mux(packet)
    return path


def _copy(source, target, copies) -> None:
    for packet in source.demux():
        if packet.dts is None:
            continue
        for copy in copies[packet.stream]:
            own = av.Packet(bytes(packet))
            own.pts, own.dts, own.duration = packet.pts, packet.dts, packet.duration
            own.time_base, own.is_keyframe = packet.time_base, packet.is_keyframe
            own.stream = copy
            target.mux(own)


def _chapter(number: int, start: int, end: int, title: str) -> dict:
    unit = Fraction(1, 1000)
    return {
        "id": number,
        "start": start,
        "end": end,
        "time_base": unit,
        "metadata": {"title": title},
    }


def _png() -> bytes:
    return cv2.imencode(".png", np.full((32, 32, 3), 90, np.uint8))[1].tobytes()


def ffprobe(path: Path, *flags: str) -> dict:
    """Return the output of ffprobe; skip the test if it is not installed."""
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    command = ["ffprobe", "-v", "error", "-of", "json", *flags, str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
