"""Which frames are flagged as interlaced, without decoding them."""

from __future__ import annotations

import av
import numpy as np
import pytest

from tests.video.clips import Clip, even, make
from upscale.video.probe import probe
from upscale.video.reader import read_frames
from upscale.video.scan_types import scan_types


def flags(path):
    """Return what FFmpeg's decoder says of each frame, and what the headers say in total."""
    with av.open(str(path)) as container:
        decoded = [frame.interlaced_frame for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        counter = scan_types(container.streams.video[0])
        for packet in container.demux(video=0):
            counter.add(packet)
    return decoded, (counter._progressive, counter._interlaced)


@pytest.mark.parametrize("container", ["mpegts", "mp4", "mkv"])
@pytest.mark.parametrize(
    "options",
    [
        "tff=1", "bff=1", "fake-interlaced=1", "pic-struct=1", "tff=1:pic-struct=1",
        "nal-hrd=vbr:vbv-maxrate=900:vbv-bufsize=900:tff=1", "keyint=3", "cabac=0:tff=1:bframes=3",
    ],
)  # fmt: skip
def test_flags_of_h264_are_those_of_the_decoder(container, options, tmp_path):
    name = tmp_path / f"in.{'ts' if container == 'mpegts' else container}"
    clip = Clip(
        even(12), container=container, interlaced="tff" in options or "bff" in options,
        options={"x264-params": options},
    )  # fmt: skip
    decoded, (progressive, interlaced) = flags(make(clip, name))
    assert (progressive, interlaced) == (decoded.count(False), decoded.count(True))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A broadcast in H.264 whose first half is progressive and the second interlaced."""
    folder = tmp_path_factory.mktemp("mixed")
    parts = []
    for number, options in enumerate(["fake-interlaced=1:pic-struct=1:qp=0", "tff=1:qp=0"]):
        clip = Clip(
            even(12), container="mpegts", interlaced=bool(number), options={"x264-params": options}
        )
        parts.append(make(clip, folder / f"{number}.ts").read_bytes())
    path = folder / "in.ts"
    path.write_bytes(b"".join(parts))
    return path


def test_only_interlaced_frames_of_h264_are_filtered(mixed):
    video = probe(mixed)
    assert (video.interlaced, video.progressive) == (True, 12)
    plain, filtered = (list(read_frames(video, deinterlace=on)) for on in (False, True))
    same = [
        np.array_equal(*(f.planes[0] for f in pair)) for pair in zip(plain, filtered, strict=True)
    ]
    assert same[:11] == [True] * 11
    assert not any(same[12:])


def test_videos_of_one_kind_keep_the_kind_of_their_container(tmp_path):
    video = probe(make(Clip(even(3)), tmp_path / "in.mp4"))
    assert (video.interlaced, video.progressive) == (False, None)
    clip = Clip(even(3), interlaced=True, options={"x264-params": "tff=1"})
    video = probe(make(clip, tmp_path / "two.mp4"))
    assert (video.interlaced, video.progressive) == (True, None)


@pytest.mark.parametrize("extradata", [b"", b"\1", b"\1\x64\0\x28\xff\xe1\0", b"\0\0\1\x67"])
def test_damaged_headers_count_nothing(extradata):
    from upscale.video.scan_types import _H264

    counter = _H264(extradata)
    for content in (b"", b"\0\0\1\x67\x64", b"\0\0\1\x65", b"\0\0\1\x06\x01\xff\xff", b"\0\0\0\5e"):
        counter.add(av.Packet(content) if content else av.Packet(b"\0"))
    assert counter.counts == (0, 0)
