"""Statements in XMP and EXIF about other images and videos in the file, kept true.

A viewer that finds a gain map, a video or more XMP announced, but not in the file, shows nothing or
an error.
"""

from __future__ import annotations

import struct

from upscale.images.metadata import exif
from upscale.images.metadata.xmp_packet import Element, Property, XmpPacket

_CAMERA = "http://ns.google.com/photos/1.0/camera/"
_CONTAINER = "http://ns.google.com/photos/1.0/container/"
_ITEM = _CONTAINER + "item/"
_VIDEO = tuple(
    _CAMERA + name
    for name in (
        *("MicroVideo", "MicroVideoVersion", "MicroVideoOffset"),
        *("MicroVideoPresentationTimestampUs", "MotionPhoto", "MotionPhotoVersion"),
        "MotionPhotoPresentationTimestampUs",
    )
)
_OPPO = "http://ns.oplus.com/photos/1.0/camera/"
_GAIN_MAP = ("http://ns.adobe.com/hdr-gain-map/1.0/", "http://ns.apple.com/HDRGainMap/1.0/")
_EXTENDED = "http://ns.adobe.com/xmp/note/HasExtendedXMP"
_IN_EXTENDED = tuple(
    f"http://ns.google.com/photos/1.0/{name}/" for name in ("depthmap", "image", "audio")
)
_PROVENANCE = "http://purl.org/dc/terms/provenance"

_MAKER_NOTE = 0x927C
_APPLE, _APPLE_DIRECTORY = b"Apple iOS\0", 14
_HEADROOM = (0x21, 0x30)


def announces_video(packet: XmpPacket) -> bool:
    """Return whether a packet says that the file contains a video."""
    return any(item.text.strip() not in ("", "0") for item in packet.named(*_VIDEO)) or any(
        semantic.text.strip() == "MotionPhoto" for semantic in packet.named(_ITEM + "Semantic")
    )


def keep_true(packet: XmpPacket, gain_map_bytes: int | None) -> None:
    """Remove statements about parts that no output has, and update the length of a gain map.

    Args:
        packet: The packet.
        gain_map_bytes: Length of the gain map that follows the image; None without one.
    """
    is_extended = bool(packet.named(_EXTENDED))
    for item in packet.named(*_VIDEO, _EXTENDED, _PROVENANCE):
        packet.remove(item)
    removed = [_OPPO]
    removed += [] if gain_map_bytes is not None else _GAIN_MAP
    removed += _IN_EXTENDED if is_extended else ()
    for item in packet.in_namespaces(*removed):
        packet.remove(item)
    for directory in packet.named(_CONTAINER + "Directory"):
        if isinstance(directory, Element):
            _keep_directory_true(packet, directory, gain_map_bytes)
    packet.remove_unused(*removed, _CAMERA, _CONTAINER, _ITEM)


def without_headroom(block: bytes | None) -> bytes | None:
    """Return an EXIF block whose Apple maker note does not describe a gain map."""
    if block is None or _APPLE not in block:
        return block
    changed = bytearray(block)
    try:
        note = exif.photo_tags(block)[1].get(_MAKER_NOTE)
        if note is not None:
            (start,) = struct.unpack_from(exif.header(block)[0] + "I", block, note.position)
            if block.startswith(_APPLE, start):
                _remove_entries(changed, start + _APPLE_DIRECTORY)
    except (ValueError, struct.error):
        return block
    return bytes(changed)


def _remove_entries(block: bytearray, start: int) -> None:
    """Remove the entries about a gain map from a directory, whose other values stay in place."""
    (count,) = struct.unpack_from(">H", block, start)
    end = start + 2 + 12 * count
    if end + 4 > len(block):
        return
    entries = [bytes(block[at : at + 12]) for at in range(start + 2, end, 12)]
    kept = [entry for entry in entries if struct.unpack_from(">H", entry)[0] not in _HEADROOM]
    tail = b"".join(kept) + bytes(block[end : end + 4])
    struct.pack_into(">H", block, start, len(kept))
    block[start + 2 : end + 4] = tail.ljust(end + 4 - start - 2, b"\0")


def _keep_directory_true(packet: XmpPacket, directory: Element, gain_map_bytes: int | None) -> None:
    """Keep the entries of the image and of its gain map in a list of the parts of a file."""
    kept = 0
    for entry in (child for sequence in directory.children for child in sequence.children):
        item = _item(packet, entry)
        semantic = item.get(_ITEM + "Semantic")
        name = "" if semantic is None else semantic.text.strip()
        if name == "GainMap" and gain_map_bytes is not None:
            kept += 1
            if _ITEM + "Length" in item:
                packet.set(item[_ITEM + "Length"], str(gain_map_bytes))
        elif name != "Primary":
            packet.remove(entry)
        for unused in ("Padding", "Length") if name == "Primary" else ("Padding",):
            if _ITEM + unused in item:
                packet.remove(item[_ITEM + unused])
    if not kept:
        packet.remove(directory)


def _item(packet: XmpPacket, entry: Element) -> dict[str, Property]:
    """Return the properties of an entry by name, in whichever form of RDF it is written."""
    found: dict[str, Property] = {}
    for element in packet.elements(entry):
        properties = (*element.attributes, element)
        found |= {item.name: item for item in properties if item.name.startswith(_ITEM)}
    return found
