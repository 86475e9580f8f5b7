from __future__ import annotations

from pathlib import Path

import pytest

from upscale.files.video_files import is_video_content, is_video_name


@pytest.mark.parametrize(
    "start",
    [
        b"\0\0\0\x20ftypisom",
        b"\0\0\0\x20ftypmp42",
        b"\0\0\0\x14ftypqt  ",
        b"\0\0\0\x08wide\0\0\0\0mdat",
        b"RIFF\x24\0\0\0AVI LIST",
        b"FLV\x01\x05",
        b"\0\0\x01\xba\x44",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9",
        b"YUV4MPEG2 W64 H48",
        (b"\x47" + bytes(187)) * 2,
        bytes(4) + (b"\x47" + bytes(191)) * 2,
    ],
)
def test_videos_are_recognised_by_their_content(start):
    assert is_video_content(start)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"\0\0\0\x18ftypcrx ",
        b"\0\0\0\x18ftypavif",
        b"RIFF\x24\0\0\0WAVE",
        b"RIFF\x24\0\0\0WEBP",
        b"G" + bytes(200),
        b"Grocery list",
        b"%PDF-1.7",
    ],
)
def test_other_files_are_not(start):
    assert not is_video_content(start)


def test_names():
    assert is_video_name(Path("a/CLIP.MOV"))
    assert not is_video_name(Path("mov"))
