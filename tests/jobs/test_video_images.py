"""Numbered images as input and output of `upscale video`, as OpenCV and ffprobe read them."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from tests.jobs.test_video import Doubling, doubled
from tests.video.clips import Clip, even, make, make_kind
from tests.video.videos import ffprobe
from upscale.errors import OutputError, UsageError, VideoError
from upscale.jobs.video import VideoSettings, plan_video, run_video
from upscale.video.encoders import VideoEncoding
from upscale.video.probe import probe
from upscale.video.reader import read_frames

FILM = Fraction(24000, 1001)


def upscale(source, output, upscaler=None, size=doubled, encoding=None, **settings):
    job = plan_video(source, output, size, VideoSettings(encoding or VideoEncoding(), **settings))
    upscaler = upscaler or Doubling()
    return run_video(job, (upscaler,), {"model": "doubling"}, lambda *_: None, [].append)


def draw(folder, numbers, name="%04d.png", depth=np.uint16, channels=4, size=(12, 10)):
    """Write noise of a seed each; return it by number."""
    folder.mkdir(exist_ok=True)
    images = {}
    for number in numbers:
        noise = np.random.default_rng(number)
        shape = (size[1], size[0], channels)
        images[number] = noise.integers(0, np.iinfo(depth).max, shape, depth, endpoint=True)
        assert cv2.imwrite(str(folder / (name % number)), images[number])
    return images


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def twice(image):
    return image.repeat(2, 0).repeat(2, 1)


@pytest.mark.parametrize("source", ["frames", "frames/%04d.png", "frames/%d.png"])
def test_numbered_images_become_a_video_of_that_rate(source, tmp_path):
    name = "%d.png" if "%d" in source else "%04d.png"
    draw(tmp_path / "frames", range(9, 12), name)
    output = tmp_path / "out.mkv"
    report = upscale(
        tmp_path / source, output, encoding=VideoEncoding("ffv1"), fps=FILM, strict=True
    )
    assert (report.frames, report.notes) == (3, ())
    (stream,) = ffprobe(output, "-show_streams", "-count_frames")["streams"]
    assert (stream["width"], stream["pix_fmt"]) == (24, "gbrap16le")
    assert (stream["r_frame_rate"], stream["nb_read_frames"]) == ("24000/1001", "3")


def test_images_keep_numbers_depth_and_transparency(tmp_path):
    images = draw(tmp_path / "frames", range(1001, 1004))
    output = tmp_path / "large" / "shot_%05d.png"
    upscale(tmp_path / "frames", output, fps=Fraction(24), strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "large"]
    assert len(list(output.parent.iterdir())) == 3
    for number, image in images.items():
        written = read(output.parent / f"shot_{number:05}.png")
        assert np.array_equal(written, twice(image))
    part = tmp_path / "part" / "%d.tif"
    upscale(tmp_path / "frames", part, fps=Fraction(24), start=Fraction(1, 24), frames=1)
    assert [path.name for path in part.parent.iterdir()] == ["1002.tif"]
    assert np.array_equal(read(part.parent / "1002.tif"), twice(images[1002]))


def test_frames_of_a_video_are_counted_from_one(tmp_path):
    source = make(Clip(even(3), codec="ffv1", format="gbrp10le"), tmp_path / "in.nut")
    output = tmp_path / "out" / "%03d.png"
    upscale(source, output)
    frames = list(read_frames(probe(source)))
    for number, frame in enumerate(frames, 1):
        path = output.parent / f"{number:03}.png"
        assert ffprobe(path, "-show_streams")["streams"][0]["pix_fmt"] == "rgb48be"
        exact = np.rint(np.dstack(frame.planes[::-1]) / 1023 * 65535)
        assert np.abs(read(path) - twice(exact)).max() <= 1
    eight = tmp_path / "eight" / "%03d.jpg"
    report = upscale(source, eight, frames=1)
    assert "JPEG reduces the video from 10 to 8 bits" in report.notes
    assert read(eight.parent / "001.jpg").dtype == np.uint8


def test_images_are_turned_as_players_show_the_video(tmp_path):
    upscale(make_kind("rotated", tmp_path), tmp_path / "out" / "%d.png", frames=1)
    assert read(tmp_path / "out" / "1.png").shape == (128, 96, 3)


def test_what_images_cannot_hold_is_named_and_strict_refuses_it(tmp_path):
    source = make(Clip(even(2), sound=True, sample_aspect=Fraction(16, 11)), tmp_path / "in.mp4")
    report = upscale(source, tmp_path / "out" / "%d.png", frames=1)
    lost = "; ".join(report.notes)
    assert "stream 1 (audio aac und) is dropped; .png does not support it" in lost
    assert "--square-pixels" in lost and "25 frames per second" in lost
    with pytest.raises(OutputError, match="write a video, or leave out --strict"):
        upscale(source, tmp_path / "strict" / "%d.png", strict=True)
    assert not (tmp_path / "strict").exists()


def test_an_interrupted_run_leaves_no_image_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 2)
    images = draw(tmp_path / "frames", range(1, 6), depth=np.uint8, channels=3)
    output = tmp_path / "out" / "%04d.png"
    with pytest.raises(KeyboardInterrupt):
        upscale(
            tmp_path / "frames", output, Doubling(fail_at=4, error=KeyboardInterrupt()),
            fps=Fraction(25),
        )  # fmt: skip
    assert not (tmp_path / "out").exists()
    report = upscale(tmp_path / "frames", output, fps=Fraction(25))
    assert report.frames == 5 and report.resumed >= 2
    written = [read(path) for path in sorted(output.parent.iterdir())]
    assert all(map(np.array_equal, written, map(twice, images.values())))


def test_a_changed_image_is_noticed_when_a_run_resumes(tmp_path):
    draw(tmp_path / "frames", range(3))
    output = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale(
            tmp_path / "frames", output, Doubling(fail_at=2, error=KeyboardInterrupt()),
            fps=Fraction(25),
        )  # fmt: skip
    draw(tmp_path / "other", [7], "%04d.png")
    (tmp_path / "other" / "0007.png").rename(tmp_path / "frames" / "0001.png")
    with pytest.raises(OutputError, match="another source content"):
        upscale(tmp_path / "frames", output, fps=Fraction(25))


def gap(folder):
    (folder / "0002.png").unlink()


def other_kind(folder):
    draw(folder, [1], "mask_%d.png")


def unnumbered(folder):
    draw(folder, [1], "poster.png%.0s")


def pipe(folder):
    (folder / "0002.png").unlink()
    (folder / "0002.png").mkdir()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (gap, "0002.png is missing"),
        (other_kind, "images of several kinds"),
        (unnumbered, "has no number"),
        (pipe, "is not a regular file"),
    ],
)
def test_incomplete_sequences_are_refused(damage, message, tmp_path):
    draw(tmp_path / "frames", range(1, 4))
    damage(tmp_path / "frames")
    with pytest.raises(VideoError, match=message):
        upscale(tmp_path / "frames", tmp_path / "out.mkv", fps=Fraction(25))


def test_requests_that_sequences_do_not_allow_are_one_line(tmp_path):
    draw(tmp_path / "frames", range(1, 4))
    source = make(Clip(even(2)), tmp_path / "in.mp4")
    for arguments, settings, error, message in (
        ((tmp_path / "frames" / "%04d.png", tmp_path / "a.mkv"), {}, UsageError, "need --fps"),
        ((source, tmp_path / "a.mkv"), {"fps": FILM}, VideoError, "leave out --fps"),
        ((tmp_path / "frames", tmp_path / "frames" / "x%d.png"), {"fps": FILM}, OutputError,
         "folder of the input"),
        ((source, tmp_path / "frames" / "%04d.png"), {}, OutputError, "0001.png already exists"),
        ((source, tmp_path / "frames" / "%04d.png"), {"overwrite": True}, OutputError,
         "0003.png would stay among the new images"),
        ((source, tmp_path / "a" / "%d.png"), {"encoding": VideoEncoding("x264")}, UsageError,
         "no codec"),
        ((source, tmp_path / "a" / "%d.xyz"), {}, OutputError, "xyz"),
        ((tmp_path / "frames" / "%04d.exr", tmp_path / "a.mkv"), {"fps": FILM}, VideoError,
         "convert them to PNG"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            upscale(*arguments, **settings)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"frames", "in.mp4"}


def test_images_of_an_earlier_run_are_replaced_only_on_request(tmp_path):
    source = make(Clip(even(2)), tmp_path / "in.mp4")
    folder = tmp_path / "out"
    draw(folder, [1, 2], depth=np.uint8)
    (folder / "notes.txt").write_text("mine")
    upscale(source, folder / "%04d.png", overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["0001.png", "0002.png", "notes.txt"]
    assert read(folder / "0001.png").shape == (96, 128, 3)
