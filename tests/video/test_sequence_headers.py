"""Changes of size and pixel shape are found in the headers, before a frame is decoded."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest

from tests.video.clips import Clip, even, image, make
from upscale.video.probe import probe
from upscale.video.sequence_headers import SequenceHeaders


def mpeg2(path, size, aspect):
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for number in range(10):
            frame = image(number, size, "yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def h264(path, size, aspect, options=()):
    clip = Clip(
        even(10), container="mpegts", size=size, sample_aspect=aspect,
        format="yuv420p", options={"x264-params": "keyint=5", **dict(options)},
    )  # fmt: skip
    return make(clip, path)


def joined(folder, write, *parts):
    path = folder / "in.ts"
    contents = [write(folder / f"{n}.ts", *part).read_bytes() for n, part in enumerate(parts)]
    path.write_bytes(b"".join(contents))
    return path


@pytest.mark.parametrize("write", [mpeg2, h264])
def test_changes_are_told_when_a_video_is_probed(write, tmp_path):
    wide, narrow = Fraction(4, 3), Fraction(1)
    sizes = joined(tmp_path, write, ((64, 48), narrow), ((96, 64), narrow))
    size, *others = probe(sizes).changes
    assert size.startswith("the size of frames changes to 96x64 at 0.")
    assert all("shape" in line for line in others)
    shapes = joined(tmp_path, write, ((64, 48), narrow), ((64, 48), wide))
    (shape,) = probe(shapes).changes
    assert shape.startswith("the shape of pixels changes to 4:3 at 0.")
    same = joined(tmp_path, write, ((64, 48), wide), ((64, 48), wide))
    assert probe(same).changes == ()


EVEN = ("yuv420p", "yuv422p", "yuv420p10le")
CASES = [
    *((size, format, False) for size in [(64, 48), (66, 50), (192, 108)] for format in EVEN),
    *(((192, 108), format, True) for format in (*EVEN, "yuv444p")),
    *(((17, 33), format, False) for format in ("yuv444p", "gray")),
]
"""Sizes, pixel formats and whether a video is interlaced."""


@pytest.mark.parametrize(("size", "format", "interlaced"), CASES)
def test_sizes_of_h264_are_those_of_the_decoder(size, format, interlaced, tmp_path):
    options = {"x264-params": "tff=1"} if interlaced else {}
    clip = Clip(
        even(1), container="mpegts", size=size, format=format, interlaced=interlaced,
        sample_aspect=Fraction(7, 5), options=options,
    )  # fmt: skip
    path = make(clip, tmp_path / "in.ts")
    with av.open(str(path), format="mpegts") as container:
        stream = container.streams.video[0]
        headers = SequenceHeaders(stream)
        for packet in container.demux(stream):
            headers.add(packet)
    ((_, shape),) = headers.shapes
    assert (shape.width, shape.height, shape.aspect) == (*size, Fraction(7, 5))


@pytest.mark.parametrize("content", [b"", b"\x67", b"\xb3", b"\x67" + b"\0" * 40, b"\xb3\0\0\0\0"])
def test_damaged_headers_are_passed_by(content):
    for codec in ("h264", "mpeg2video"):
        stream = av.CodecContext.create(codec, "r")
        headers = SequenceHeaders(type("Stream", (), {"codec_context": stream}))
        headers.add(av.Packet(b"\0\0\1" + content))
        assert headers.shapes == []
