"""A video whose end was cut off is told from a whole one, as far as its container can say."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import pytest

from tests.video.clips import Clip, even, make
from tests.video.damaged import KINDS, good
from upscale.errors import VideoError
from upscale.video import probe, read_frames
from upscale.video.truncation import Ending, ending

TILE_CONFIGS = (0.4, 0.6, 0.75, 0.9, 0.97, 0.999)
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


def is_told(path) -> bool:
    """Whether anything says that the video may not be whole."""
    try:
        video = probe(path)
    except VideoError:
        return True
    reader = read_frames(video)
    frames = list(reader)
    said = video.open_end or video.warnings or not reader.report.complete
    return bool(said) or len(frames) == 24


def made(kind, folder):
    if kind in KINDS:
        return good(kind, folder)
    return make(MORE[kind], folder / f"video.{MORE[kind].container}")


@pytest.mark.parametrize("kind", [*KINDS, *MORE])
def test_no_end_is_lost_without_a_word(kind, tmp_path):
    whole = made(kind, tmp_path)
    video = probe(whole)
    assert video.warnings == () and len(video.plan) == 24
    content = whole.read_bytes()
    for share in TILE_CONFIGS:
        cut = tmp_path / f"cut{whole.suffix}"
        cut.write_bytes(content[: int(len(content) * share)])
        assert is_told(cut), share


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_whole_video_its_end_is_known_where_its_container_has_one(kind, tmp_path):
    assert probe(good(kind, tmp_path)).open_end == (kind in OPEN)


@pytest.mark.parametrize("content", [b"", b"\0", b"OggS", b"\x18\x53\x80\x67", b"\xff" * 40])
@pytest.mark.parametrize(
    "container",
    ["matroska,webm", "avi", "asf", "flv", "ogg", "mov,mp4,m4a,3gp,3g2,mj2", "mpegts", "mxf", "gif",
     "apng", "mpeg", "unheard of"],
)  # fmt: skip
def test_what_is_no_video_has_no_end(container, content):
    assert ending(container, io.BytesIO(content)) in Ending


def test_what_lies_behind_the_end_does_not_matter(tmp_path):
    path = make(Clip(even(24)), tmp_path / "video.mkv")
    path.write_bytes(path.read_bytes() + b"\0" * 100)
    with av.open(str(path)) as container, path.open("rb") as file:
        assert ending(container.format.name, file) is Ending.THERE
