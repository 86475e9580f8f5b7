"""Planes of any pixel format are read losslessly."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.format import VideoFormat
from av.video.reformatter import Interpolation, VideoReformatter

from upscale.video.planes import PlaneReader, nearest_planar_format

WIDTH, HEIGHT = 34, 18


@pytest.mark.parametrize(
    ("source", "planar"),
    [
        ("yuv420p", "yuv420p"),
        ("yuvj444p", "yuv444p"),
        ("yuv440p12le", "yuv440p12le"),
        ("yuv420p10be", "yuv420p10le"),
        ("nv12", "yuv420p"),
        ("nv24", "yuv444p"),
        ("p010le", "yuv420p10le"),
        ("p016le", "yuv420p16le"),
        ("yuyv422", "yuv422p"),
        ("uyyvyy411", "yuv411p"),
        ("y210le", "yuv422p10le"),
        ("xv36le", "yuv444p12le"),
        ("ayuv", "yuva444p"),
        ("rgb24", "gbrp"),
        ("bgr0", "gbrp"),
        ("rgba", "gbrap"),
        ("rgb48be", "gbrp16le"),
        ("rgba64le", "gbrap16le"),
        ("x2rgb10le", "gbrp10le"),
        ("pal8", "gbrp"),
        ("gray", "gray"),
        ("gray12be", "gray12le"),
        ("monow", "gray"),
        ("ya8", "yuva444p"),
        ("gbrp9le", "gbrp9le"),
        ("bayer_rggb8", "gbrp"),
    ],
)
def test_nearest_planar_format(source, planar):
    assert nearest_planar_format(VideoFormat(source)).name == planar


def filled(name: str, seed: int = 1) -> av.VideoFrame:
    """Return a frame with noise in every bit of its samples."""
    frame = av.VideoFrame(WIDTH, HEIGHT, name)
    bits = max(component.bits for component in frame.format.components)
    rng = np.random.default_rng(seed)
    for plane in frame.planes:
        if 8 < bits < 16:
            samples = rng.integers(0, 1 << bits, plane.buffer_size // 2).astype("<u2")
            high = name.startswith(("p0", "p2", "p4", "y21"))
            data = (samples << (16 - bits if high else 0)).astype("<u2").tobytes()
        else:
            data = rng.bytes(plane.buffer_size)
        plane.update(data)
    return frame


PACKED = (
    "nv12 nv21 nv16 nv24 p010le p012le p016le p210le p410le yuyv422 uyvy422 yvyu422 y210le y212le"
    " vuya ayuv ayuv64le vyu444 rgb24 bgr24 rgba bgra argb abgr rgb48le bgr48le rgba64le ya8 ya16le"
    " rgb8"
)


@pytest.mark.parametrize("name", PACKED.split())
@pytest.mark.parametrize("full", [False, True])
def test_packed_formats_are_unpacked_losslessly(name, full):
    frame = filled(name)
    frame.color_range = 2 if full else 1
    planes = nearest_planar_format(frame.format)
    reading = PlaneReader(planes, WIDTH, HEIGHT)
    planar = reading.planar(frame)
    assert planar.format.name == planes.name
    back = VideoReformatter().reformat(
        planar,
        format=name,
        interpolation=Interpolation.POINT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT,
        src_color_range=2,
        dst_color_range=2,
        threads=1,  # with several, FFmpeg sometimes leaves samples of uyvy422 out
    )
    size = {"y210le": 4, "y212le": 4, "vyu444": 3}.get(
        name, frame.format.padded_bits_per_pixel // 8
    )
    for plane, stored in zip(back.planes, frame.planes, strict=True):
        width = plane.width * size if len(frame.planes) == 1 else plane.width
        one, other = (
            np.frombuffer(each, np.uint8).reshape(each.height, -1) for each in (plane, stored)
        )
        np.testing.assert_array_equal(one[:, :width], other[:, :width])


def test_rgb_planes_are_ordered_red_green_blue_alpha():
    frame = av.VideoFrame(WIDTH, HEIGHT, "rgba")
    frame.planes[0].update(bytes([10, 20, 30, 40]) * (frame.planes[0].buffer_size // 4))
    reading = PlaneReader(nearest_planar_format(frame.format), WIDTH, HEIGHT)
    arrays = reading.arrays(reading.planar(frame))
    assert [(plane.shape, int(plane[5, 5])) for plane in arrays] == [
        ((HEIGHT, WIDTH), value) for value in (10, 20, 30, 40)
    ]


def test_bottom_up_frames_are_read_upright(tmp_path):
    """Raw video in AVI is stored bottom-up."""
    path = tmp_path / "video.avi"
    down = np.broadcast_to(np.arange(HEIGHT, dtype=np.uint8)[:, None] * 9, (HEIGHT, WIDTH))
    image = np.stack([down, down + 1, down + 2], axis=-1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr24"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
            container.mux(stream.encode(frame))
    from upscale.video import probe, read_frames

    frames = list(read_frames(probe(path)))
    assert len(frames) == 3
    for frame in frames:
        np.testing.assert_array_equal(np.stack(frame.planes, axis=-1), image)


def test_planes_with_negative_stride_are_read_in_order():
    graph = av.filter.Graph()
    source = graph.add_buffer(width=WIDTH, height=HEIGHT, format="yuv420p", time_base=1)
    graph.link_nodes(source, graph.add("vflip"), graph.add("buffersink")).configure()
    frame = filled("yuv420p")
    graph.vpush(frame)
    flipped = graph.vpull()
    assert flipped.planes[0].line_size < 0
    reading = PlaneReader(nearest_planar_format(frame.format), WIDTH, HEIGHT)
    for plane, flipped_plane in zip(reading.arrays(frame), reading.arrays(flipped), strict=True):
        np.testing.assert_array_equal(plane[::-1], flipped_plane)
