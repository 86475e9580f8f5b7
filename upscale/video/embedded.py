"""Find what a video stream carries beside its frames, and what the output will lack of it.

Captions and dynamic metadata lie inside the packets, so these are searched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from av.packet import Packet
from av.video.frame import VideoFrame

from upscale.video import captions, t35
from upscale.video.pyav import side_data
from upscale.video.stream_header import CROPS, PROJECTION, STEREO_MODE, Elements

CAPTIONS = "closed captions (CEA-608/708)"
HDR10_PLUS = "HDR10+ metadata"
REGISTERED = (CAPTIONS, HDR10_PLUS)
"""Names of data in packets that some codecs keep."""

_SEVERAL_WINDOWS = "HDR10+ metadata of parts of the frame"
_DOLBY_VISION = "Dolby Vision metadata"
_SPHERICAL = "360-degree metadata"
_STEREO = "stereo 3D metadata"
_CROP = "the crop"

_CAPTION_BYTES = re.escape(t35.CAPTIONS)
_HDR10_PLUS_BYTES = re.escape(t35.HDR10_PLUS)
_PATTERNS = (
    (_CAPTION_BYTES, CAPTIONS),
    # After the version come two bits for the number of windows.
    (_HDR10_PLUS_BYTES + rb".[\x40-\x7f]", HDR10_PLUS),
    (_HDR10_PLUS_BYTES + rb".[^\x40-\x7f]", _SEVERAL_WINDOWS),
)
_CODED = {
    "mpeg2video": (
        (re.escape(t35.CAPTIONS[3:]), CAPTIONS),
        (rb"\x00\x00\x01\xb2" + re.escape(captions.DVD), CAPTIONS),
    ),
    "h264": _PATTERNS[:1],
    "hevc": _PATTERNS,
    "av1": _PATTERNS,
}
"""Bytes by which packets of each codec show what they carry (ATSC A/53, SMPTE ST 2094-40)."""

_KEPT = {"h264": REGISTERED[:1], "hevc": REGISTERED, "av1": REGISTERED}
"""What is written into packets of each codec."""

_FRAME_DATA = (
    ("A53_CC", CAPTIONS),
    ("DYNAMIC_HDR_PLUS", HDR10_PLUS),
    ("DOVI_METADATA", _DOLBY_VISION),
    ("DOVI_RPU_BUFFER", _DOLBY_VISION),
    ("SPHERICAL", _SPHERICAL),
    ("STEREO3D", _STEREO),
)

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
        self._patterns = [
            (re.compile(pattern, re.DOTALL), name) for pattern, name in _CODED.get(codec, ())
        ]
        self.found: list[str] = []

    def add(self, packet: Packet[Any]) -> None:
        """Search a packet."""
        if not self._patterns:
            return
        data = memoryview(packet).tobytes()
        for name in [name for pattern, name in self._patterns if pattern.search(data)]:
            self.found.append(name)
            self._patterns = [each for each in self._patterns if each[1] != name]


def in_frame(frame: VideoFrame) -> Iterator[str]:
    """Yield what the first frame of a video carries."""
    yield from dict.fromkeys(name for key, name in _FRAME_DATA if side_data(frame, key))


def in_elements(elements: Elements) -> Iterator[str]:
    """Yield what the elements of `shown_elements` say of a video stream."""
    if STEREO_MODE in elements:
        yield _STEREO
    if PROJECTION in elements:
        yield _SPHERICAL
    if any(kind in elements for kind in CROPS):
        yield _CROP


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


def kept_in(codec: str) -> frozenset[str]:
    """Return the names of what is written into packets of an output.

    Args:
        codec: FFmpeg's name of the codec.
    """
    return frozenset(_KEPT.get(codec, ()))


def losses(names: Iterable[str]) -> Iterator[str]:
    """Yield a line for everything that an output lacks."""
    for name in names:
        yield f"{name} inside the video cannot be kept"
