"""Open video files, select the video stream, and read and decode its packets."""

from __future__ import annotations

import errno
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import av
import av.logging
from av.container import InputContainer
from av.error import FFmpegError
from av.format import ContainerFormat
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from upscale.errors import VideoError
from upscale.files.error_mapping import map_os_errors
from upscale.files.printable import printable
from upscale.files.system_errors import raise_system_error
from upscale.out_of_memory import is_out_of_memory
from upscale.video.info import ANIMATION_FORMATS, DEFAULT_MAX_PIXELS
from upscale.video.mp4_index import too_many_samples
from upscale.video.numbered_images import NumberedImages
from upscale.video.pyav import open_input
from upscale.video.timeline import Timeline

# Playlists and pairs of files, which could name any other file, and text that FFmpeg renders.
_REFUSED_FORMATS = frozenset(
    {
        *("hls", "dash", "webm_dash_manifest", "concat", "imf", "vobsub", "image2", "image2pipe"),
        *("sdp", "rtsp", "rtp", "sap", "lavfi", "vapoursynth", "avisynth", "libopenmpt"),
        *("ffmetadata", "tty", "bin", "xbin", "adf", "idf"),
    }
)
MAX_STREAMS = 100
_IMAGE_SEQUENCE = "image2"
_IMAGE_FORMATS = {"image2", "image2pipe", "ico", "webp"}
_IMAGE_CODECS = {"mjpeg", "png", "bmp", "gif", "webp"}
_IMAGE_BRANDS = {"avif", "heic", "heix", "mif1"}
_MAX_MESSAGES = 3
_MAX_FAILURES = 100
"""Consecutive read errors after which a file is taken to have ended."""
_FRAMES_IN_MEMORY, _LARGEST_SAMPLE = 4, 8
"""Frames that a decoder holds at least, and bytes of their largest pixels."""
_MAX_PIXELS_OPTION = "max_pixels"
_REFUSED = "Format not on whitelist"
_MANY_STREAMS = "Number of streams exceeds"
_TOO_LARGE = re.compile(r"size (\d+x\d+) exceeds specified max pixel count")
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_NOT_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@contextmanager
def open_video(
    source: Path | NumberedImages,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    log: ErrorLog | None = None,
) -> Generator[InputContainer]:
    """Open a video file, or numbered images, for reading.

    Args:
        source: The file or the images.
        max_pixels: Largest accepted width * height of a frame, for all decoders.
        log: Log in use, which then also receives what FFmpeg reports while it opens the file.

    Raises:
        VideoError: The file does not exist, cannot be opened, has an unknown format, refers to
            other files, or has more streams or samples than FFmpeg should make room for.
    """
    if isinstance(source, NumberedImages):
        with _open_images(source, max_pixels) as container:
            yield container
        return
    path = source
    if path.is_dir():
        raise VideoError(f"{printable(path)}: is a folder; give a video")
    _check_index(path)
    options = {
        # File names are never interpreted as URLs, and no network is used.
        "protocol_whitelist": "file",
        # Derive missing timestamps from neighbouring packets where possible.
        "fflags": "+genpts",
        # Checked before FFmpeg opens any file that a playlist names.
        "format_whitelist": _accepted_formats(),
        "max_streams": str(MAX_STREAMS),
        _MAX_PIXELS_OPTION: str(max_pixels),
    }
    problem = "is not a video, or its header is damaged"
    with (
        map_os_errors(path, VideoError, "a video", errors=(FFmpegError, OSError), problem=problem),
        nullcontext(log) if log else ErrorLog() as messages,
    ):
        try:
            container = open_input(f"file:{path}", options)
        except FFmpegError as error:
            raise _refusal(path, messages) or error from None
    with container:
        yield container


@contextmanager
def _open_images(images: NumberedImages, max_pixels: int) -> Generator[InputContainer]:
    """Open numbered images, of which `find_images` has found all."""
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": _IMAGE_SEQUENCE,
        "framerate": str(images.rate),
        "start_number": str(images.first),
        _MAX_PIXELS_OPTION: str(max_pixels),
    }
    path = images.pattern.path(images.first)
    problem = "cannot be decoded"
    errors = (FFmpegError, OSError)
    with (
        map_os_errors(path, VideoError, "an image", errors=errors, problem=problem),
        ErrorLog(),
    ):
        url = f"file:{images.pattern.ffmpeg_name()}"
        container = open_input(url, options, format=_IMAGE_SEQUENCE)
    with container:
        yield container


