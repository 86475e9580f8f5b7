"""Find what a video stream carries beside its frames, and what the output will lack of it.

Captions and dynamic metadata lie inside the packets, so these are searched. What a header says is
read from a Matroska header that FFmpeg writes for the stream, because PyAV does not expose it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from av.packet import Packet
from av.video.frame import VideoFrame

from upscale.video.pyav import side_data

STEREO = "stereo 3D metadata"
_CAPTIONS = "closed captions (CEA-608/708)"
_HDR10_PLUS = "HDR10+ metadata"
_DOLBY_VISION = "Dolby Vision metadata"

_CODED: dict[str, tuple[tuple[bytes, str], ...]] = {
    "mpeg2video": ((b"GA94\x03", _CAPTIONS), (b"\0\0\1\xb2CC\1\xf8", _CAPTIONS)),
    "h264": ((b"\xb5\0\x31GA94\x03", _CAPTIONS),),
    "hevc": ((b"\xb5\0\x31GA94\x03", _CAPTIONS), (b"\xb5\0\x3c\0\1\4", _HDR10_PLUS)),
    "av1": ((b"\xb5\0\x31GA94\x03", _CAPTIONS), (b"\xb5\0\x3c\0\1\4", _HDR10_PLUS)),
}
"""Bytes by which packets of each codec show what they carry (ATSC A/53, SMPTE ST 2094-40)."""

_FRAME_DATA = (
    ("A53_CC", _CAPTIONS),
    ("DYNAMIC_HDR_PLUS", _HDR10_PLUS),
    ("DOVI_METADATA", _DOLBY_VISION),
    ("DOVI_RPU_BUFFER", _DOLBY_VISION),
    ("SPHERICAL", "360-degree metadata"),
    ("STEREO3D", STEREO),
)

_CROPPING = re.compile(rb"\x54[\xbb\xaa\xcc\xdd][\x81\x82].")
"""Matroska's elements PixelCropTop, -Bottom, -Left and -Right, with one or two bytes."""
_LONG_LANGUAGE = b"\x22\xb5\x9d"
_HEADER_BYTES = 1 << 20
_MAX_LANGUAGE_BYTES = 64


class EmbeddedSearch:
    """Collect what the packets of a video carry.

    Args:
        codec: FFmpeg's name of the codec.

    Attributes:
        found: Names of what was found.
    """

    def __init__(self, codec: str) -> None:
        self._patterns = dict(_CODED.get(codec, ()))
        self.found: list[str] = []

    def add(self, packet: Packet[Any]) -> None:
        """Search a packet."""
        if not self._patterns:
            return
        data = memoryview(packet).tobytes()
        for pattern in [each for each in self._patterns if each in data]:
            name = self._patterns[pattern]
            self.found.append(name)
            self._patterns = {key: each for key, each in self._patterns.items() if each != name}


def in_frame(frame: VideoFrame) -> Iterator[str]:
    """Yield what the first frame of a video carries."""
    yield from dict.fromkeys(name for key, name in _FRAME_DATA if side_data(frame, key))


def in_header(header: bytes) -> Iterator[str]:
    """Yield what a Matroska header says of a video stream."""
    if _CROPPING.search(header):
        yield "the crop"


def long_languages(path: Path) -> Iterator[str]:
    """Yield language tags of Matroska that say more than FFmpeg's three letters, such as pt-BR."""
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    for part in head.split(_LONG_LANGUAGE)[1:]:
        length = part[0] & 0x7F if part else 0
        text = part[1 : 1 + length]
        is_tag = 0 < length <= _MAX_LANGUAGE_BYTES and text.replace(b"-", b"").isalnum()
        if is_tag and b"-" in text and text.isascii():
            yield text.decode("ascii")


def losses(embedded: Iterable[str]) -> Iterator[str]:
    """Yield a line for everything that an output lacks."""
    for name in embedded:
        yield f"{name} inside the video cannot be kept"
