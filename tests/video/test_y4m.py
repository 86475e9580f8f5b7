"""Y4M as FFmpeg reads and writes it."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.video.clips import image
from upscale.errors import UsageError, VideoError
from upscale.video.info import FrameFormat
from upscale.video.planes import plane_format
from upscale.video.y4m import Y4M, read_y4m, write_y4m_frame, y4m_format, y4m_header

FILM = Fraction(24000, 1001)


def written(format, size=(20, 14), count=3, full_range=False, aspect=None):
    """Write frames as FFmpeg's images of tests/video/clips.py; return the bytes and the planes."""
    from upscale.video.info import Colour, VideoFrame
    from upscale.video.planes import PlaneReader

    planes = plane_format(format)
    reader = PlaneReader(planes, *size)
    arrays = [reader.arrays(image(number, size, format)) for number in range(count)]
    frames = FrameFormat(*size, planes, Colour("bt709", full_range, chroma_location=1))
    stream = io.BytesIO()
    stream.write(y4m_header(frames, FILM, aspect))
    for number, each in enumerate(arrays):
        write_y4m_frame(stream, VideoFrame(number, each))
    return stream.getvalue(), arrays


@pytest.mark.parametrize("format", list(Y4M.pixel_formats()))
def test_ffmpeg_reads_every_pixel_format(format):
    content, arrays = written(format, aspect=Fraction(16, 11))
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        assert container.format.name == "yuv4mpegpipe"
        assert (stream.width, stream.height, stream.average_rate) == (20, 14, FILM)
        assert stream.sample_aspect_ratio == Fraction(16, 11)
        frames = list(container.decode(stream))
    assert [frame.format.name for frame in frames] == [format] * 3
    video, decoded = read_y4m(io.BytesIO(content))
    again = list(decoded)
    assert (video.rate, video.planes.name) == (FILM, format)
    for frame, expected in zip(again, arrays, strict=True):
        assert all(map(np.array_equal, frame.planes, expected))


@pytest.mark.parametrize("full_range", [True, False])
def test_the_range_is_kept_also_of_odd_sizes(full_range):
    content, arrays = written("yuv420p", (21, 13), full_range=full_range)
    video, decoded = read_y4m(io.BytesIO(content))
    frames = list(decoded)
    assert video.colour.full_range == full_range
    assert all(map(np.array_equal, frames[2].planes, arrays[2]))


def test_frames_lose_as_little_as_possible():
    content, _ = written("yuv420p", count=1)
    video, _ = read_y4m(io.BytesIO(content))
    assert y4m_format(video, None, (40, 28)).planes.name == "yuv420p"
    assert y4m_format(video, "yuv444p10le", (40, 28)).planes.name == "yuv444p10le"
    with pytest.raises(UsageError, match="gbrp"):
        y4m_format(video, "gbrp", (40, 28))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not Y4M"),
        (b"RIFF", "is not Y4M"),
        (written("yuv420p", (200, 100))[0], "limit of 10000 pixels"),
        (b"YUV4MPEG2 W8 H8 F25:1 C420jpeg\n", "contains no frame"),
        (b"YUV4MPEG2 W8 H0 F25:1 C420jpeg\n", "no size"),
        (b"YUV4MPEG2 W8 H8 F25:1 Cxyz\x1b\n", "unknown kind"),
        (written("yuv420p")[0][:80], "in the middle of frame 1"),
    ],
)
def test_other_streams_are_refused_in_one_line(content, message):
    with pytest.raises(VideoError) as caught:
        read_y4m(io.BytesIO(content), 10_000)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [1, 400, 425, 430])
def test_a_stream_that_ends_early_is_an_error_after_its_whole_frames(cut):
    _, frames = read_y4m(io.BytesIO(written("yuv420p")[0][:-cut]))
    with pytest.raises(VideoError, match="in the middle of frame"):
        list(frames)


def test_a_foreign_header_is_read():
    content, arrays = written("yuv420p")
    _, _, rest = content.partition(b"\n")
    plain = b"YUV4MPEG2 W20 H14 F30000:1001\n" + rest.replace(b"FRAME\n", b"FRAME Ip\n")
    video, frames = read_y4m(io.BytesIO(plain))
    assert (video.rate, video.planes.name) == (Fraction(30000, 1001), "yuv420p")
    assert np.array_equal(next(frames).planes[0], arrays[0][0])
