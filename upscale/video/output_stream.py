"""An output stream that is not the upscaled video: audio, subtitles or data."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

from av.codec.context import CodecContext
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.stream import SubtitleStream

from upscale.files.system_errors import raise_system_error
from upscale.video.encoders import MP4_CONTAINERS
from upscale.video.pyav import fraction
from upscale.video.recode import Recoder

_EMPTY_TEXT = b"\0\0"

_PREROLL = Fraction(1, 20)
"""Seconds of hidden sound that are kept for its decoder where the container cannot hide it."""

_MAX_CORRECTION = Fraction(1, 10)
"""Largest inaudible correction, in seconds, of timestamps that go back."""


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a video; the output starts at its beginning.

    Attributes:
        start: Start in seconds on the source's clock; None keeps that clock.
        end: End in seconds on the source's clock, exclusive; None for the end of the video.
    """

    start: Fraction | None = None
    end: Fraction | None = None


class OutputStream:
    """An output stream that takes the packets of one source stream.

    Args:
        source: Stream of the source.
        stream: Stream of the output.
        span: Part of the source that is written.
        converts: True if subtitles are converted to the text format of the container.
        container: FFmpeg's name of the output's container.
        recoder: Converter of sound; None if its packets are copied.

    Attributes:
        index: Index of the stream in the output.
        type: "audio", "subtitle" or "data"; or "cover" for an attached image.
        unit: Duration in seconds of one unit of `times`.
        times: Presentation times of the packets written.
        end: End of the last packet, in the same unit.
        size: Bytes of all packets written.
        is_pcm: True for samples without compression, which MOV divides into packets anew.
        has_outliers: True if timestamps went back so far that packets are out of sync.
        recoded: Number of subtitles that are not UTF-8 and were read as Windows-1252.
        unconvertible: Number of subtitles that could not be converted and were dropped.
    """

    def __init__(
        self,
        source: Stream,
        stream: Stream,
        span: Span,
        *,
        converts: bool,
        container: str,
        recoder: Recoder | None = None,
    ) -> None:
        self.index = stream.index
        is_cover = source.disposition & Disposition.attached_pic
        self.type = "cover" if is_cover else stream.type
        self.unit = fraction(source.time_base) or Fraction(1, 1000)
        self.times = array("q")
        self.end = self.size = 0
        self.has_outliers = False
        self.recoded = self.unconvertible = 0
        self._stream = stream
        self._source = source
        self._start = span.start or Fraction(0)
        self._converts = converts
        self.recoder = recoder
        # MP4 has empty packets between subtitles, which its muxer writes by itself.
        context = cast("CodecContext | None", source.codec_context)
        self._is_mov_text = context is not None and context.name == "mov_text"
        written = stream.codec_context if recoder else context
        self.is_pcm = written is not None and written.name.startswith("pcm_")
        self._last: int | None = None
        # Texts may start together, except in MP4.
        may_repeat = self.type in ("subtitle", "data") and container not in MP4_CONTAINERS
        self._least_step = 0 if may_repeat else 1
        self._hides = container in MP4_CONTAINERS

    def process(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """Yield the output packet of a source packet, unless it is empty."""
        if self._is_mov_text and packet.size <= len(_EMPTY_TEXT):
            return
        if not self._hides and packet.is_discard and not self._is_preroll(packet):
            return
        if self.recoder is not None:
            yield from map(self._timed, self.recoder.convert(packet))
            return
        pts, dts, duration = packet.pts, packet.dts, packet.duration or 0
        unit = packet.time_base
        result = self._convert(packet) if self._converts else packet
        if result is None:
            return
        self._set_times(result, pts, dts, duration, unit)
        result.stream = self._stream
        yield result

    def flush(self) -> Iterator[Packet[Any]]:
        """Yield the packets that remain after the last packet of the source."""
        if self.recoder is not None:
            yield from map(self._timed, self.recoder.convert(None))

    def _timed(self, packet: Packet[Any]) -> Packet[Any]:
        self._set_times(packet, packet.pts, packet.dts, packet.duration or 0, packet.time_base)
        packet.stream = self._stream
        return packet

    def _is_preroll(self, packet: Packet[Any]) -> bool:
        """Return whether a packet that an edit list hides is one that the decoder needs."""
        time = (packet.pts or 0) * packet.time_base - self._start
        return -_PREROLL <= time < 0

    def _convert(self, packet: Packet[Any]) -> Packet[Any] | None:
        """Convert a subtitle to the format of the output; None if it contains no text."""
        context = cast("SubtitleCodecContext", self._stream.codec_context)
        try:
            subtitle = cast("SubtitleStream", self._source).codec_context.decode2(
                self._to_utf8(packet)
            )
            return None if subtitle is None else context.encode_subtitle(subtitle)
        except FFmpegError as error:
            raise_system_error(error)
            self.unconvertible += 1
            return None

    def _to_utf8(self, packet: Packet[Any]) -> Packet[Any]:
        """Recode a subtitle to UTF-8, except mov_text, which starts with a binary length."""
        content = bytes(packet)
        try:
            content.decode()
        except UnicodeDecodeError:
            if self._is_mov_text:
                return packet
            self.recoded += 1
            result = Packet(content.decode("cp1252", "replace").encode())
            result.pts, result.dts, result.duration = packet.pts, packet.dts, packet.duration
            result.time_base = packet.time_base
            return result
        return packet

    def _set_times(
        self, packet: Packet[Any], pts: int | None, dts: int | None, duration: int, unit: Fraction
    ) -> None:
        """Convert timestamps to the output's clock, where decoding times must increase."""
        # The muxer chose its time base when it wrote the header.
        own = self.unit = fraction(self._stream.time_base) or self.unit
        source_time = dts if dts is not None else pts
        least = None if self._last is None else self._last + self._least_step
        if source_time is None:
            decode_at = least or 0
        else:
            decode_at = round((source_time * unit - self._start) / own)
        if least is not None and (least - decode_at) * own > _MAX_CORRECTION:
            self.has_outliers = True
        self._last = decode_at if least is None else max(decode_at, least)
        show_at = self._last if pts is None else round((pts * unit - self._start) / own)
        packet.time_base = own
        packet.dts, packet.pts = self._last, max(show_at, self._last)
        # MP4's readers drop the last packet of audio or data if its duration is 0.
        length = round(duration * unit / own)
        if not length and self.type == "audio" and self.times:
            length = max(0, packet.pts - self.times[-1])
        packet.duration = max(self.type == "data", length)
        if packet.size:  # the last packet of FLAC is empty, and completes the header
            self.times.append(packet.pts)
        self.end = max(self.end, packet.pts + packet.duration)
        self.size += packet.size
