"""The header of OpenEXR files, as far as it must be known before any pixel is decoded.

Source: "OpenEXR File Layout" on openexr.com. The package OpenEXR does not tell the types of the
channels without decoding them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from upscale.images.codecs.base import MalformedError, UnsupportedError

MAGIC = b"v/1\x01"
HALF, FLOAT = 1, 2
"""Types of samples; the third one, 0, is for identifiers."""

_DEEP, _MULTIPART = 0x800, 0x1000
_MOST_BYTES = 1 << 20
_STANDARD = frozenset({
    "channels", "compression", "dataWindow", "displayWindow", "lineOrder", "pixelAspectRatio",
    "screenWindowCenter", "screenWindowWidth", "chromaticities", "type", "name", "version",
    "chunkCount", "tiles", "view", "preview",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel.

    Attributes:
        name: Name, for example `R` or `diffuse.R`.
        kind: Type of the samples.
        is_subsampled: Whether it has fewer samples than the image pixels.
    """

    name: str
    kind: int
    is_subsampled: bool


@dataclass(frozen=True, slots=True)
class Head:
    """The header of the first part.

    Attributes:
        width: Width of the pixels that are stored.
        height: Height of the pixels that are stored.
        channels: Channels.
        compression: Number of the compression.
        chromaticities: Coordinates x and y of red, green, blue and white; None if not given.
        is_windowed: Whether the pixels that are stored are not those to display.
        has_parts: Whether the file has more parts.
        attributes: Names of other attributes.
    """

    width: int
    height: int
    channels: tuple[Channel, ...]
    compression: int
    chromaticities: tuple[float, ...] | None
    is_windowed: bool
    has_parts: bool
    attributes: tuple[str, ...]


def read(file: BinaryIO) -> Head:
    """Read the header of the first part.

    Args:
        file: The file, at its start.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: It has several samples per pixel.
    """
    data = file.read(_MOST_BYTES)
    (flags,) = struct.unpack_from("<I", data, 4)
    if flags & _DEEP:
        raise UnsupportedError("stores several samples per pixel (deep data)")
    values = _attributes(data)
    left, top, right, bottom = struct.unpack("<4i", values["dataWindow"])
    if right < left or bottom < top:
        raise MalformedError("is damaged")
    chromaticities = values.get("chromaticities")
    return Head(
        width=right - left + 1,
        height=bottom - top + 1,
        channels=_channels(values["channels"]),
        compression=values["compression"][0],
        chromaticities=struct.unpack("<8f", chromaticities) if chromaticities else None,
        is_windowed=values["dataWindow"] != values["displayWindow"],
        has_parts=bool(flags & _MULTIPART),
        attributes=tuple(name for name in values if name not in _STANDARD),
    )


def _attributes(data: bytes) -> dict[str, bytes]:
    """Return the values of the attributes of the first part."""
    position, values = 8, dict[str, bytes]()
    while data[position] != 0:
        name, kind = data.index(b"\0", position), 0
        kind = data.index(b"\0", name + 1)
        (size,) = struct.unpack_from("<I", data, kind + 1)
        start = kind + 5
        values[data[position:name].decode("latin-1")] = data[start : start + size]
        position = start + size
    return values


def _channels(data: bytes) -> tuple[Channel, ...]:
    position, channels = 0, list[Channel]()
    while data[position] != 0:
        end = data.index(b"\0", position)
        kind, _, across, down = struct.unpack_from("<4i", data, end + 1)
        name = data[position:end].decode("latin-1")
        channels.append(Channel(name, kind, (across, down) != (1, 1)))
        position = end + 17
    return tuple(channels)
