"""Frames that are blended with the ones before: see `upscale video --steady`."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest
import torch

from tests.jobs.test_video import LOSSLESS, decoded, doubled, upscale
from upscale.jobs.video import VideoSettings, plan_video
from upscale.jobs.video_frames import FrameOptions, FrameUpscaler
from upscale.video.info import Colour, FrameFormat, VideoFrame
from upscale.video.planes import plane_format
from upscale.video.reader import FrameReader
from upscale.video.segments import folder_for

COLOUR = Colour("bt709", full_range=True, primaries=1, transfer=1, space=1)
WIDTH, HEIGHT = 96, 72


@pytest.fixture(scope="module")
def kitten(data) -> np.ndarray:
    return cv2.imread(str(data / "photos" / "kitten.webp"), cv2.IMREAD_GRAYSCALE)


class Flickering:
    """Double the size, and add noise that differs from frame to frame, as networks do."""

    device = torch.device("cpu")

    def __init__(self, noise: float = 6 / 255, fail_at: int | None = None):
        self.runs = 0
        self._noise, self._fail_at = noise, fail_at

    def run_tensor(self, image, *, size=None):
        if self.runs == self._fail_at:
            raise KeyboardInterrupt
        self.runs += 1
        large = torch.nn.functional.interpolate(image, (size[1], size[0]), mode="bicubic")
        seed = int((image * 255).round().long().sum() * 7919 + (image[0, 0, :9] * 255).sum())
        noise = torch.randn(large.shape, generator=torch.Generator().manual_seed(seed))
        return (large + noise * self._noise).clamp(0, 1)

    def resolve_kernels(self, record=None):
        return record or {}

    def resolve_tile(self, width, height, tile=None):
        return 64 if tile is None else tile


def frames_of(images, *, pts=None) -> list[VideoFrame]:
    frames: list[VideoFrame] = []
    for number, image in enumerate(images):
        repeats = number > 0 and np.array_equal(image, images[number - 1])
        time = number if pts is None else pts[number]
        frames.append(VideoFrame(time, (np.ascontiguousarray(image),), repeats))
    return frames


def run(frames, steady: float, *, noise: float = 6 / 255, name="gray") -> list[np.ndarray]:
    formats = [
        FrameFormat(WIDTH * scale, HEIGHT * scale, plane_format(name), COLOUR) for scale in (1, 2)
    ]
    upscaler = FrameUpscaler(*formats, Flickering(noise), FrameOptions(steady=steady))
    return [
        upscaler.upscale(upscaler.load(frame, frame.pts - 1)).frame().planes[0].astype(int)
        for frame in frames
    ]


def pan(image, count: int, step=(2, 1)) -> list[np.ndarray]:
    return [
        image[200 + step[1] * n : 200 + step[1] * n + HEIGHT, 400 + step[0] * n :][:, :WIDTH]
        for n in range(count)
    ]


def flicker(frames, step=(2, 1)) -> float:
    """Return how much frames differ from the moved ones before them."""
    across, down = step[0] * 2, step[1] * 2
    differences = [
        now[: -2 * down, : -2 * across][8:-8, 8:-8] - before[down:-down, across:-across][8:-8, 8:-8]
        for before, now in pairwise(frames[1:])
    ]
    return float(np.mean(np.abs(differences)))


def test_a_pan_flickers_less(kitten):
    frames = frames_of(pan(kitten, 6))
    plain, steady, steadiest = (run(frames, strength) for strength in (0, 0.5, 1))
    assert flicker(plain) > 4
    assert flicker(steady) < 0.75 * flicker(plain)
    assert flicker(steadiest) < flicker(steady)


def test_detail_of_a_pan_and_of_a_still_scene_stays(kitten):
    rng = np.random.default_rng(0)
    for step in ((2, 1), (0, 0)):
        images = pan(kitten, 4, step)
        grain = [image + rng.integers(0, 2, image.shape).astype(np.uint8) for image in images]
        plain, steady = (run(frames_of(grain), strength, noise=0) for strength in (0, 0.5))
        sharp, blended = (
            np.std(cv2.Laplacian(frames[-1].astype(np.float32), cv2.CV_32F))
            for frames in (plain, steady)
        )
        assert blended > 0.93 * sharp
        assert np.abs(plain[-1] - steady[-1]).mean() < 1


def test_the_first_frame_of_a_scene_is_unchanged(kitten):
    images = [*pan(kitten, 3), *pan(kitten[300:, 100:], 3)]
    plain, steady = (run(frames_of(images), strength) for strength in (0, 1))
    assert np.array_equal(plain[0], steady[0])
    assert np.array_equal(plain[3], steady[3])
    assert not np.array_equal(plain[2], steady[2])
    assert not np.array_equal(plain[4], steady[4])


def test_a_moving_object_leaves_no_ghost(kitten):
    images = []
    for number in range(5):
        image = pan(kitten, 1)[0] // 2
        image[20:44, 10 + 6 * number : 34 + 6 * number] = kitten[500:524, 300:324] // 4 + 190
        images.append(image)
    plain, steady = (run(frames_of(images), strength, noise=0) for strength in (0, 1))
    for number in range(1, 5):
        left = (10 + 6 * (number - 1)) * 2
        uncovered = slice(42, 86), slice(left + 1, left + 10)
        assert np.abs(plain[number] - steady[number])[uncovered].mean() < 4
        assert np.abs(plain[number] - steady[number]).mean() < 1.5


def test_repeated_frames_stay_identical(kitten):
    first, second = pan(kitten, 2)
    results = run(frames_of([first, second, second, second]), 0.7)
    assert np.array_equal(results[1], results[2]) and np.array_equal(results[2], results[3])


def test_frames_are_blended_with_their_predecessor_only(kitten):
    images = pan(kitten, 3)
    plain, steady = (run(frames_of(images, pts=(0, 1, 3)), strength) for strength in (0, 1))
    assert not np.array_equal(plain[1], steady[1])
    assert np.array_equal(plain[2], steady[2])


@pytest.mark.parametrize("name", ["gray", "gray10le", "yuv420p", "yuva420p", "gbrp", "yuv444p12le"])
def test_planes_of_every_kind_get_steadier(name, kitten):
    planes = plane_format(name)
    frames = []
    for number, image in enumerate(pan(kitten, 5)):
        source = image.astype(np.uint16) << (planes.depth - 8) if planes.depth > 8 else image
        shapes = FrameFormat(WIDTH, HEIGHT, planes, COLOUR).plane_shapes()
        frames.append(
            VideoFrame(
                number,
                tuple(
                    np.ascontiguousarray(
                        source
                        if shape == source.shape and (planes.kind != "yuv" or plane != 1)
                        else np.full(shape, 1 << (planes.depth - 1), source.dtype)
                    )
                    for plane, shape in enumerate(shapes)
                ),
            )
        )
    plain, steady = (run(frames, strength, name=name) for strength in (0, 1))
    assert flicker(steady) < 0.75 * flicker(plain)


@pytest.fixture
def film(kitten, tmp_path):
    """A film of 22 frames: a pan with repeated frames, one at the start of a segment."""
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "gray"
        images = pan(kitten, 22)
        for number in range(22):
            shown = number - 1 if number in (4, 5, 13) else number
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(images[shown]), "gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


STEADY = VideoSettings(LOSSLESS, steady=0.5, keep_colour="on")


@pytest.mark.parametrize("fail_at", [3, 9, 14])
def test_a_resumed_film_is_identical(film, fail_at, tmp_path, monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 5)
    whole, output = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    upscale(film, whole, Flickering(), settings=STEADY)
    with pytest.raises(KeyboardInterrupt):
        upscale(film, output, Flickering(fail_at=fail_at), settings=STEADY)
    assert folder_for(output).is_dir()
    steps = []
    report = upscale(film, output, Flickering(), settings=STEADY, steps=steps)
    assert report.frames == 22 and steps[-1] == (22, 22)
    assert (report.resumed > 0) == (fail_at > 5)
    assert decoded(output) == decoded(whole)


def test_devices_that_share_a_film_give_the_same(film, tmp_path, monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 5)
    alone, shared = tmp_path / "alone.mkv", tmp_path / "shared.mkv"
    upscale(film, alone, Flickering(), settings=STEADY)
    upscale(film, shared, Flickering(), Flickering(), settings=STEADY)
    assert decoded(shared) == decoded(alone)


def test_a_lost_frame_before_a_segment_makes_no_difference(film, tmp_path, monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 5)
    lost = plan_video(film, tmp_path / "any.mkv", doubled, STEADY).times[9]

    class Losing(FrameReader):
        def __iter__(self):
            return (frame for frame in super().__iter__() if frame.pts != lost)

    monkeypatch.setattr("upscale.video.reader.FrameReader", Losing)
    whole, output = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    upscale(film, whole, Flickering(), settings=STEADY)
    with pytest.raises(KeyboardInterrupt):
        upscale(film, output, Flickering(fail_at=10), settings=STEADY)
    report = upscale(film, output, Flickering(), settings=STEADY)
    assert report.resumed == 10  # with the lost one
    assert decoded(output) == decoded(whole)


def test_without_steadiness_nothing_is_computed_twice(film, tmp_path, monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 5)
    settings = VideoSettings(LOSSLESS, keep_colour="off", start=Fraction(0))
    both = Flickering(), Flickering()
    report = upscale(film, tmp_path / "out.mkv", *both, settings=settings)
    assert report.computed == both[0].runs + both[1].runs <= 22
