"""Kinds of files that are recognised but not read, and what to do with each.

One table names them, so that a user learns what a file is rather than that it is no image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

PROBE_BYTES = 4096
"""Number of bytes at the start of a file that `foreign_kind` needs."""

_CONVERT = "convert it to PNG first"
_RENDER = "export it as PNG first, in the size that you need"
_GIVE_IMAGE = "give an image, for example JPEG, PNG, TIFF or WebP"

_RAW_SUFFIXES = (
    *("3fr", "arw", "cr2", "dcr", "dng", "erf", "fff", "iiq", "k25", "kdc", "mef"),
    *("mos", "nef", "nrw", "orf", "pef", "raw", "rw2", "rwl", "sr2", "srf", "srw"),
)
"""Suffixes of raw files whose content is a TIFF file with the preview as its first page."""


@dataclass(frozen=True, slots=True)
class ForeignKind:
    """A kind of file that is not read.

    Attributes:
        problem: Clause about the file that completes "<file> ...".
        advice: Imperative clause for the user, for example "export it as PNG first".
    """

    problem: str
    advice: str


def _unsupported(label: str, advice: str = _CONVERT) -> ForeignKind:
    return ForeignKind(f"is {label}, which is not supported", advice)


RAW = ForeignKind(
    "is a raw file", "develop it first, for example with darktable or RawTherapee, and export TIFF"
)
NOT_AN_IMAGE = ForeignKind("is not an image", _GIVE_IMAGE)

_VIDEO = ForeignKind("is a video", "upscale it with the command `upscale video`")
_AUDIO = ForeignKind("is an audio file", _GIVE_IMAGE)

_STARTS: tuple[tuple[bytes, ForeignKind], ...] = (
    # Raw files. Those that are TIFF files are recognised by `is_raw_name` and by the TIFF codec.
    (b"FUJIFILMCCD-RAW", RAW),
    (b"IIRO", RAW),
    (b"IIRS", RAW),
    (b"MMOR", RAW),
    (b"IIU\0", RAW),
    (b"II\x1a\0\0\0HEAPCCDR", RAW),
    (b"FOVb", RAW),
    (b"\0MRM", RAW),
    # Images.
    (b"\xff\x4f\xff\x50", _unsupported("a JPEG XS image")),
    (b"\xff\x10\xff\x50", _unsupported("a JPEG XS image")),
    (b"II\xbc", _unsupported("a JPEG XR image")),
    (b"BPG\xfb", _unsupported("a BPG image")),
    (b"FLIF", _unsupported("a FLIF image")),
    (b"\x8aMNG\r\n\x1a\n", _unsupported("an MNG animation")),
    (b"\x8bJNG\r\n\x1a\n", _unsupported("a JNG image")),
    (b"farbfeld", _unsupported("a farbfeld image")),
    (b"SDPX", _unsupported("a DPX image")),
    (b"XPDS", _unsupported("a DPX image")),
    (b"\x80\x2a\x5f\xd7", _unsupported("a Cineon image")),
    (b"\x59\xa6\x6a\x95", _unsupported("a Sun raster image")),
    (b"\x01\xda", _unsupported("an SGI image")),
    (b"SIMPLE  =", _unsupported("a FITS image")),
    (b"icns", _unsupported("an Apple icon (ICNS)")),
    (b"gimp xcf", _unsupported("a GIMP document (XCF)", "export it as PNG or TIFF first")),
    (b"AT&TFORM", _unsupported("a DjVu document", "export its pages as TIFF first")),
    (b"/* XPM */", _unsupported("an XPM image")),
    # Textures.
    (b"\xabKTX 11\xbb\r\n\x1a\n", _unsupported("a KTX texture", "convert it to DDS or PNG first")),
    (b"\xabKTX 20\xbb\r\n\x1a\n", _unsupported("a KTX2 texture", "convert it to DDS or PNG first")),
    (b"PVR\3", _unsupported("a PVR texture", "convert it to DDS or PNG first")),
    (b"\x13\xab\xa1\x5c", _unsupported("an ASTC texture", "convert it to DDS or PNG first")),
    (b"VTF\0", _unsupported("a VTF texture", "convert it to DDS or PNG first")),
    (b"BLP1", _unsupported("a BLP texture", "convert it to DDS or PNG first")),
    (b"BLP2", _unsupported("a BLP texture", "convert it to DDS or PNG first")),
    # Documents and drawings.
    (b"%PDF", _unsupported("a PDF document", "export its pages as PNG or TIFF first")),
    (b"%!PS", _unsupported("a PostScript or EPS document", _RENDER)),
    (b"\xc5\xd0\xd3\xc6", _unsupported("an EPS document", _RENDER)),
    (b"\xd7\xcd\xc6\x9a", _unsupported("a WMF drawing", _RENDER)),
    (b"PK\3\4", ForeignKind("is a ZIP archive or a document in one", "extract its images first")),
    (b"\x1f\x8b", ForeignKind("is compressed with gzip", "decompress it first")),
    # Videos and sound.
    (b"\x1a\x45\xdf\xa3", _VIDEO),
    (b"\0\0\1\xba", _VIDEO),
    (b"\0\0\1\xb3", _VIDEO),
    (b"FLV\1", _VIDEO),
    (b"OggS", _VIDEO),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", _VIDEO),
    (b"YUV4MPEG2", _VIDEO),
    (b".RMF", _VIDEO),
    (b"ID3", _AUDIO),
    (b"fLaC", _AUDIO),
)

_RIFF_KINDS = {b"AVI ": _VIDEO, b"WAVE": _AUDIO}
_MOVIE_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_CURSOR = b"\0\0\2\0"
_TRANSPORT_PACKET, _PACKETS = 188, 5


def foreign_kind(start: bytes) -> ForeignKind | None:
    r"""Return the kind of a file that is recognised but not read.

    Args:
        start: The first `PROBE_BYTES` bytes of the file.

    Example:
        >>> foreign_kind(b"%PDF-1.7").problem
        'is a PDF document, which is not supported'
    """
    if start[4:8] == b"ftyp":
        return RAW if start[8:12] == b"crx " else _VIDEO
    if start[:4] == b"RIFF":
        return _RIFF_KINDS.get(start[8:12])
    for head, kind in _STARTS:
        if start.startswith(head):
            return kind
    if start[4:8] in _MOVIE_ATOMS or _is_transport_stream(start):
        return _VIDEO
    if _is_cursor(start):
        return _unsupported("a cursor (CUR)")
    return _markup_kind(start)


def is_raw_name(name: str) -> bool:
    """Return whether a file name has a suffix that only raw files have.

    Args:
        name: The file name.

    Example:
        >>> is_raw_name("IMG_0001.NEF"), is_raw_name("scan.tif")
        (True, False)
    """
    return PurePath(name).suffix[1:].lower() in _RAW_SUFFIXES


def _is_cursor(start: bytes) -> bool:
    """Detect a cursor; a Targa file may start like one, but has no cursors to count."""
    return start.startswith(_CURSOR) and start[4:6] != b"\0\0" and start[9:10] == b"\0"


def _is_transport_stream(start: bytes) -> bool:
    packets = start[: _PACKETS * _TRANSPORT_PACKET : _TRANSPORT_PACKET]
    return len(packets) == _PACKETS and set(packets) == {0x47}


def _markup_kind(start: bytes) -> ForeignKind | None:
    """Detect SVG drawings and web pages, which may begin with declarations and remarks."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    lower = text.lower()
    if not text.startswith(b"<"):
        return None
    if lower.startswith((b"<!doctype html", b"<html")):
        return ForeignKind("is a web page", "download the image itself")
    if b"<svg" in lower:
        return _unsupported("an SVG drawing", _RENDER)
    return None
