"""Find the captions and the HDR10+ metadata of a source for each frame of the output."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from upscale.video import captions, t35
from upscale.video.container import (
    decode,
    discard_other_streams,
    open_video,
    read_packets,
    select_video_stream,
)
from upscale.video.embedded import CAPTIONS, HDR10_PLUS, kept_in
from upscale.video.info import VideoInfo
from upscale.video.timeline import timeline_for

_Payloads = tuple[bytes, ...]

_MOST_WAITING = 100
"""Payloads that wait for a frame; damaged videos may have any number."""


def carried_data(
    video: VideoInfo, codec: str, times: Sequence[int], *, is_cut: bool
) -> dict[int, _Payloads]:
    """Return what is added to each packet of an output; see `t35`.

    Captions of frames that the output lacks go to the next frame. Frames that are made of others
    get the HDR10+ metadata of the last one at or before their time.

    Args:
        video: Source video.
        codec: FFmpeg's name of the output's codec.
        times: Times of the output's frames in units of the video's time base, sorted.
        is_cut: Whether captions before the first frame are left out.

    Returns:
        Payloads by the number of the frame.

    Raises:
        VideoError: The source cannot be read.
    """
    kept = kept_in(codec) & frozenset(video.registered)
    if not kept or not times:
        return {}
    stored = video.origin or video
    scale = round(stored.time_base / video.time_base)
    texts, scenes = list[tuple[int, bytes]](), dict[int, bytes]()
    for time, payload in _payloads(stored):
        if t35.is_hdr10_plus(payload) and HDR10_PLUS in kept:
            scenes[time * scale] = payload
        elif payload.startswith(t35.CAPTIONS) and CAPTIONS in kept:
            texts.append((time * scale, payload))
    texts = [each for each in texts if not is_cut or each[0] >= times[0]]
    texts.sort(key=lambda each: each[0])
    known = [time * scale for time in stored.frame_times]
    found = dict(_captions(texts, times))
    for number, time in enumerate(times):
        place = bisect_right(known, time) - 1
        scene = scenes.get(known[place]) if place >= 0 else None
        if scene is not None:
            found[number] = (*found.get(number, ()), scene)
    return found


def _captions(
    texts: Sequence[tuple[int, bytes]], times: Sequence[int]
) -> Iterator[tuple[int, _Payloads]]:
    """Yield the captions of each frame that has some."""
    place, rest = 0, list[bytes]()
    for number, time in enumerate(times):
        while place < len(texts) and texts[place][0] <= time:
            rest.append(texts[place][1])
            place += 1
        if len(rest) > 1:
            rest = list(captions.joined(rest))[:_MOST_WAITING]
        if rest:
            yield number, (rest.pop(0),)


def _payloads(video: VideoInfo) -> Iterator[tuple[int, bytes]]:
    """Yield all payloads of a stored video with the times of their frames."""
    with open_video(video.source, video.max_pixels) as container:
        stream = select_video_stream(container, video.path, video.stream)
        discard_other_streams(container, stream)
        codec = stream.codec_context.codec.canonical_name
        lengths = t35.length_bytes(codec, stream.codec_context.extradata or b"")
        read = _by_position if video.sequential else _by_time
        for time, content in read(video, container, stream):
            yield from ((time, each) for each in t35.payloads_in(codec, content, lengths))
            if codec == "mpeg2video":
                for after, payload in captions.of_dvd(content):
                    yield time + round(after / video.time_base), payload


def _by_time(
    video: VideoInfo, container: InputContainer, stream: VideoStream
) -> Iterator[tuple[int, bytes]]:
    timeline = timeline_for(video.container, video.stream, video.offsets)
    for packet in read_packets(container, stream, timeline):
        if packet.pts is not None and not packet.is_discard:
            yield packet.pts, bytes(packet)


def _by_position(
    video: VideoInfo, container: InputContainer, stream: VideoStream
) -> Iterator[tuple[int, bytes]]:
    """Decode the video to find the order of its packets, whose own times are unusable."""
    contents = list[bytes]()

    def numbered() -> Iterator[Packet[VideoStream]]:
        for packet in read_packets(container, stream):
            packet.pts = packet.dts = len(contents)
            contents.append(bytes(packet))
            yield packet

    frames = chain.from_iterable(result.frames for result in decode(stream, numbered()))
    shown = dict[int, int]()
    for frame, time in zip(frames, video.frame_times, strict=False):
        if frame.pts is not None:
            shown[frame.pts] = time
    time = video.frame_times[0]
    for number, content in enumerate(contents):
        # The second of two fields has no frame of its own.
        time = shown.get(number, time)
        yield time, content