def _check_index(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise VideoError(f"{printable(path)}: is not a regular file; save the video in one first")
    with map_os_errors(path, VideoError, "a video"), path.open("rb") as file:
        samples = too_many_samples(file)
    if samples is not None:
        raise VideoError(
            f"{printable(path)}: its index says {samples} samples, more than it can contain; "
            "check the file"
        )


@cache
def _accepted_formats() -> str:
    """Return FFmpeg's formats that contain a video by themselves, separated by commas."""
    names = {part for name in av.formats_available for part in name.split(",")}
    return ",".join(sorted(names - _REFUSED_FORMATS))


def _refusal(path: Path, log: ErrorLog) -> VideoError | None:
    """Return the error for a file that FFmpeg was told to refuse, None for other reasons."""
    if log.has(_MANY_STREAMS):
        return VideoError(f"{printable(path)}: has more than {MAX_STREAMS} streams; remove some")
    name = log.refused_format()
    if name in _IMAGE_FORMATS:
        return _is_image(path)
    return None if name is None else _is_other(path, ContainerFormat(name).long_name)


def select_video_stream(
    container: InputContainer, path: Path, index: int | None = None
) -> VideoStream:
    """Return the video stream to read, configured for decoding.

    This is the first stream flagged as default, otherwise the first one. Cover images are ignored,
    and images that are not flagged as covers come last.

    Args:
        container: Open file.
        path: File name for error messages.
        index: Index of the stream, if it is already known.

    Raises:
        VideoError: There is no video stream, the file is an image, or FFmpeg lacks the decoder.
    """
    _check_is_video(container, path)
    streams = [stream for stream in container.streams.video if not stream.disposition & _NOT_VIDEO]
    if index is not None:
        streams = [stream for stream in streams if stream.index == index]
    if not streams:
        raise VideoError(
            f"{printable(path)}: contains no video stream ({_describe_contents(container)});"
            " give a video"
        )
    streams = [each for each in streams if not _is_image_stream(each)] or streams
    default = [stream for stream in streams if stream.disposition & Disposition.default]
    stream = (default or streams)[0]
    context: Any = stream.codec_context
    if context is None:
        raise VideoError(
            f"{printable(path)}: FFmpeg cannot decode its video; convert it to another codec first"
        )
    # Frame threads hide damage, lose frames around it, and give different frames on each run.
    stream.thread_type = "SLICE"
    limit = container.options[_MAX_PIXELS_OPTION]
    context.options = {_MAX_PIXELS_OPTION: limit, **_decoder_options(context.codec.name)}
    return stream


def _is_image_stream(stream: VideoStream) -> bool:
    context: Any = stream.codec_context
    return context is not None and context.name in _IMAGE_CODECS


def read_packets(
    container: InputContainer, stream: VideoStream, timeline: Timeline | None = None
) -> Iterator[Packet[VideoStream]]:
    """Yield all packets of a stream that are not empty."""
    return (packet for packet in demux(container, stream, timeline=timeline) if packet.size)


def demux(
    container: InputContainer,
    *streams: Stream,
    errors: list[str] | None = None,
    timeline: Timeline | None = None,
) -> Iterator[Packet[Any]]:
    """Yield packets in file order; unreadable ones are skipped.

    Args:
        container: Open file, read from its current position.
        streams: Streams to read; all streams by default.
        errors: List to which the message of each read error is appended.
        timeline: Clock onto which the packets are moved.
    """
    failures = 0
    while failures < _MAX_FAILURES:
        try:
            for packet in container.demux(*streams):
                failures = failures if packet.size == 0 else 0
                if timeline is not None:
                    timeline.move(packet)
                yield packet
            if not has_packet_index(container):
                return
        except IndexError:
            # PyAV fails at the end if streams appeared while reading.
            return
        except FFmpegError as error:
            # Demuxers report EIO for files that are cut off, too; a broken drive is noticed where
            # the whole source is read for its checksum.
            if error.errno != errno.EIO:
                raise_system_error(error)
            if errors is not None:
                errors.append(str(error))
        # With an index, a packet beyond the end of the file looks like the end of the file.
        failures += 1


def has_packet_index(container: InputContainer) -> bool:
    """Return whether the file lists all of its packets, in the streams' index entries."""
    return container.format.name.startswith("mov,")


@dataclass(frozen=True)
class DecodeResult:
    """Result of decoding one packet.

    Attributes:
        packet: The packet; None at the end, when the decoder is flushed.
        frames: Decoded frames in presentation order, often those of earlier packets.
        error: Error message of the decoder, if it failed.
    """

    packet: Packet[VideoStream] | None
    frames: list[VideoFrame]
    error: str | None = None


def decode(stream: VideoStream, packets: Iterable[Packet[VideoStream]]) -> Iterator[DecodeResult]:
    """Decode packets one by one, and continue after those that the decoder rejects.

    Raises:
        MemoryError: There is no memory for the frames of this stream.
    """
    decoder = _alpha_decoder(stream) or stream
    for packet in chain(packets, (None,)):
        try:
            yield DecodeResult(packet, decoder.decode(packet))
        except (FFmpegError, MemoryError, ValueError) as error:
            # PyAV 19 has a ValueError for every packet after a decoder that does not open.
            if is_out_of_memory(error):
                _check_memory(stream)
            yield DecodeResult(packet, [], str(error))


def _alpha_decoder(stream: VideoStream) -> VideoCodecContext | None:
    """Return the decoder of a stream with transparency that FFmpeg's usual one leaves out."""
    context = stream.codec_context
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    name = _ALPHA_DECODERS.get(context.codec.canonical_name)
    if name is None or tags.get("alpha_mode") != "1" or name not in av.codecs_available:
        return None
    decoder = cast("VideoCodecContext", av.CodecContext.create(name, "r"))
    decoder.options = dict(context.options)
    decoder.thread_type = "SLICE"
    return decoder


def _check_memory(stream: VideoStream) -> None:
    """Check that there is memory for a few frames: damaged packets may claim far larger ones."""
    bytearray(_FRAMES_IN_MEMORY * _LARGEST_SAMPLE * stream.width * stream.height)


class ErrorLog:
    """Capture the errors that FFmpeg logs within a `with` block."""

    def __init__(self) -> None:
        # Of all threads, because decoders log from their own.
        self._capture = av.logging.Capture(local=False)
        self._logs: list[tuple[int, str, str]] = []
        self._level: int | None = None
        self._skipped = True

    def __enter__(self) -> Self:
        self._level = av.logging.get_level()
        av.logging.set_level(av.logging.ERROR)
        # Messages of earlier files may be the same.
        self._skipped = av.logging.get_skip_repeated()
        av.logging.set_skip_repeated(False)
        self._logs = self._capture.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._capture.__exit__(None, None, None)
        av.logging.set_level(self._level)
        av.logging.set_skip_repeated(self._skipped)

    def messages(self, container: str) -> tuple[str, ...]:
        """Return the first few different messages of a container format."""
        texts = (" ".join(text.split()) for _, name, text in self._logs if name == container)
        return tuple(islice(dict.fromkeys(texts), _MAX_MESSAGES))

    def has(self, text: str) -> bool:
        """Return whether a message contains a text."""
        return any(text in message for _, _, message in self._logs)

    def refused_format(self) -> str | None:
        """Return the name of a format that is not accepted, None without one."""
        names = (name for _, name, text in self._logs if text.startswith(_REFUSED))
        return next(names, None)

    def rejected_size(self) -> str | None:
        """Return the frame size that exceeded the limit, such as 100x100; None if none did."""
        matches = (_TOO_LARGE.search(text) for _, _, text in self._logs)
        return next((match[1] for match in matches if match), None)


def check_is_animated(path: Path, container: str, frames: int) -> None:
    """Check that a file of an animation format has several frames.

    Raises:
        VideoError: It is a single image.
    """
    if frames == 1 and container in ANIMATION_FORMATS:
        raise _is_image(path)


def discard_other_streams(container: InputContainer, stream: VideoStream) -> None:
    """Skip the packets of all other streams while reading."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all


def _decoder_options(decoder: str) -> dict[str, str]:
    """Make the AV1 decoder return frames one by one, so that errors do not affect neighbours."""
    return {"max_frame_delay": "1"} if decoder == "libdav1d" else {}


def _check_is_video(container: InputContainer, path: Path) -> None:
    name = container.format.name
    if name == _IMAGE_SEQUENCE:  # on request only; see `open_video`
        return
    if name.endswith("_demuxer"):
        raise _is_other(path, container.format.long_name)
    brand = container.metadata.get("major_brand", "").strip()
    if name in _IMAGE_FORMATS or name.endswith("_pipe") or brand in _IMAGE_BRANDS:
        raise _is_image(path)


def _is_other(path: Path, kind: str) -> VideoError:
    return VideoError(f"{printable(path)}: is not a video but {kind}; give a video")


def _is_image(path: Path) -> VideoError:
    return VideoError(f"{printable(path)}: is an image, not a video; leave out the word `video`")


def _describe_contents(container: InputContainer) -> str:
    types = sorted({stream.type for stream in container.streams if stream.type != "video"})
    if container.streams.video:
        types.append("a cover image")
    return " and ".join(types) or "no streams at all"
