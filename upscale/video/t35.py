"""Read and write user data registered by ITU-T T.35 in packets: closed captions and HDR10+.

A payload begins with the country and the provider. H.264 and HEVC have it in SEI messages, AV1 in
metadata units, and MPEG-2 in user data, where the country and the provider are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from upscale.video import h264

CAPTIONS = b"\xb5\0\x31GA94\x03"
"""Beginning of a payload with closed captions (ATSC A/53, part 4)."""

HDR10_PLUS = b"\xb5\0\x3c\0\1\4"
"""Beginning of a payload with HDR10+ (SMPTE ST 2094-40)."""

WRITABLE = ("h264", "hevc", "av1")
"""FFmpeg's names of the codecs to whose packets payloads can be added."""

_REGISTERED = 4
_REST_OF_SEI = b"\x80"
_H264_SLICES = range(1, 6)
_HEVC_PICTURES = range(32)
_HEVC_SUPPLEMENT = 39
_MPEG_USER_DATA = 0xB2
_AV1_METADATA = 5
_AV1_FRAMES = (3, 6)
_AV1_REGISTERED = 4


def is_hdr10_plus(payload: bytes) -> bool:
    """Return whether a payload is HDR10+ metadata of whole frames: parts are given in pixels."""
    windows = payload[len(HDR10_PLUS) + 1 :][:1]
    return payload.startswith(HDR10_PLUS) and bool(windows) and windows[0] >> 6 == 1


def length_bytes(codec: str, extradata: bytes) -> int:
    """Return the bytes of the length before each unit; 0 if units have start codes or headers.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: Header of the stream.
    """
    if codec not in ("h264", "hevc") or extradata[:1] != b"\1":
        return 0
    place = 4 if codec == "h264" else 21
    return (extradata[place] & 3) + 1 if len(extradata) > place else 0


def payloads_in(codec: str, content: bytes, lengths: int) -> Iterator[bytes]:
    """Yield the payloads of a packet; damaged ones are left out.

    Args:
        codec: FFmpeg's name of the codec.
        content: The packet.
        lengths: Result of `length_bytes`.
    """
    if codec == "av1":
        for kind, start, end in _av1_units(content):
            if kind == _AV1_METADATA and content[start:end][:1] == bytes([_AV1_REGISTERED]):
                yield content[start + 1 : end].rstrip(b"\0").removesuffix(b"\x80")
        return
    for unit in h264.units(content, lengths):
        if codec == "mpeg2video":
            if unit[0] == _MPEG_USER_DATA and unit[1:6] == CAPTIONS[3:]:
                yield CAPTIONS[:3] + unit[1:]
        elif _is_supplement(codec, unit):
            message = unit[2 if codec == "hevc" else 1 :].replace(b"\0\0\3", b"\0\0")
            yield from (each for kind, each in _messages(message) if kind == _REGISTERED)


def with_payloads(codec: str, content: bytes, lengths: int, payloads: Iterable[bytes]) -> bytes:
    """Return a packet with payloads before the frame that it shows.

    Args:
        codec: FFmpeg's name of the codec, one of `WRITABLE`.
        content: The packet.
        lengths: Result of `length_bytes`.
        payloads: Payloads to add.

    Raises:
        ValueError: The packet has no frame.
    """
    if codec == "av1":
        starts = [start for start, kind in _av1_starts(content) if kind in _AV1_FRAMES]
        added = b"".join(map(_av1_unit, payloads))
        # A packet may begin with frames that are not shown.
        place = starts[-1] if starts else None
    else:
        place, header = _first_picture(codec, content, lengths)
        added = b"".join(_unit(header, payload, lengths) for payload in payloads)
    if place is None:
        raise ValueError("a packet without a frame cannot take metadata")
    return content[:place] + added + content[place:]


def _is_supplement(codec: str, unit: bytes) -> bool:
    if codec == "hevc":
        return unit[0] >> 1 & 63 == _HEVC_SUPPLEMENT
    return codec == "h264" and unit[0] & 31 == h264.SUPPLEMENT


def _messages(content: bytes) -> Iterator[tuple[int, bytes]]:
    try:
        yield from h264.supplement_messages(content)
    except IndexError:  # cut
        return


def _first_picture(codec: str, content: bytes, lengths: int) -> tuple[int | None, bytes]:
    """Return where the first slice of a packet begins, and the header of an SEI unit for it."""
    for place, unit in _places(content, lengths):
        if codec == "h264" and content[unit] & 31 in _H264_SLICES:
            return place, bytes([h264.SUPPLEMENT])
        if codec == "hevc" and content[unit] >> 1 & 63 in _HEVC_PICTURES:
            return place, bytes([_HEVC_SUPPLEMENT << 1, content[unit + 1]])
    return None, b""


def _places(content: bytes, lengths: int) -> Iterator[tuple[int, int]]:
    """Yield where the length or start code of each unit begins, and the unit itself."""
    place, gap = 0, lengths or len(h264.START_CODE)
    while place + gap + 1 < len(content):
        if not lengths:
            place = content.find(h264.START_CODE, place)
            if place < 0:
                return
        unit = place + gap
        if unit + 1 < len(content):
            yield place, unit
        place = unit + int.from_bytes(content[place:unit]) if lengths else unit


def _unit(header: bytes, payload: bytes, lengths: int) -> bytes:
    """Return an SEI unit with one message, after its length or start code."""
    size = b"\xff" * (len(payload) // 255) + bytes([len(payload) % 255])
    message = bytes([_REGISTERED]) + size + payload + _REST_OF_SEI
    unit = header + _escaped(message)
    return (len(unit).to_bytes(lengths) if lengths else h264.START_CODE) + unit


def _escaped(content: bytes) -> bytes:
    """Insert a byte wherever the content would look like a start code."""
    result, zeros = bytearray(), 0
    for byte in content:
        if zeros == 2 and byte <= 3:
            result.append(3)
            zeros = 0
        result.append(byte)
        zeros = 0 if byte else zeros + 1
    return bytes(result)


def _av1_unit(payload: bytes) -> bytes:
    content = bytes([_AV1_REGISTERED]) + payload + _REST_OF_SEI
    return bytes([_AV1_METADATA << 3 | 2]) + _leb128(len(content)) + content


def _leb128(value: int) -> bytes:
    result = bytearray()
    while value > 127:
        result.append(value & 127 | 128)
        value >>= 7
    return bytes([*result, value])


def _av1_starts(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each unit begins, and its type."""
    begin = 0
    for kind, _, end in _av1_units(content):
        yield begin, kind
        begin = end


def _av1_units(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the type of each unit, and where its content begins and ends."""
    place = 0
    while place < len(content):
        header = content[place]
        place += 2 if header & 4 else 1
        size = len(content) - place
        if header & 2:
            size = shift = 0
            while place < len(content):
                byte = content[place]
                size |= (byte & 127) << shift
                place, shift = place + 1, shift + 7
                if byte < 128:
                    break
        yield header >> 3 & 15, place, min(place + size, len(content))
        place += size
