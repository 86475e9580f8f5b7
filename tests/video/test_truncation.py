"""Truncated videos are detected, as far as their container allows."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import pytest

from tests.video.clips import Clip, even, is_complete, make
from tests.video.damaged import KINDS, good
from upscale.errors import VideoError
from upscale.video import probe, read_frames
from upscale.video.truncation import Truncation, check_truncation

SHARES = (0.4, 0.6, 0.75, 0.9, 0.97, 0.999)
OPEN = {"ts", "raw"}
BY_25TH, BASE = tuple(range(24)), Fraction(1, 25)
MORE = {
    "asf": Clip(even(24), codec="wmv2", container="wmv"),
    "apng": Clip(even(24), codec="apng", format="rgb24", container="apng"),
    "mxf": Clip(BY_25TH, BASE, codec="mpeg2video", container="mxf"),
    "mpeg": Clip(BY_25TH, BASE, codec="mpeg2video", container="vob"),
    "mpegvideo": Clip(BY_25TH, BASE, codec="mpeg2video", container="m2v"),
    "ogg": Clip(even(24), codec="vp8", container="ogv"),
    "live": Clip(even(24), container="mkv", container_options={"live": "1"}),
    "y4m": Clip(even(24), codec="rawvideo", container="y4m"),
}


def is_reported(path) -> bool:
    """Return whether a video has all frames, or a report says that it may not."""
    try:
        video = probe(path)
    except VideoError:
        return True
    reader = read_frames(video)
    frames = list(reader)
    is_warned = video.end_unknown or video.warnings or not is_complete(reader.report)
    return bool(is_warned) or len(frames) == 24


def made(kind, folder):
    if kind in KINDS:
        return good(kind, folder)
    return make(MORE[kind], folder / f"video.{MORE[kind].container}")


@pytest.mark.parametrize("kind", [*KINDS, *MORE])
def test_truncated_video_is_reported(kind, tmp_path):
    whole = made(kind, tmp_path)
    video = probe(whole)
    assert video.warnings == () and len(video.frame_times) == 24
    content = whole.read_bytes()
    for share in SHARES:
        cut = tmp_path / f"cut{whole.suffix}"
        cut.write_bytes(content[: int(len(content) * share)])
        assert is_reported(cut), share


@pytest.mark.parametrize("kind", KINDS)
def test_complete_video_is_recognised_if_the_container_records_its_end(kind, tmp_path):
    assert probe(good(kind, tmp_path)).end_unknown == (kind in OPEN)


@pytest.mark.parametrize("content", [b"", b"\0", b"OggS", b"\x18\x53\x80\x67", b"\xff" * 40])
@pytest.mark.parametrize(
    "container",
    ["matroska,webm", "avi", "asf", "flv", "ogg", "mov,mp4,m4a,3gp,3g2,mj2", "mpegts", "mxf", "gif",
     "apng", "mpeg", "unheard of"],
)  # fmt: skip
def test_truncation_check_accepts_any_content(container, content):
    assert check_truncation(container, io.BytesIO(content)) in Truncation


def test_trailing_bytes_are_ignored(tmp_path):
    path = make(Clip(even(24)), tmp_path / "video.mkv")
    path.write_bytes(path.read_bytes() + b"\0" * 100)
    with av.open(str(path)) as container, path.open("rb") as file:
        assert check_truncation(container.format.name, file) is Truncation.COMPLETE
