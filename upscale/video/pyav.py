"""What differs between the supported major versions of PyAV, 18 and 19, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.video.frame import VideoFrame

# PyAV 19 has no such option and always keeps the bytes of tags that are not UTF-8.
_TAG_OPTIONS: dict[str, Any] = (
    {"metadata_errors": "surrogateescape"} if hasattr(InputContainer, "metadata_errors") else {}
)


def open_input(url: str, options: Mapping[str, str], format: str | None = None) -> InputContainer:
    """Open a file for reading; read its tags with `clean_tags`.

    Args:
        url: Name of the file after a protocol, such as "file:clip.mp4".
        options: Options of FFmpeg's demuxer.
        format: FFmpeg's name of the format; None to find it out.

    Raises:
        FFmpegError, OSError: The file cannot be opened.
    """
    return av.open(url, format=format, options=dict(options), **_TAG_OPTIONS)


def clean_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags in which the replacement character stands for bytes that are not UTF-8."""
    return {_clean(name): _clean(value) for name, value in tags.items()}


def _clean(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def fraction(ratio: Fraction | None) -> Fraction | None:
    """Return a ratio as a Fraction; None if FFmpeg has not set it.

    PyAV 19 has a class of its own for ratios, which rounds results to 32 bits.
    """
    return Fraction(ratio.numerator, ratio.denominator) if ratio else None


def side_data(frame: VideoFrame, name: str) -> bytes:
    """Return the side data of a frame by FFmpeg's name; empty if there is none.

    Iterating over it yields data in PyAV 18, and types in PyAV 19.
    """
    try:
        data = frame.side_data.get(name)
    except ValueError:
        # PyAV 18 fails on all of it if it lacks a name for one type.
        return b""
    return b"" if data is None else bytes(data)
