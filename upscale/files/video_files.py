"""Recognise video files, to name the right command where an image is expected."""

from __future__ import annotations

from pathlib import Path

VIDEO_SUFFIXES = frozenset(
    [
        *("mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mts", "m2ts", "flv", "f4v", "wmv"),
        *("asf", "mpg", "mpeg", "vob", "ogv", "3gp", "3g2", "mxf", "y4m"),
    ]
)
"""Usual suffixes of video files, without their dot."""

PROBE_BYTES = 512
"""Number of bytes at the start of a file that `is_video_content` needs."""

_SIGNATURES = (
    b"\x1a\x45\xdf\xa3",  # Matroska and WebM
    b"FLV\x01",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF and WMV
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"YUV4MPEG2 ",
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01",  # MXF
)
_BRANDS = ("iso", "mp4", "avc", "M4V", "qt  ", "3gp", "3g2", "dash", "f4v", "MSNV", "cmf")
"""First letters of the brands of MP4 and QuickTime files with videos."""
_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""Boxes that begin QuickTime files without a brand."""
_PACKETS = ((0, 188), (4, 192))
"""Offset of the first packet of an MPEG transport stream, and length of the packets."""


def is_video_name(path: Path) -> bool:
    """Return whether a path has the suffix of a video file.

    Args:
        path: The path; the file need not exist.

    Example:
        >>> is_video_name(Path("clip.MP4")), is_video_name(Path("photo.jpg"))
        (True, False)
    """
    return path.suffix[1:].lower() in VIDEO_SUFFIXES


def is_video_content(start: bytes) -> bool:
    r"""Return whether a file that is not an image begins as a video does.

    Args:
        start: The first `PROBE_BYTES` bytes of the file.

    Example:
        >>> is_video_content(b"\x1a\x45\xdf\xa3\x01\x00"), is_video_content(b"%PDF-1.7")
        (True, False)
    """
    if start[4:8] == b"ftyp":
        return start[8:12].decode("latin-1").startswith(_BRANDS)
    if start.startswith(b"RIFF"):
        return start[8:12] == b"AVI "
    return start.startswith(_SIGNATURES) or start[4:8] in _ATOMS or _is_transport_stream(start)


def _is_transport_stream(start: bytes) -> bool:
    """Whether packets begin with their sync byte at the usual distance."""
    return any(
        len(start) > first + length and start[first] == start[first + length] == 0x47
        for first, length in _PACKETS
    )
