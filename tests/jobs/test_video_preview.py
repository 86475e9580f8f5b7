from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.jobs.test_video import Doubling, doubled
from tests.video.clips import Clip, even, make, make_kind, number_in
from upscale.errors import OutputError, UsageError, VideoError
from upscale.images import read_image
from upscale.jobs.video import VideoSettings
from upscale.jobs.video_preview import plan_preview, preview_name, run_preview
from upscale.video import probe

LABEL, GAP = 28, 8


def preview(source, output, *times, settings=None):
    settings = settings or VideoSettings()
    job = plan_preview(source, output, doubled, settings, [Fraction(str(time)) for time in times])
    report = run_preview(job, Doubling(), lambda *_: None)
    image = read_image(output)
    assert report.size == (image.width, image.height)
    return image, report


def small(source, output, *times):
    """Return the source frame of a preview, in which `Doubling` repeated every pixel."""
    image, _ = preview(source, output, *times)
    return image.pixels[::2, ::2]


@pytest.mark.parametrize("kind", ["cfr", "vfr", "bframes", "start", "deep"])
def test_preview_of_one_time_is_the_full_displayed_frame(kind, tmp_path):
    source = make_kind(kind, tmp_path)
    video = probe(source)
    for number in (0, 7, 12):
        start, end = (video.frame_times[at] * video.time_base for at in (number, number + 1))
        output = tmp_path / f"{number}.png"
        image, report = preview(source, output, float(start + (end - start) * Fraction(9, 10)))
        assert (image.width, image.height) == doubled((video.width, video.height))
        assert number_in(image.pixels[..., 1], image.depth) == number
        assert report.times == (float(start),)
        assert image.depth == (16 if kind == "deep" else 8)


def test_default_times_are_spread_over_the_selected_part(tmp_path):
    source = make_kind("bframes", tmp_path)
    _, report = preview(source, tmp_path / "a.png")
    assert report.times == (8 / 25, 25 / 25, 41 / 25)
    settings = VideoSettings(start=Fraction(1), frames=2)
    _, report = preview(source, tmp_path / "b.png", settings=settings)
    assert report.times == (25 / 25, 26 / 25)


def test_sheet_shows_labels_and_the_same_part_before_and_after(tmp_path):
    source = make_kind("cfr", tmp_path)
    image, _ = preview(source, tmp_path / "sheet.png", 0, 0.4)
    width, height = doubled((64, 48))
    rows = height + LABEL + GAP
    assert (image.width, image.height) == (2 * width + 3 * GAP, 2 * rows)
    for row, number in enumerate((0, 10)):
        part = image.pixels[row * rows : (row + 1) * rows].astype(int)
        for left in (GAP, 2 * GAP + width):
            assert part[:LABEL, left : left + width].max() > 100
        frames = part[LABEL : LABEL + height]
        before = frames[:, GAP : GAP + width]
        after = frames[:, 2 * GAP + width : 2 * (GAP + width)]
        assert number_in(before[..., 1]) == number_in(after[..., 1]) == number
        assert np.abs(before - after).mean() < 12


def test_sheet_crops_the_most_detailed_part_of_large_frames(tmp_path):
    source = make(Clip(even(3), size=(1024, 512), options={"qp": "0"}), tmp_path / "large.mkv")
    image, _ = preview(source, tmp_path / "sheet.png", 0, 0.04)
    assert image.width == 2 * 2 * 288 + 3 * GAP
    assert image.height == 2 * (2 * 192 + LABEL + GAP)


@pytest.mark.parametrize(
    ("tags", "yuv", "rgb"),
    [
        ((6, 6, 6, 1), (81, 90, 240), (255, 0, 0)),
        ((1, 1, 1, 1), (63, 102, 240), (255, 0, 0)),
        ((1, 1, 1, 2), (54, 99, 255), (254, 0, 0)),
        ((1, 1, 1, 1), (126, 128, 128), (128, 128, 128)),
    ],
)
def test_preview_colours_equal_those_of_the_video(tags, yuv, rgb, tmp_path):
    source = flat(tmp_path / "flat.mkv", "yuv420p", tags, yuv)
    image, _ = preview(source, tmp_path / "out.png", 0)
    assert np.abs(image.pixels.astype(int) - rgb).max() <= 1
    assert image.metadata.cicp == ((6, 13) if tags[0] == 6 else None)


def flat(path, format, tags, codes):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, format
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = tags
        frame = av.VideoFrame(32, 32, format)
        for plane, code in zip(frame.planes, codes, strict=True):
            kind = np.uint16 if "10" in format else np.uint8
            plane.update(np.full(plane.buffer_size // kind().itemsize, code, kind).tobytes())
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_preview_has_16_bits_and_cicp_metadata(transfer, tmp_path):
    source = flat(tmp_path / "hdr.mkv", "yuv420p10le", (9, transfer, 9, 1), (502, 512, 512))
    image, _ = preview(source, tmp_path / "out.png", 0)
    assert image.metadata.cicp == (9, transfer)
    assert image.depth == 16
    grey = (502 - 64) / 876 * 65535
    assert np.abs(image.pixels - grey).max() <= 2
    job = plan_preview(source, tmp_path / "again.png", doubled, VideoSettings())
    assert any("the network was not trained on" in note for note in job.notes)
    with pytest.raises(OutputError, match="JPEG"):
        preview(source, tmp_path / "out.jpg", 0)
    assert not (tmp_path / "out.jpg").exists()


def test_frames_are_rotated_and_mirrored_as_displayed(tmp_path):
    plain = small(make(Clip(even(3)), tmp_path / "plain.mp4"), tmp_path / "plain.png", 0)
    for turns in range(4):
        for mirrored in (False, True):
            clip = Clip(even(3), rotation=90 * turns, mirrored=mirrored)
            name = f"{turns}{mirrored}"
            found = small(make(clip, tmp_path / f"{name}.mp4"), tmp_path / f"{name}.png", 0)
            rotated = np.rot90(plain, turns)
            np.testing.assert_array_equal(found, rotated[:, ::-1] if mirrored else rotated)


@pytest.mark.parametrize(
    ("shape", "size"), [(Fraction(16, 11), (186, 96)), (Fraction(1, 2), (128, 192))]
)
def test_preview_has_square_pixels(shape, size, tmp_path):
    source = make(Clip(even(3), sample_aspect=shape), tmp_path / "in.mp4")
    image, _ = preview(source, tmp_path / "out.png", 0.04)
    assert (image.width, image.height) == size
    assert number_in(image.pixels[..., 1]) == 1


def test_preview_is_deinterlaced_on_request(tmp_path):
    source = make_kind("interlaced", tmp_path)
    settings = VideoSettings(deinterlace=True)
    woven, _ = preview(source, tmp_path / "a.png", 0.2)
    whole, _ = preview(source, tmp_path / "b.png", 0.2, settings=settings)
    assert number_in(whole.pixels[..., 1]) == 5
    assert not np.array_equal(woven.pixels, whole.pixels)


@pytest.mark.parametrize("kind", ["grey", "rgb", "alpha", "odd"])
def test_every_kind_of_planes_has_a_preview(kind, tmp_path):
    image, _ = preview(make_kind(kind, tmp_path), tmp_path / "out.png", 0)
    assert image.pixels.shape[2] == 3 and image.alpha is None


def test_preview_of_a_lost_frame_shows_the_next_one(tmp_path):
    clip = Clip(even(20), options={"x264-params": "keyint=1:qp=0"}, sound=True)
    source = make(clip, tmp_path / "in.mp4")
    output = tmp_path / "out.png"
    job = plan_preview(source, output, doubled, VideoSettings(), [Fraction(10, 25)])
    content = bytearray(source.read_bytes())
    entry = content.index(b"stco", content.index(b"vide")) + 12 + 4 * 10
    content[entry : entry + 4] = b"\x7f\xff\xff\xff"
    source.write_bytes(content)
    report = run_preview(job, Doubling(), lambda *_: None)
    assert report.times == (11 / 25,)
    assert number_in(read_image(output).pixels[..., 1]) == 11


def test_invalid_previews_are_rejected_when_planning(tmp_path):
    source = make_kind("cfr", tmp_path)
    (tmp_path / "there.png").write_bytes(b"precious")
    for time in (1.2, 99):
        with pytest.raises(UsageError, match=r"--at .*ends at 0:01\.200"):
            preview(source, tmp_path / "out.png", 0, time)
    for name in ("there.png", "out.txt", "out", source.name):
        with pytest.raises(OutputError):
            preview(source, tmp_path / name, 0)
    with pytest.raises(VideoError):
        preview(tmp_path / "gone.mp4", tmp_path / "out.png", 0)
    with pytest.raises(VideoError, match="--start"):
        preview(source, tmp_path / "out.png", settings=VideoSettings(start=Fraction(9)))
    assert (tmp_path / "there.png").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cfr.mp4", "there.png"]


@pytest.mark.parametrize(
    ("output", "name"),
    [
        (None, "a/in_preview.png"),
        ("b/out.mp4", "b/out_preview.png"),
        ("b/out.MKV", "b/out_preview.png"),
        ("b/look.png", "b/look.png"),
        ("b/look.tiff", "b/look.tiff"),
    ],
)
def test_a_preview_is_named_after_the_video(output, name):
    assert preview_name(Path("a/in.mov"), output and Path(output)) == Path(name)


def test_preview_can_be_written_in_any_image_format(tmp_path):
    source = make_kind("cfr", tmp_path)
    preview(source, tmp_path / "out.webp", 0)
    preview(source, tmp_path / "out.tiff", 0)
    assert cv2.imread(str(tmp_path / "out.webp")).shape == (96, 128, 3)
