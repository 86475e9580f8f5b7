"""Encoding presets by purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from upscale.video.encoders import VideoEncoding
from upscale.video.recode import AudioChoice


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a video is made for.

    Attributes:
        encoding: Encoding for it.
        audio: Treatment of sound.
        suffix: Usual suffix of such videos.
        summary: The codec and its use in a few words.
    """

    encoding: VideoEncoding
    audio: AudioChoice
    suffix: str
    summary: str


PURPOSES: Mapping[str, Purpose] = {
    "web": Purpose(
        VideoEncoding("x264", crf=21, preset="slow", pixel_format="yuv420p"),
        "aac",
        ".mp4",
        "H.264 in 8 bits and AAC, which play everywhere",
    ),
    "archive": Purpose(VideoEncoding("ffv1"), "auto", ".mkv", "FFV1, lossless"),
    "edit": Purpose(VideoEncoding("prores"), "auto", ".mov", "ProRes 422 HQ or 4444"),
}
"""Presets by name."""


def encoding_for(purpose: Purpose, encoding: VideoEncoding) -> VideoEncoding:
    """Fill in what the user has left open.

    Args:
        purpose: Purpose that the user named.
        encoding: Options of the user; with another codec, quality and speed are left to that.

    Example:
        >>> encoding_for(PURPOSES["web"], VideoEncoding(crf=18)).crf
        18
    """
    base = purpose.encoding
    if encoding.codec not in (None, base.codec):
        base = VideoEncoding(pixel_format=base.pixel_format)
    return replace(
        encoding,
        codec=encoding.codec or base.codec,
        crf=base.crf if encoding.crf is None else encoding.crf,
        preset=encoding.preset or base.preset,
        pixel_format=encoding.pixel_format or base.pixel_format,
    )
