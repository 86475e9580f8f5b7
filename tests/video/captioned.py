"""Videos with closed captions, whose bytes are put together here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import av

from tests.video.clips import image

_CONTROL = [(0x14, 0x20), (0x14, 0x20), (0x14, 0x2E), (0x14, 0x2E), (0x14, 0x70), (0x14, 0x70)]
_SHOW, _ERASE = [(0x14, 0x2F)] * 2, [(0x14, 0x2C)] * 2


def pairs_of(text: str, count: int) -> list[tuple[int, int]]:
    """Return CEA-608 pairs that show a text: a control, the letters, and what shows them."""
    codes = [ord(letter) for letter in text + " " * (len(text) % 2)]
    letters = list(zip(codes[::2], codes[1::2], strict=True))
    pairs = [*_CONTROL, *letters, *_SHOW]
    rest = [(0, 0)] * (count - len(pairs) - 4)
    return [*pairs, *rest, *_ERASE, *_ERASE]


def with_parity(code: int) -> int:
    return code | (0x80 if code.bit_count() % 2 == 0 else 0)


def user_data(pair: tuple[int, int]) -> bytes:
    """Return the user data of ATSC A/53 for one pair of the first field, and a filler."""
    units = bytes([0xFC, *map(with_parity, pair), 0xF9, 0, 0])
    return b"GA94\x03\xc2\xff" + units + b"\xff"


def dvd_data(pairs: list[tuple[int, int]]) -> bytes:
    """Return the user data of a DVD for a group of frames."""
    blocks = b"".join(bytes([0xFF, *map(with_parity, pair), 0xFE, 0x80, 0x80]) for pair in pairs)
    return b"CC\x01\xf8" + bytes([0x80 | len(pairs) << 1]) + blocks


def captioned(
    path: Path, text: str = "HELLO WORLD", *, count: int = 50, kind: str = "a53", **options: str
) -> Path:
    """Write an MPEG-2 video of 25 frames a second that shows a text from the 14th frame on.

    Args:
        path: The file; its suffix chooses the container.
        text: The text.
        count: Number of frames.
        kind: `a53` for a pair in each frame, or `dvd` for those of 12 frames at once.
        options: Options of the encoder.
    """
    pairs = pairs_of(text, count)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"bf": "2", "g": "12", **options}
        for number in range(count + 1):
            frame = image(number, (64, 48), "yuv420p") if number < count else None
            if frame is not None:
                frame.pts = number
            for packet in stream.encode(frame):
                place = round(packet.pts * packet.time_base * 25)
                content, data = bytes(packet), b""
                if kind == "a53":
                    data = b"\0\0\1\xb2" + user_data(pairs[place])
                elif packet.is_keyframe:
                    data = b"\0\0\1\xb2" + dvd_data(pairs[place : place + 12])
                slices = content.index(b"\0\0\1\1")
                result = av.Packet(content[:slices] + data + content[slices:])
                result.pts, result.dts, result.time_base = packet.pts, packet.dts, packet.time_base
                result.is_keyframe, result.stream = packet.is_keyframe, stream
                container.mux(result)
    return path


def extracted(path: Path) -> str:
    """Return the captions of a video as FFmpeg's own decoder shows them, as SubRip."""
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"movie={path.name}[out0+subcc]"]
    done = subprocess.run(
        [*command, "-map", "s", "-f", "srt", "-"],
        cwd=path.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout
