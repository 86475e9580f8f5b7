"""Segment files: reproducible bytes, exact times, and unchanged frames."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video.videos import HDR10, HERE, HOLDER, SIZE, ffprobe, frames, make_encoder, video
from upscale.errors import OutputError
from upscale.video.encoders import Encoder
from upscale.video.info import Colour
from upscale.video.planes import plane_format
from upscale.video.segment_writer import SegmentWriter, as_frame

FULL = Path("/dev/full")
UNEVEN = [10**10 + 3003 * number + number % 5 * 40 for number in range(40)]


def write(path, encoder: Encoder, times=UNEVEN) -> bytes:
    with SegmentWriter(path, encoder) as writer:
        for frame in frames(encoder, times):
            writer.write(frame)
    assert writer.times == tuple(times)
    return path.read_bytes()


def packets(path) -> list[int]:
    with av.open(str(path)) as container:
        return [packet.pts for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("codec", HERE)
@pytest.mark.parametrize("size", [SIZE, (178, 146)])
def test_the_same_frames_give_the_same_bytes(codec, size, tmp_path):
    encoder = make_encoder(
        video(time_base=Fraction(1, 90000)), HOLDER.get(codec, "o.mkv"), size, codec=codec
    )
    results = {write(tmp_path / f"{run}.part", encoder) for run in range(6)}
    assert len(results) == 1


@pytest.mark.parametrize("codec", HERE)
@pytest.mark.parametrize("unit", [Fraction(1, 90000), Fraction(1001, 30000), Fraction(1, 10**9)])
def test_packet_timestamps_are_frame_numbers(codec, unit, tmp_path):
    encoder = make_encoder(video(time_base=unit), HOLDER.get(codec, "o.mkv"), codec=codec)
    millisecond = max(1, round(Fraction(1, 1000) / unit))
    times = [time * millisecond for time in (-5, 0, 1, *range(100, 1000, 30))]
    write(tmp_path / "a.part", encoder, times)
    found = packets(tmp_path / "a.part")
    assert sorted(found) == list(range(33))
    if codec in ("x264", "x265"):
        assert found != sorted(found), "frames were not reordered: the test sees nothing"


@pytest.mark.parametrize(
    "planes",
    ["yuv420p", "yuv422p12le", "yuv444p16le", "gray", "gray10le", "gbrp", "gbrp10le", "yuva420p"],
)
def test_lossless_codec_preserves_planes(planes, tmp_path):
    rgb = planes.startswith("gbr")
    source = video(planes, colour=Colour("rgb", True)) if rgb else video(planes)
    encoder = make_encoder(source, size=(63, 47), codec="ffv1")
    write(tmp_path / "a.part", encoder, range(3))
    with av.open(str(tmp_path / "a.part")) as container:
        found = [frame.reformat(format=planes) for frame in container.decode(video=0)]
    for frame, expected in zip(found, frames(encoder, range(3)), strict=True):
        order = (2, 0, 1) if rgb else (0, 1, 2, 3)
        for index, plane in zip(order, expected.planes, strict=False):
            own = np.frombuffer(frame.planes[index], plane.dtype)
            own = own.reshape(frame.planes[index].height, -1)[:, : frame.planes[index].width]
            assert np.array_equal(own, plane)


def test_planes_are_packed_losslessly_for_hardware():
    """P010 stores samples in the high bits, and interleaves the chroma planes."""
    encoder = replace(make_encoder(video("yuv420p10le"), codec="x264"), pixel_format="p010le")
    (expected,) = frames(encoder, [7])
    frame = as_frame(expected, encoder)
    assert (frame.pts, frame.format.name) == (7, "p010le")
    luma = np.frombuffer(frame.planes[0], np.uint16).reshape(48, -1)[:, :64]
    both = np.frombuffer(frame.planes[1], np.uint16).reshape(24, -1)[:, :64]
    assert np.array_equal(luma >> 6, expected.planes[0])
    assert np.array_equal(both[:, 0::2] >> 6, expected.planes[1])
    assert np.array_equal(both[:, 1::2] >> 6, expected.planes[2])


@pytest.mark.parametrize("codec", HERE)
def test_decoded_frames_have_the_colour_tags(codec, tmp_path):
    colour = Colour("bt2020", full_range=False, primaries=9, transfer=16, space=9)
    source = video("yuv420p10le", colour=colour, sample_aspect=Fraction(4, 3))
    encoder = make_encoder(source, HOLDER.get(codec, "o.mkv"), codec=codec)
    write(tmp_path / "a.part", encoder, range(3))
    with av.open(str(tmp_path / "a.part")) as container:
        frame = next(container.decode(video=0))
    assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (9, 16, 9)
    assert frame.color_range == 1


def test_full_range_is_tagged(tmp_path):
    encoder = make_encoder(video(colour=Colour("bt601", full_range=True, space=5)))
    write(tmp_path / "a.part", encoder, range(3))
    with av.open(str(tmp_path / "a.part")) as container:
        frame = next(container.decode(video=0))
    assert (frame.color_range, frame.colorspace) == (2, 5)


@pytest.mark.parametrize("codec", ["x265", "svt-av1"])
def test_hdr10_metadata_is_read_back_by_ffprobe(codec, tmp_path):
    source = video("yuv420p10le", hdr=HDR10, colour=Colour("bt2020", False, 9, 16, 9))
    write(tmp_path / "a.part", make_encoder(source, codec=codec), range(3))
    (frame, *_) = ffprobe(tmp_path / "a.part", "-show_frames")["frames"]
    facts = {key: value for each in frame["side_data_list"] for key, value in each.items()}
    assert (facts["max_content"], facts["max_average"]) == (1000, 400)
    values = {
        key: float(Fraction(value))
        for key, value in facts.items()
        if "_" in key and "/" in str(value)
    }
    assert values["red_x"] == pytest.approx(0.68, abs=1e-4)
    assert values["white_point_y"] == pytest.approx(0.329, abs=1e-4)
    assert values["max_luminance"] == pytest.approx(1000, abs=0.1)
    assert values["min_luminance"] == pytest.approx(0.0001, abs=1e-4)


def test_hdr10_metadata_is_written_to_h264(tmp_path):
    """Only recent versions of FFmpeg read it there."""
    write(tmp_path / "a.part", make_encoder(video("yuv420p10le", hdr=HDR10)), range(3))
    with av.open(str(tmp_path / "a.part")) as container:
        side_data = next(container.decode(video=0)).side_data
    assert np.frombuffer(side_data["CONTENT_LIGHT_LEVEL"], np.uint32).tolist() == [1000, 400]
    numbers = np.frombuffer(side_data["MASTERING_DISPLAY_METADATA"], np.int32)[:20].reshape(-1, 2)
    expected = [0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.0001, 1000]
    assert (numbers[:, 0] / numbers[:, 1]).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("times", [[0, 0], [5, 3]])
def test_frames_out_of_order_are_rejected(times, tmp_path):
    with pytest.raises(ValueError, match="follows one at"):
        write(tmp_path / "a.part", make_encoder(video()), times)


def test_frames_of_another_size_are_rejected(tmp_path):
    small = make_encoder(video(), size=(32, 24))
    with (
        pytest.raises(ValueError, match="a plane is"),
        SegmentWriter(tmp_path / "a.part", make_encoder(video())) as writer,
    ):
        writer.write(next(frames(small, [0])))


@pytest.mark.parametrize("codec", HERE)
@pytest.mark.parametrize("count", [0, 1])
def test_segments_with_no_or_one_frame_are_valid(codec, count, tmp_path):
    write(
        tmp_path / "a.part",
        make_encoder(video(), HOLDER.get(codec, "o.mkv"), codec=codec),
        range(count),
    )
    assert (packets(tmp_path / "a.part") if count else []) == list(range(count))


@pytest.mark.skipif(not FULL.exists(), reason="there is no full drive here")
def test_full_disk_is_a_one_line_error():
    with pytest.raises(OutputError, match=r"^/dev/full: cannot be written \(.*[Nn]o space"):
        write(FULL, make_encoder(video()))


def test_missing_folder_is_a_one_line_error(tmp_path):
    with pytest.raises(OutputError, match=r"cannot be written \(No such file"):
        SegmentWriter(tmp_path / "no" / "a.part", make_encoder(video()))


def test_plane_formats_equal_those_of_ffmpeg():
    for name in ("yuv420p", "yuv422p10le", "yuva444p12le", "gbrap16le", "gray9le", "yuv411p"):
        ours, theirs = plane_format(name), av.VideoFormat(name)
        assert ours.depth == theirs.components[0].bits
        assert (ours.kind == "rgb") == theirs.is_rgb
        if ours.kind == "yuv":
            across, down = theirs.chroma_width(64), theirs.chroma_height(64)
            assert (across, down) == (64 >> ours.chroma_across, 64 >> ours.chroma_down)
