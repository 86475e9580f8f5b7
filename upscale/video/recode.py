"""Convert sound that a container cannot hold to another codec."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Literal, cast, get_args

from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet

from upscale.files.system_errors import raise_system_error
from upscale.video.pyav import fraction

AudioChoice = Literal["auto", "copy", "aac", "opus", "flac", "none"]
"""What happens to sound: `auto` copies it, and converts only what the container cannot hold."""

AUDIO_CHOICES: tuple[AudioChoice, ...] = get_args(AudioChoice)

_ENCODERS = {"opus": "libopus"}
_BIT_RATES = {"aac": 256_000, "libopus": 192_000}
_OPUS_RATE = 48_000
_REPACKED = ("pcm_dvd", "pcm_bluray", "s302m")
_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_NARROW = ("u8", "s16")
_MAX_CORRECTION = Fraction(1, 10)
"""Seconds by which times are corrected that a container rounds."""


def encoders_for(codec: str, sample_format: str, choice: AudioChoice) -> list[str]:
    """Return FFmpeg's names of encoders to try, the best one first.

    Args:
        codec: FFmpeg's name of the source's codec.
        sample_format: FFmpeg's name of its sample format, such as s16 or fltp.
        choice: Choice of the user.
    """
    if choice in ("copy", "none"):
        return []
    if choice != "auto":
        return [_ENCODERS.get(choice, choice)]
    pcm = "pcm_s16le" if sample_format.removesuffix("p") in _NARROW else "pcm_s24le"
    lossless = [pcm, "flac"] if codec in _REPACKED else ["flac", pcm]
    return [*lossless, "aac", "libopus"]


def is_lossless(encoder: str) -> bool:
    """Return whether an encoder keeps all samples."""
    return encoder == "flac" or encoder.startswith("pcm_")


def layout_of(context: AudioCodecContext) -> str:
    """Return the name of a channel layout, guessed by the number of channels if it has none."""
    layout = context.layout
    return _LAYOUTS.get(layout.nb_channels, layout.name) if _is_unnamed(context) else layout.name


def set_missing_layout(context: AudioCodecContext, source: AudioCodecContext) -> None:
    """Name the layout of a copied stream, without which MP4 takes no PCM."""
    if _is_unnamed(source):
        context.layout = layout_of(source)


def _is_unnamed(context: AudioCodecContext) -> bool:
    return context.layout.name.endswith(" channels")


def add_encoder(container: OutputContainer, name: str, source: AudioStream) -> AudioStream:
    """Add a stream to which sound is converted.

    Raises:
        FFmpegError, ValueError: The container or the encoder does not support it.
    """
    own = source.codec_context
    rate = _OPUS_RATE if name == "libopus" else own.sample_rate
    added = cast("AudioStream", container.add_stream(name, rate=rate, layout=layout_of(own)))
    context = added.codec_context
    formats = [each.name for each in context.codec.audio_formats or []]
    wanted = "s16" if own.format.name.removesuffix("p") in _NARROW else "s32"
    if wanted in formats:
        context.format = wanted
    if name in _BIT_RATES:
        context.bit_rate = _BIT_RATES[name]
    return added


class Recoder:
    """Decode the packets of a stream, and encode them anew.

    Args:
        source: Stream of the source.
        target: Stream of the output; the header must be written before the first packet.

    Attributes:
        failures: Number of packets that could not be decoded.
    """

    def __init__(self, source: AudioStream, target: AudioStream) -> None:
        self._source, self._target = source, target
        self._resampler: AudioResampler | None = None
        self._next: int | None = None
        self.failures = 0

    def convert(self, packet: Packet[Any] | None) -> Iterator[Packet[Any]]:
        """Yield the packets that result from one packet, or those that remain at the end."""
        try:
            frames = self._source.codec_context.decode(packet)
        except FFmpegError as error:
            raise_system_error(error)
            self.failures += 1
            return
        for frame in frames:
            self._set_time(frame)
        for frame in [*frames, None] if packet is None else frames:
            if self._resampler is None and frame is None:
                continue
            for resampled in self._ready().resample(frame):
                yield from self._target.codec_context.encode(resampled)
        if packet is None and self._resampler is not None:
            yield from self._target.codec_context.encode(None)

    def _set_time(self, frame: AudioFrame) -> None:
        """Let frames follow each other, unless the difference can be heard."""
        unit, rate = fraction(frame.time_base), frame.sample_rate
        given = None if frame.pts is None or unit is None else round(frame.pts * unit * rate)
        at = self._next if given is None else given
        if self._next is not None and at is not None:
            at = self._next if abs(at - self._next) <= _MAX_CORRECTION * rate else at
        if at is not None:
            frame.pts, frame.time_base = at, Fraction(1, rate)
            self._next = at + frame.samples

    def _ready(self) -> AudioResampler:
        if self._resampler is None:
            context = self._target.codec_context
            self._resampler = AudioResampler(
                context.format.name,
                context.layout.name,
                context.sample_rate,
                context.frame_size or None,
            )
        return self._resampler
