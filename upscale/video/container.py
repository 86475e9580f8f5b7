"""Open a video's file, choose its video stream, and refuse what is no video in one line."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import av.logging
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from upscale.errors import VideoError
from upscale.files.error_mapping import map_os_errors
from upscale.files.printable import printable
from upscale.video.info import DEFAULT_MAX_PIXELS

# Lists of other files, which a video from elsewhere could name at will, and text shown as images.
_REFUSED = {
    "hls",
    "dash",
    "concat",
    "ffmetadata",
    "tty",
    "bin",
    "xbin",
    "adf",
    "idf",
    "sdp",
    "rtsp",
}
_IMAGES = {"image2", "ico", "webp"}
_ANIMATIONS = {"gif", "apng", "jpegxl_anim", "webp_anim"}
_IMAGE_BRANDS = {"avif", "heic", "heix", "mif1"}
_MOST_COMPLAINTS = 3
# So many failures in a row are an end.
_MOST_FAILURES = 100
_MAX_PIXELS = "max_pixels"
_TOO_LARGE = re.compile(r"size (\d+x\d+) exceeds specified max pixel count")
_NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@contextmanager
def opened(path: Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> Generator[InputContainer]:
    """A video's file, opened for reading and closed at the end.

    Args:
        path: The file.
        max_pixels: The most that width times height of a frame may be, for all decoders.

    Raises:
        VideoError: It does not exist, cannot be opened, or is nothing that FFmpeg knows.
    """
    if path.is_dir():
        raise VideoError(f"{printable(path)}: is a folder; give a video")
    options = {
        # A name is never taken for an address, and nothing beyond this computer is asked.
        "protocol_whitelist": "file",
        # Packets without a time get one where their neighbours tell it.
        "fflags": "+genpts",
        _MAX_PIXELS: str(max_pixels),
    }
    told = "is no video, or its header is damaged"
    with map_os_errors(path, VideoError, "a video", errors=(FFmpegError, OSError), problem=told):
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    with container:
        yield container


def video_stream(container: InputContainer, path: Path, index: int | None = None) -> VideoStream:
    """The stream to read, ready to be decoded.

    It is the first that the file flags as default, or else the first; covers are not videos.

    Args:
        container: An open file.
        path: Its name, for messages.
        index: Of the stream, where that is known already.

    Raises:
        VideoError: There is none, it is an image, or FFmpeg cannot decode it.
    """
    _refuse_images(container, path)
    streams = [stream for stream in container.streams.video if not stream.disposition & _NO_VIDEO]
    if index is not None:
        streams = [stream for stream in streams if stream.index == index]
    if not streams:
        raise VideoError(
            f"{printable(path)}: holds no video ({_contents(container)}); give one that does"
        )
    default = [stream for stream in streams if stream.disposition & Disposition.default]
    stream = (default or streams)[0]
    context: Any = stream.codec_context
    if context is None:
        raise VideoError(
            f"{printable(path)}: FFmpeg cannot decode its video; convert it to another codec first"
        )
    # Threads that share a frame; those that take a frame each hide damage, lose frames around
    # it, and give other images there with each run.
    stream.thread_type = "SLICE"
    limit = container.options[_MAX_PIXELS]
    context.options = {_MAX_PIXELS: limit, **_extra(context.codec.name)}
    return stream


def packets_of(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """All packets of a stream, without the empty ones."""
    return (packet for packet in demux(container, stream) if packet.size)


def demux(
    container: InputContainer, *streams: Stream, refused: list[str] | None = None
) -> Iterator[Packet[Any]]:
    """Packets as they are stored; what cannot be read is passed over.

    Args:
        container: An open file, which is read on from where it is.
        streams: The only ones that are wanted; all if none is named.
        refused: Gets a line for each failure.
    """
    failures = 0
    while failures < _MOST_FAILURES:
        try:
            for packet in container.demux(*streams):
                failures = failures if packet.size == 0 else 0
                yield packet
            if not lists_packets(container):
                return
        except IndexError:
            # At the end the library stumbles over streams that came to light on the way.
            return
        except FFmpegError as error:
            if refused is not None:
                refused.append(str(error))
        # Of a packet that is said to lie behind the file's end, nothing but that end is told.
        failures += 1


def lists_packets(container: InputContainer) -> bool:
    """Whether a file has a list of all its packets, the entries of the streams' indices."""
    return container.format.name.startswith("mov,")


@dataclass(frozen=True)
class Decoded:
    """What came of one packet.

    Attributes:
        packet: None at the end, when the decoder hands out what it held back.
        frames: In the order of presentation; often of earlier packets.
        error: What the decoder said, if it refused.
    """

    packet: Packet[VideoStream] | None
    frames: list[VideoFrame]
    error: str | None = None


def decode(stream: VideoStream, packets: Iterable[Packet[VideoStream]]) -> Iterator[Decoded]:
    """Decode packet by packet to the very end; one that is refused does not stop those after."""
    for packet in chain(packets, (None,)):
        try:
            yield Decoded(packet, stream.decode(packet))
        except (FFmpegError, MemoryError) as error:
            yield Decoded(packet, [], str(error))


class Complaints:
    """The errors that FFmpeg speaks of while a video's container is read."""

    def __init__(self) -> None:
        # Of all threads: decoders have their own.
        self._capture = av.logging.Capture(local=False)
        self._said: list[tuple[int, str, str]] = []
        self._level: int | None = None

    def __enter__(self) -> Self:
        self._level = av.logging.get_level()
        av.logging.set_level(av.logging.ERROR)
        self._said = self._capture.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._capture.__exit__(None, None, None)
        av.logging.set_level(self._level)

    def about(self, container: str) -> tuple[str, ...]:
        """What was said of a container of that name: each thing once, a line each, not many."""
        said = (" ".join(text.split()) for _, name, text in self._said if name == container)
        return tuple(islice(dict.fromkeys(said), _MOST_COMPLAINTS))

    def too_large(self) -> str | None:
        """The size of frames that were refused for it, as 100x100; None if that was no matter."""
        sizes = (_TOO_LARGE.search(text) for _, _, text in self._said)
        return next((size[1] for size in sizes if size), None)


def _extra(decoder: str) -> dict[str, str]:
    """An AV1 decoder hands out frames one by one, so that damage to one takes no other along."""
    return {"max_frame_delay": "1"} if decoder == "libdav1d" else {}


def _refuse_images(container: InputContainer, path: Path) -> None:
    format = container.format.name
    if format in _REFUSED or format.endswith("_demuxer"):
        raise VideoError(
            f"{printable(path)}: is no video but {container.format.long_name}; give a video"
        )
    brand = container.metadata.get("major_brand", "").strip()
    if format in _IMAGES or format.endswith("_pipe") or brand in _IMAGE_BRANDS:
        raise VideoError(_image(path))


def refuse_still(path: Path, container: str, frames: int) -> None:
    """Refuse a format made for images that move, where this one does not.

    Raises:
        VideoError: It is one image.
    """
    if frames == 1 and container in _ANIMATIONS:
        raise VideoError(_image(path))


def only(container: InputContainer, stream: VideoStream) -> None:
    """Pass over the packets of all other streams, which saves the time to read them."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all


def _image(path: Path) -> str:
    return f"{printable(path)}: is an image, not a video; leave out the word `video`"


def _contents(container: InputContainer) -> str:
    kinds = sorted({stream.type for stream in container.streams if stream.type != "video"})
    if container.streams.video:
        kinds.append("a cover image")
    return " and ".join(kinds) or "no streams at all"
