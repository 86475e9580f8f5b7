"""Damaged videos give frames and a correct report, or a one-line error; no crash and no hang."""

from __future__ import annotations

import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.budget import cases
from tests.damage import run_limited
from tests.video.clips import Clip, even, make
from tests.video.damaged import KINDS
from upscale.errors import VideoError
from upscale.video import probe, read_frames

PROGRAM = Path(__file__).with_name("damaged.py")
MEMORY = 4 * 1024**3
ALL_CASES = 120
CASES = cases(ALL_CASES)
LITTLE_MEMORY = 2 * 1024**3

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_videos_give_frames_or_a_one_line_error(kind, tmp_path):
    """For longer runs: `python tests/video/damaged.py fuzz FOLDER mkv 9999 7`."""
    count = ALL_CASES if kind == "gif" else CASES
    done = run_limited(PROGRAM, "fuzz", tmp_path, kind, count, 3, memory=MEMORY)
    assert done.returncode == 0, (done.stdout[-40:], done.stderr[-2000:])
    assert "Traceback" not in done.stderr
    lines = done.stdout.split()[1::2]
    assert len(lines) == count
    assert lines.count("damaged") + lines.count("refused") > (5 if kind == "gif" else count // 4)
    # Parts missing from a GIF may contain whole frames, which cannot be detected. Their share
    # needs all cases to be close to its mean.
    assert lines.count("silent") <= (count // 10 if kind == "gif" else 0)


def test_damage_found_while_the_file_is_opened_is_reported(tmp_path):
    path = make(Clip(even(24), codec="ffv1", container="mkv", sound=True), tmp_path / "clip.mkv")
    data = bytearray(path.read_bytes())
    # The cluster's first block, whose length then exceeds the cluster.
    block = data.index(b"\xa3", data.index(b"\x1f\x43\xb6\x75"))
    data[block + 1 : block + 9] = b"\x01\x00\x00\x00\x00\xff\xff\xff"
    path.write_bytes(data)
    assert any("exceeds" in warning for warning in probe(path).warnings)


READ_WITH_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from upscale.video import probe, read_frames

video = probe(Path(sys.argv[1]))
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]), -1))
try:
    frames = sum(1 for _ in read_frames(video))
except MemoryError:
    print("out of memory")
else:
    print(frames)
"""


@pytest.mark.parametrize(
    ("megabytes", "outcome"), [(1, "out of memory"), (12, "out of memory"), (2000, "3")]
)
def test_frames_are_not_lost_for_lack_of_memory(megabytes, outcome, tmp_path):
    path = make(
        Clip(even(3), codec="mpeg4", container="avi", size=(2400, 1800)), tmp_path / "a.avi"
    )
    done = subprocess.run(
        [sys.executable, "-c", READ_WITH_LITTLE_MEMORY, str(path), str(megabytes << 20)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == (outcome, 0), done.stderr


SIZE = (300, 260)


@pytest.mark.parametrize(
    ("clip", "original", "instead"),
    [
        (
            Clip(even(3), codec="ffv1", container="mkv", size=SIZE),
            b"\xb0\x82\x01\x2c\xba\x82\x01\x04",
            b"\xb0\x82\xff\xff\xba\x82\xff\xff",
        ),
        (
            Clip(even(3), codec="vp8", container="webm", size=SIZE),
            b"\x9d\x01\x2a\x2c\x01\x04\x01",
            b"\x9d\x01\x2a\xff\x3f\xff\x3f",
        ),
        (
            Clip((0, 1, 2), Fraction(1, 25), codec="rawvideo", container="avi", size=SIZE),
            struct.pack("<III", 40, *SIZE),
            struct.pack("<III", 40, 65535, 65535),
        ),
        (
            Clip(
                (0, 1, 2), Fraction(1, 25), codec="gif", container="gif", format="gray", size=SIZE
            ),
            struct.pack("<HH", *SIZE),
            struct.pack("<HH", 65535, 65535),
        ),
        (
            Clip(even(3), codec="rawvideo", container="y4m", size=SIZE),
            b"W300 H260",
            b"W65535 H65535",
        ),
    ],
    ids=["ffv1", "vp8", "raw", "gif", "y4m"],
)
def test_huge_size_in_a_hostile_header_allocates_no_memory(clip, original, instead, tmp_path):
    path = make(clip, tmp_path / f"huge.{clip.container}")
    content = path.read_bytes()
    assert original in content
    path.write_bytes(content.replace(original, instead))
    done = run_limited(PROGRAM, "look", path, memory=LITTLE_MEMORY)
    assert (done.returncode, done.stdout.strip()) in ((0, "refused"), (0, "damaged")), done.stderr


def test_max_pixels_can_be_raised(tmp_path):
    path = make(Clip(even(3)), tmp_path / "clip.mp4")
    with pytest.raises(VideoError, match=r"64x48 exceeds the limit of 3071.*--max-pixels"):
        probe(path, max_pixels=64 * 48 - 1)
    video = probe(path, max_pixels=64 * 48)
    assert len(list(read_frames(video))) == 3


def test_raised_max_pixels_applies_to_the_decoder(tmp_path):
    path, size = tmp_path / "huge.mkv", (16384, 8200)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p"
        container.mux(stream.encode(av.VideoFrame(*size, "yuvj420p")))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="--max-pixels"):
        probe(path)
    (frame,) = read_frames(probe(path, max_pixels=1 << 28))
    assert frame.planes[0].shape == size[::-1]
