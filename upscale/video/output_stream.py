"""A stream beside the image on its way into an output: sound, subtitles, data."""

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

_NO_TEXT = b"\0\0"

_DISORDER = Fraction(1, 10)
"""Seconds by which the times of sound may go back without being heard to be out of step."""


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a video, whose start becomes the output's: all of it by default.

    Attributes:
        start: In seconds on the source's clock; None leaves that clock as it is.
        end: In seconds on the source's clock, itself no more in it; None for the video's own.
    """

    start: Fraction | None = None
    end: Fraction | None = None


class Target:
    """A stream of the output that takes packets of one of the source.

    Attributes:
        index: In the output.
        type: Of the stream: "audio", "subtitle", "data"; or "cover" for an image of the video.
        unit: Seconds in a unit of `times`.
        times: Presentation times of what was taken.
        disordered: Whether times went back so far that packets are out of step.
        guessed: How many texts were not in UTF-8 and taken for Windows' Western one.
        refused: How many texts could not be converted, and are left out.
    """

    def __init__(self, source: Stream, stream: Stream, span: Span, *, converts: bool) -> None:
        self.index = stream.index
        is_cover = source.disposition & Disposition.attached_pic
        self.type = "cover" if is_cover else stream.type
        self.unit = source.time_base or Fraction(1, 1000)
        self.times = array("q")
        self.disordered = False
        self.guessed = self.refused = 0
        self._stream = stream
        self._source = source
        self._start = span.start or Fraction(0)
        self._converts = converts
        # Between subtitles, MP4 has empty ones, which its muxer makes by itself.
        context = cast("CodecContext | None", source.codec_context)
        self._is_text = context is not None and context.name == "mov_text"
        self._last: int | None = None

    def take(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """The packet for the output, if the one of the source has anything in it."""
        if self._is_text and packet.size <= len(_NO_TEXT):
            return
        pts, dts, duration = packet.pts, packet.dts, packet.duration or 0
        unit = packet.time_base
        taken = self._converted(packet) if self._converts else packet
        if taken is None:
            return
        self._set_times(taken, pts, dts, duration, unit)
        taken.stream = self._stream
        yield taken

    def _converted(self, packet: Packet[Any]) -> Packet[Any] | None:
        """A text in the form of the output; None where there is none in it."""
        context = cast("SubtitleCodecContext", self._stream.codec_context)
        try:
            subtitle = cast("SubtitleStream", self._source).codec_context.decode2(
                self._in_utf8(packet)
            )
            return None if subtitle is None else context.encode_subtitle(subtitle)
        except FFmpegError:
            self.refused += 1
            return None

    def _in_utf8(self, packet: Packet[Any]) -> Packet[Any]:
        """The same text; what stands before the text of QuickTime's is no text."""
        content = bytes(packet)
        try:
            content.decode()
        except UnicodeDecodeError:
            if self._is_text:
                return packet
            self.guessed += 1
            recoded = Packet(content.decode("cp1252", "replace").encode())
            recoded.pts, recoded.dts, recoded.duration = packet.pts, packet.dts, packet.duration
            recoded.time_base = packet.time_base
            return recoded
        return packet

    def _set_times(
        self, packet: Packet[Any], pts: int | None, dts: int | None, duration: int, unit: Fraction
    ) -> None:
        """Put times on the output's clock, where decoding times have to grow."""
        # The muxer chose it when it wrote the header.
        own = self.unit = self._stream.time_base or self.unit
        decoded = dts if dts is not None else pts
        least = None if self._last is None else self._last + 1
        placed = least or 0 if decoded is None else round((decoded * unit - self._start) / own)
        if least is not None and (least - placed) * own > _DISORDER:
            self.disordered = True
        self._last = placed if least is None else max(placed, least)
        shown_at = self._last if pts is None else round((pts * unit - self._start) / own)
        packet.time_base = own
        packet.dts, packet.pts = self._last, max(shown_at, self._last)
        # QuickTime drops a last packet of data that takes no time.
        packet.duration = max(self.type == "data", round(duration * unit / own))
        self.times.append(packet.pts)
